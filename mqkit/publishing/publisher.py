"""The publisher: publishes one message or many, and requests, and waits for the confirms.

A publish's way is three files: here it is checked and made a message; `sender` writes it and waits
for its verdict until its deadline; `confirms` matches the broker's verdicts to what was written.
Where it must wait before, or be written again, `resend` and `channel` come between the last two.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping
from datetime import datetime
from typing import Any, Self, TypeVar, Unpack, overload

from mqkit.broker.connection import Connection
from mqkit.checks import checked
from mqkit.checks.checked import Seconds
from mqkit.clock import Clock, utc_now
from mqkit.drivers.base import Driver, Incoming
from mqkit.hooks.tracing import MessageTracing, checked_tracing
from mqkit.limits import DEFAULT_LIMITS, Limits, checked_limits
from mqkit.message import HeaderValue, Message, maker
from mqkit.publishing.exchanges import Exchanges
from mqkit.publishing.lifetime import CLOSE_TIMEOUT, Lifetime, Options, wait_for_all
from mqkit.publishing.outgoing import MessageIds, Outgoing, RequestOptions, destination, to_message
from mqkit.publishing.pipeline import (
    OnConfirmed,
    PublishPipeline,
    PublishResult,
    publish_each,
    teller,
    told,
)
from mqkit.publishing.replies import ReplyDecoders, read_reply
from mqkit.publishing.requests import Requester
from mqkit.publishing.sender import Sender
from mqkit.publishing.window import DEFAULT_TIMEOUT, DEFAULT_WINDOW
from mqkit.settings import BrokerUrl
from mqkit.system.machine import MACHINE, Machine
from mqkit.topology import Exchange, Queue, Source

_outgoing = maker(Outgoing)

T = TypeVar("T")


class Publisher:
    """Publishes with confirms, for any asyncio application; a handler asks for it by annotation.

        async with Publisher("amqp://user:password@host/vhost") as publisher:
            await publisher.publish(orders, "order.accepted", order)

    Any number of tasks share one. `open` and the context manager connect at once. Without them the
    first publish connects, within its own deadline, so that an application starts while the broker
    is away. A lost connection is opened again, and what is unconfirmed is published again under the
    same `message_id` until its deadline. `close`, or leaving the block, ends it for good.

    Messages are persistent and mandatory unless stated otherwise. It belongs to the event loop that
    it is first used on. A publishing connection carries nothing else: an alarm of the broker stops
    all that it says, acks too.

    :param url: the broker, as `BrokerUrl.parse` takes it
    :param name: what the connection is called in the broker's list; by default the `app_id`, or
        'mqkit.publisher'
    :param driver: 'pika' or 'aio-pika', or what `mqkit.drivers.named` returns
    :param app_id: the property of that name of each message
    :param timeout: seconds in which a publish must be confirmed that says no other
    :param window: how many messages may wait for their confirm at a time
    :param limits: what a message may have to be published (`mqkit.limits.Limits`)
    :param on_confirmed: an observer: see `OnConfirmed`
    :param tracing: makes spans of what is published (`mqkit.observability.tracing.Tracing`)
    :param clock: gives timestamps; it and `machine`, which gives ids, are for simulations
    :raises BrokerUrlError: the URL is malformed
    :raises OptionError: another option cannot be what it was given
    :raises ConfigurationError: there is no such driver
    """

    __mqkit_runtime_provided__ = True
    __mqkit_asynchronous__ = True

    def __init__(
        self,
        url: str | BrokerUrl,
        *,
        name: str | None = None,
        driver: Driver | str | None = None,
        app_id: str | None = None,
        timeout: Seconds = DEFAULT_TIMEOUT,
        window: int = DEFAULT_WINDOW,
        limits: Limits = DEFAULT_LIMITS,
        on_confirmed: OnConfirmed | None = None,
        tracing: MessageTracing | None = None,
        clock: Clock = utc_now,
        machine: Machine = MACHINE,
    ) -> None:
        self._set_up(
            Lifetime.with_url(url, name, driver, app_id),
            app_id=app_id,
            timeout=timeout,
            window=window,
            limits=limits,
            on_confirmed=on_confirmed,
            tracing=tracing,
            clock=clock,
            machine=machine,
        )

    @classmethod
    def on(cls, connection: Connection, **options: Unpack[Options]) -> Self:
        """Make the publisher of a connection that somebody else opens and closes: a runtime."""
        publisher = cls.__new__(cls)
        publisher._set_up(Lifetime.with_connection(connection), **options)  # noqa: SLF001
        return publisher

    def _set_up(self, lifetime: Lifetime, **options: Unpack[Options]) -> None:
        timeout = options.get("timeout", DEFAULT_TIMEOUT)
        self._timeout = checked.seconds(timeout, "Publisher(timeout=...)", over=0)
        window = checked.count(options.get("window", DEFAULT_WINDOW), "Publisher(window=...)")
        limits = options.get("limits", DEFAULT_LIMITS)
        self._limits = checked_limits(limits, "Publisher(limits=...)")
        self._app_id = options.get("app_id")
        if self._app_id is not None:
            checked.name(self._app_id, "Publisher(app_id=...)")
        self._tracing = checked_tracing(options.get("tracing"), "Publisher(tracing=...)")
        self._tell = teller(options.get("on_confirmed"), "Publisher(on_confirmed=...)")
        self._on_ended = options.get("on_ended")
        self._lifetime = lifetime
        self._exchanges = Exchanges(options.get("check_exchange"))
        self._clock = clock = options.get("clock", utc_now)
        connection = lifetime.connection
        self._sender = Sender(connection, self._exchanges, window=window, clock=clock)
        self.new_id = MessageIds(options.get("machine", MACHINE).random_bytes)
        self._requester = Requester(
            connection, self._exchanges, self.new_id, self._tell, self._on_ended, window=window
        )
        self._decoders = ReplyDecoders()

    def __repr__(self) -> str:
        return f"Publisher({self._lifetime.about})"

    async def open(self, timeout: Seconds | None = None) -> None:  # noqa: ASYNC109
        """Connect now, and return once it is connected.

        `timeout` is in seconds, the publisher's own (30) by default. Without `open`, and after one
        that failed by its timeout, the first publish waits for the connection.

        :raises AuthenticationError: the broker refused the user name and password
        :raises VirtualHostError: the broker refused the virtual host
        :raises ConnectError: there is no connection within the timeout; the text says why
        :raises ConfigurationError: it was closed, it is a service's own, or it is used on another
            event loop
        """
        await self._lifetime.open(self._seconds(timeout))

    async def close(self, timeout: Seconds = CLOSE_TIMEOUT) -> None:  # noqa: ASYNC109
        """Refuse further publishes and requests, await those in flight, and disconnect.

        Those have `timeout` seconds (3) to end. A publish that has no confirm then gets
        `PublisherClosedError`, whose `may_be_stored` says whether it was written, and a request
        without its reply `ReplyLostError`. May be called twice.

        :raises OptionError: the timeout is none
        :raises ConfigurationError: it is used on another event loop
        """
        seconds = checked.seconds(timeout, "close(timeout=...)")
        self._lifetime.end()
        if seconds:
            await wait_for_all((self._sender.idle(), self._requester.idle()), seconds)
        await asyncio.gather(
            self._sender.close(), self._requester.close(), self._lifetime.disconnect()
        )

    async def __aenter__(self) -> Self:
        try:
            await self.open()
        except BaseException:
            await self.close(timeout=0)
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def publish(
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
        timeout: Seconds | None = None,  # noqa: ASYNC109 - covers publishing again, not one await
    ) -> str:
        """Publish one message and return its `message_id` once the broker has confirmed it.

        An `Exchange` is declared before the first message to it, unless it says `declare=False`; an
        exchange that is given by its name must be there. `mandatory` is by default as the
        `Exchange` says. `timeout` is in seconds, 30 by default. `expiration` is in seconds: so long
        it may wait in a queue. With `delay` or `at` it is held until then. See `Outgoing`.

        :raises InvalidMessageError: it cannot be encoded, or is over a limit; nothing was written
        :raises OptionError: the timeout is none; nothing was written
        :raises ConfigurationError: its service says what it publishes to (`publishes`), and this
            exchange is not among it; or this is another event loop; nothing was written
        :raises UnroutableError: no queue is bound for the routing key, and it is mandatory
        :raises ExchangeNotFoundError: there is no such exchange
        :raises ExchangeMismatchError: the exchange is declared otherwise; nothing was written
        :raises PublishRefusedError: the broker refused it (permissions, size)
        :raises NackedError: a queue refused it; it may be stored
        :raises BlockedError: the broker blocks publishers until the timeout; nothing was written
        :raises PublishTimeoutError: no confirm within the timeout; it may be stored
        :raises ConnectionLostError: no connection at the timeout; see its `may_be_stored`
        :raises PublisherClosedError: `close` was called, or the service ended, before it was
            confirmed; see its `may_be_stored`
        :raises AuthenticationError: the first connection's credentials were refused
        :raises VirtualHostError: the first connection's virtual host was refused
        """
        outgoing = _outgoing(
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
        message = self._to_message(outgoing)
        sending = self._sender.send(message, self._seconds(timeout))
        if self._tracing is None:
            await told(message, sending, self._tell, self._on_ended)
            return message.properties.message_id or ""
        with self._tracing.publishing(message):
            await told(message, sending, self._tell, self._on_ended)
        return message.properties.message_id or ""

    async def send(
        self,
        message: Message,
        *,
        timeout: Seconds | None = None,  # noqa: ASYNC109
        declare: Exchange | None = None,
    ) -> None:
        """Publish a message that is ready to be written; raises as `publish` does.

        `declare` is its exchange, which is declared so where the broker does not have it.

        It is written as it is, without a span. The publisher's limits are not for it: the copy of
        a message that is over them, on its way to the dead letters, must be written all the same.
        """
        if asyncio.get_running_loop() is not self._lifetime.usable_on:
            self._lifetime.check(message)
        seconds = self._seconds(timeout)
        if declare is None:
            sending = self._sender.send(message, seconds)
        else:
            sending = self._sender.send_declaring(message, seconds, declare)
        await told(message, sending, self._tell, self._on_ended)

    @overload
    async def request(
        self,
        route: Source | Queue,
        body: object,
        reply_type: type[T],
        **options: Unpack[RequestOptions],
    ) -> T: ...

    @overload
    async def request(
        self,
        route: Source | Queue,
        body: object,
        reply_type: Any,
        **options: Unpack[RequestOptions],
    ) -> Any: ...

    async def request(
        self,
        route: Source | Queue,
        body: object,
        reply_type: Any,
        *,
        timeout: Seconds | None = None,  # noqa: ASYNC109 - from the call to the reply
        message_id: str | None = None,
        headers: Mapping[str, HeaderValue] | None = None,
        type: str | None = None,  # noqa: A002 - the property's name
        expiration: Seconds | None = None,
        priority: int | None = None,
        persistent: bool = True,
    ) -> Any:
        """Publish a request and return what its handler returned, as `reply_type`.

        `route` is `Exchange.key("...")`, or a queue. Many requests may be in flight at once. While
        the handler's policy retries, the caller waits, up to `timeout` seconds (30 by default).
        Where several queues get the request, the first reply counts. Unlike a message, a request
        is written once: where its reply is lost, ask again under the same `message_id`.

        :raises RequestRejectedError: the handler rejected it
        :raises RequestFailedError: it was dead-lettered for another reason
        :raises RequestTimeoutError: no reply within the timeout; it may be handled yet
        :raises ReplyLostError: the channel closed before the reply came; it may have been handled
        :raises DecodeError: the reply is no `reply_type`; the request was handled
        :raises ConfigurationError: pydantic cannot validate `reply_type`, the timeout is none, or
            as `publish`; nothing was written
        :raises PublishError: as `publish`: it is unroutable, refused, blocked, not confirmed
        :raises InvalidMessageError: as `publish`
        """
        seconds = self._seconds(timeout)
        decoder = self._decoders.of(reply_type)
        exchange, routing_key = destination(route)
        outgoing = _outgoing(
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
            reply = await self._requester.ask(request, seconds)
            return read_reply(reply.body, reply.properties, decoder, request)
        with self._tracing.publishing(request) as span:
            reply = await self._requester.ask(request, seconds)
            span.replied(reply.properties.headers)
            return read_reply(reply.body, reply.properties, decoder, request)

    async def ask(self, request: Message, seconds: float) -> Incoming:
        """Publish a request that is ready to be written, and return its reply as it came."""
        self._lifetime.check(request)
        return await self._requester.ask(request, seconds)

    def _seconds(self, timeout: Seconds | None) -> float:
        if timeout is None:
            return self._timeout
        return checked.seconds(timeout, "timeout", over=0)

    def _to_message(self, outgoing: Outgoing) -> Message:
        message = to_message(
            outgoing, self._app_id, limits=self._limits, new_id=self.new_id, clock=self._clock
        )
        if asyncio.get_running_loop() is not self._lifetime.usable_on:
            self._lifetime.check(message)
        exchange, given = outgoing.exchange, self._exchanges.given
        if isinstance(exchange, Exchange) and given.get(exchange.name) is not exchange:
            self._exchanges.note(exchange)
        return message

    def note(self, exchange: Exchange | str) -> None:
        """Note an exchange, as `publish` does, for messages to it that are ready to be written."""
        if isinstance(exchange, Exchange):
            self._exchanges.note(exchange)

    def publish_many(
        self,
        messages: Iterable[Outgoing] | AsyncIterable[Outgoing],
        *,
        window: int = 500,
        timeout: Seconds | None = None,
    ) -> AsyncIterator[PublishResult]:
        """Publish many, at most `window` unconfirmed at a time; results come as they are known.

        The input is read as fast as the broker confirms, and never held whole. A message that
        fails does not stop the others: its result carries the error, also where it cannot be
        encoded, or is no `Outgoing`. Messages to one exchange are written in the order of the
        input; where a connection is lost, those that are unconfirmed are written again, in their
        order, before later ones. `timeout` is for each message, from its own start.

        What the input itself raises, an `Exception`, ends it: it is raised here once all that it
        gave before has its result.

        :raises OptionError: at the call: an option cannot be what it was given
        """
        pipeline = self.pipeline(self._seconds(timeout))
        window = checked.count(window, "publish_many(window=...)")
        return publish_each(pipeline, messages, window, self._to_message)

    def pipeline(self, seconds: float) -> PublishPipeline:
        """Make what publishes many, for who begins each and takes the results by himself."""
        return PublishPipeline(self._sender, self._tell, seconds, self._on_ended, self._tracing)
