"""The publisher for synchronous code: a Django or Flask view, a script, a `def` handler.

A caller's thread encodes its message, hands it to a `Publisher` on an event loop in a daemon
thread (`background`), and waits for the result. So any number of callers share one connection, the
confirms of all of them are on their way at once, and whatever holds for the `Publisher` (deadlines,
alarms, what is written again) holds here.
"""

from __future__ import annotations

import os
import sys
import weakref
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import nullcontext
from datetime import datetime
from types import TracebackType
from typing import Any, Self, TypeVar, overload

from mqkit import drivers
from mqkit.blocking.background import Background, BackgroundEndedError, NoThreadError
from mqkit.blocking.failures import publish_failure
from mqkit.blocking.many import ManyPublishes
from mqkit.checks import checked
from mqkit.checks.checked import Seconds
from mqkit.drivers.base import Driver
from mqkit.drivers.frames import check_writable
from mqkit.errors import OptionError
from mqkit.hooks.tracing import MessageTracing, checked_tracing
from mqkit.limits import DEFAULT_LIMITS, Limits, checked_limits
from mqkit.message import HeaderValue, Message
from mqkit.publishing.outgoing import Outgoing, destination, to_message
from mqkit.publishing.pipeline import PublishResult
from mqkit.publishing.publisher import Publisher
from mqkit.publishing.replies import ReplyDecoders, read_reply
from mqkit.publishing.window import DEFAULT_TIMEOUT
from mqkit.settings import BrokerUrl
from mqkit.topology import Exchange, Queue, Source

T = TypeVar("T")

CLOSE_TIMEOUT = 3.0
"""Seconds that `close` waits for publishes in flight, and for the connections to be closed."""


class BlockingPublisher:
    """Publishes with confirms from any thread; `publish` returns when the broker has the message.

        with BlockingPublisher("amqp://user:password@host/vhost") as publisher:
            publisher.publish(orders, "order.accepted", order)

    Nothing is opened before the first publish, and nothing is shared over a fork: a child process
    opens connections of its own and leaves its parent's alone. A publisher that nobody closed
    does not keep the interpreter from exiting.

    A process has one connection, in a daemon thread, whatever number of threads publish. In a
    coroutine its methods work, and hold up the event loop meanwhile: use a `Publisher` there.

    :param url: the broker, as `BrokerUrl.parse` takes it
    :param timeout: seconds in which a publish must be confirmed, publishing it again included
    :param app_id: the property of that name of each message
    :param name: what the connection is called in the broker's list
    :param driver: 'pika' or 'aio-pika', or what `mqkit.drivers.named` returns
    :param limits: what a message may have to be published
    :param tracing: makes spans of what is published (`mqkit.observability.tracing.Tracing`)
    :raises BrokerUrlError: the URL is malformed
    :raises OptionError: another option cannot be what it was given
    :raises ConfigurationError: there is no such driver
    """

    def __init__(
        self,
        url: str | BrokerUrl,
        *,
        app_id: str | None = None,
        timeout: Seconds = DEFAULT_TIMEOUT,
        name: str = "mqkit.blocking.publisher",
        driver: Driver | str | None = None,
        limits: Limits = DEFAULT_LIMITS,
        tracing: MessageTracing | None = None,
    ) -> None:
        self._url = url if isinstance(url, BrokerUrl) else BrokerUrl.parse(url)
        self._app_id = app_id
        if app_id is not None:
            checked.name(app_id, "BlockingPublisher(app_id=...)")
        self._limits = checked_limits(limits, "BlockingPublisher(limits=...)")
        self._tracing = checked_tracing(tracing, "BlockingPublisher(tracing=...)")
        self._timeout = checked.seconds(timeout, "BlockingPublisher(timeout=...)", over=0)
        self._name = checked.name(name, "BlockingPublisher(name=...)")
        # Now, for it imports a library: too late in a `__del__` at the interpreter's end.
        self._driver = drivers.given(driver, "BlockingPublisher")
        self._decoders = ReplyDecoders()
        self._closed = False
        # By process id; `setdefault` is one step for all threads of a child, and a lock that
        # another thread held during the fork could never be taken there. What belongs to the
        # parent stays referenced, so that no destructor in the child touches its sockets.
        self._backgrounds: dict[int, Background] = {}
        weakref.finalize(self, _abandon, self._backgrounds).atexit = False

    def __repr__(self) -> str:
        return f"BlockingPublisher({str(self._url)!r}, name={self._name!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def publish(
        self,
        exchange: Exchange | str,
        routing_key: str,
        body: object,
        *,
        message_id: str | None = None,
        headers: Mapping[str, HeaderValue] | None = None,
        correlation_id: str | None = None,
        reply_to: str | None = None,
        type: str | None = None,  # noqa: A002 - the property's name
        expiration: Seconds | None = None,
        priority: int | None = None,
        persistent: bool = True,
        mandatory: bool | None = None,
        delay: Seconds | None = None,
        at: datetime | None = None,
        timeout: Seconds | None = None,
    ) -> str:
        """Publish one message and return its `message_id` once the broker has confirmed it.

        An `Exchange` is declared before the first message to it, unless it says `declare=False`; an
        exchange that is given by its name must be there. `mandatory` is by default as the
        `Exchange` says. `timeout` is in seconds, 30 by default; it holds whatever the network does.
        `expiration` is in seconds: so long it may wait in a queue. `message_id` is a random one
        where it is None. With `delay` or `at` the broker has it now and publishes it later, for
        good. See `Outgoing`.

        :raises InvalidMessageError: it cannot be encoded, or is over a limit; nothing was written
        :raises OptionError: the timeout is none; nothing was written
        :raises UnroutableError: no queue is bound for the routing key, and it is mandatory
        :raises ExchangeNotFoundError: there is no such exchange
        :raises ExchangeMismatchError: the exchange is declared otherwise; nothing was written
        :raises PublishRefusedError: the broker refused it (permissions, size)
        :raises NackedError: a queue refused it; it may be stored
        :raises BlockedError: the broker blocks publishers until the timeout; nothing was written
        :raises PublishTimeoutError: no confirm within the timeout; it may be stored
        :raises ConnectionLostError: no connection at the timeout; see its `may_be_stored`
        :raises PublisherClosedError: `close` was called before it was confirmed, or the interpreter
            is at its end; see its `may_be_stored`
        :raises AuthenticationError: the first connection's credentials were refused
        :raises VirtualHostError: the first connection's virtual host was refused
        :raises ConfigurationError: a logging handler publishes what the publisher itself logs
        """
        outgoing = Outgoing(
            exchange=exchange,
            routing_key=routing_key,
            body=body,
            message_id=message_id,
            headers=headers,
            correlation_id=correlation_id,
            reply_to=reply_to,
            type=type,
            expiration=expiration,
            priority=priority,
            persistent=persistent,
            mandatory=mandatory,
            delay=delay,
            at=at,
        )
        seconds = self._seconds(timeout)
        message = self._to_message(outgoing)
        # Here, too: what runs now in this thread is what the publish is a part of.
        with nullcontext() if self._tracing is None else self._tracing.publishing(message):
            self._run(message, exchange, lambda publisher: publisher.send(message, timeout=seconds))
        return message.properties.message_id or ""

    def send(self, message: Message, *, timeout: Seconds | None = None) -> None:
        """Publish a message that is ready to be written; raises as `publish` does.

        The publisher's limits are not for it.
        """
        seconds = self._seconds(timeout)
        check_writable(message)
        exchange = message.exchange
        self._run(message, exchange, lambda publisher: publisher.send(message, timeout=seconds))

    @overload
    def request(
        self,
        route: Source | Queue,
        body: object,
        reply_type: type[T],
        *,
        timeout: Seconds | None = None,
        message_id: str | None = None,
        headers: Mapping[str, HeaderValue] | None = None,
        type: str | None = None,
        expiration: Seconds | None = None,
        priority: int | None = None,
        persistent: bool = True,
    ) -> T: ...

    @overload
    def request(
        self,
        route: Source | Queue,
        body: object,
        reply_type: Any,
        *,
        timeout: Seconds | None = None,
        message_id: str | None = None,
        headers: Mapping[str, HeaderValue] | None = None,
        type: str | None = None,
        expiration: Seconds | None = None,
        priority: int | None = None,
        persistent: bool = True,
    ) -> Any: ...

    def request(
        self,
        route: Source | Queue,
        body: object,
        reply_type: Any,
        *,
        timeout: Seconds | None = None,
        message_id: str | None = None,
        headers: Mapping[str, HeaderValue] | None = None,
        type: str | None = None,  # noqa: A002 - the property's name
        expiration: Seconds | None = None,
        priority: int | None = None,
        persistent: bool = True,
    ) -> Any:
        """Publish a request and return what its handler returned, as `reply_type`.

        It promises what `Publisher.request` does, and raises the same, also as `publish` does.
        Requests of many threads are in flight at once.
        """
        seconds = self._seconds(timeout)
        decoder = self._decoders.of(reply_type)
        exchange, routing_key = destination(route)
        outgoing = Outgoing(
            exchange=exchange,
            routing_key=routing_key,
            body=body,
            message_id=message_id,
            headers=headers,
            type=type,
            expiration=expiration,
            priority=priority,
            persistent=persistent,
        )
        request = self._to_message(outgoing)
        if self._tracing is None:
            reply = self._run(request, exchange, lambda publisher: publisher.ask(request, seconds))
            return read_reply(reply.body, reply.properties, decoder, request)
        with self._tracing.publishing(request) as span:
            reply = self._run(request, exchange, lambda publisher: publisher.ask(request, seconds))
            span.replied(reply.properties.headers)
            return read_reply(reply.body, reply.properties, decoder, request)

    def publish_many(
        self, messages: Iterable[Outgoing], *, window: int = 500, timeout: Seconds | None = None
    ) -> Iterator[PublishResult]:
        """Publish many, at most `window` unconfirmed at a time; results come as they are known.

        It promises what `Publisher.publish_many` does: the input is read as fast as the broker
        confirms, a message that fails does not stop the others, and messages to one exchange are
        written in the order of the input. The input is read in the thread that asks for the
        results, and nothing happens before it asks for the first one. Where it stops asking, what
        has no result yet may or may not be published.

        :raises OptionError: at the call: an option cannot be what it was given
        """
        seconds = self._seconds(timeout)
        window = checked.count(window, "publish_many(window=...)")
        if not isinstance(messages, Iterable):
            raise OptionError(
                f"publish_many takes an iterable of Outgoing, not {checked.shown(messages)}"
            )
        return self._publish_many(messages, window, seconds)

    def _publish_many(
        self, messages: Iterable[Outgoing], window: int, seconds: float
    ) -> Iterator[PublishResult]:
        many = ManyPublishes(self._background(), seconds, self._to_message, self._tracing)
        yield from many.publish(messages, window)

    def close(self) -> None:
        """Refuse further publishes and requests, await those in flight, and disconnect.

        Those have 3 s to end. A publish that has no confirm then gets `PublisherClosedError` in its
        own thread, and a request `ReplyLostError`. It is this process that closes: a forked child
        and its parent each do so for themselves. May be called twice, and from any thread.
        """
        self._closed = True
        background = self._backgrounds.get(os.getpid())
        if background is not None and not sys.is_finalizing():
            background.close(CLOSE_TIMEOUT)

    def _seconds(self, timeout: Seconds | None) -> float:
        if timeout is None:
            return self._timeout
        return checked.seconds(timeout, "timeout", over=0)

    def _to_message(self, outgoing: Outgoing) -> Message:
        # Here, in the caller's thread: what encodes a body may depend on it (a translation, a
        # database's connection).
        message = to_message(outgoing, self._app_id, limits=self._limits)
        if not sys.is_finalizing():  # where it is not written, and Python 3.13.0 crashes over it
            check_writable(message)
        return message

    def _run(
        self,
        message: Message,
        exchange: Exchange | str,
        make: Callable[[Publisher], Coroutine[Any, Any, T]],
    ) -> T:
        """Run what publishes a message on the event loop, and wait for its result."""
        background = self._background()

        async def work() -> T:
            background.publisher.note(exchange)
            return await make(background.publisher)

        try:
            return background.run(work)
        except (BackgroundEndedError, NoThreadError) as why:
            raise publish_failure(message, why) from None

    def _background(self) -> Background:
        process = os.getpid()
        background = self._backgrounds.get(process)
        if background is None:
            publisher = Publisher(
                self._url,
                name=self._name,
                driver=self._driver,
                app_id=self._app_id,
                timeout=self._timeout,
                limits=self._limits,
            )
            fresh = Background(self._name, publisher)
            background = self._backgrounds.setdefault(process, fresh)
        if self._closed or sys.is_finalizing():
            # At the interpreter's end threads do not run any more: a publish would wait for ever.
            background.refuse()
        return background


def _abandon(backgrounds: dict[int, Background]) -> None:
    """Let the thread of a publisher end that was dropped unclosed."""
    background = backgrounds.get(os.getpid())
    if background is not None:
        background.abandon()
