"""The publisher: publishes one message or many, and requests, and waits for the confirms.

A publish's way is three files: here it is checked and made a message; `sender` writes it and waits
for its verdict until its deadline; `confirms` matches the broker's verdicts to what was written.
Where it must wait before, or be written again, `resend` and `channel` come between the last two.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping
from typing import Any, TypeVar, overload

from mqkit.broker.connection import Connection
from mqkit.checks import checked
from mqkit.checks.checked import Seconds
from mqkit.codec import BodyDecoder, PydanticUserError
from mqkit.errors import ConfigurationError, InvalidMessageError, OptionError
from mqkit.limits import DEFAULT_LIMITS, Limits, checked_limits
from mqkit.logging.error_reports import log_error
from mqkit.message import HeaderValue, Message, maker
from mqkit.publishing.outgoing import MessageIds, Outgoing, to_message
from mqkit.publishing.pipeline import OnConfirmed, PublishPipeline, PublishResult
from mqkit.publishing.replies import read_reply
from mqkit.publishing.requests import Requester
from mqkit.publishing.sender import Sender
from mqkit.topology import Exchange, Queue, Source

logger = logging.getLogger(__name__)

_outgoing = maker(Outgoing)

DEFAULT_TIMEOUT = 30.0
"""Seconds in which a publish must be confirmed, publishing it again included."""

DEFAULT_WINDOW = 1000
"""Publishes that may wait for their confirm at the same time, on one publisher."""

REPLY_TYPES = 128
"""Types of replies whose validators are kept for the next request."""

T = TypeVar("T")


class Publisher:
    """Publishes with confirms. A handler asks for one by annotation.

    A service that opens its connections itself has one for publishing alone: an alarm stops all
    that a publishing connection says, and so would hold up the acks.

    Messages are persistent and mandatory unless stated otherwise. When the connection is lost,
    unconfirmed messages are published again under the same `message_id` until their deadline.

    `timeout` is the seconds in which a publish must be confirmed that says no other, and `window`
    how many may wait for their confirm at a time. `limits` is what a message may have to be
    published (`mqkit.limits.Limits`). `on_confirmed` is an observer: see `OnConfirmed`.

    :raises OptionError: an option cannot be what it was given
    """

    __mqkit_runtime_provided__ = True
    __mqkit_asynchronous__ = True

    def __init__(
        self,
        connection: Connection,
        *,
        app_id: str | None = None,
        timeout: Seconds = DEFAULT_TIMEOUT,
        window: int = DEFAULT_WINDOW,
        on_confirmed: OnConfirmed | None = None,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        self._timeout = checked.seconds(timeout, "Publisher(timeout=...)", over=0)
        self._limits = checked_limits(limits, "Publisher(limits=...)")
        self._app_id = app_id
        if app_id is not None:
            checked.name(app_id, "Publisher(app_id=...)")
        if on_confirmed is not None and not callable(on_confirmed):
            raise OptionError(
                "Publisher(on_confirmed=...) takes a function of a message, "
                f"not {checked.shown(on_confirmed)}"
            )
        self._on_confirmed = on_confirmed
        window = checked.count(window, "Publisher(window=...)")
        self._sender = Sender(connection, window=window)
        self._requester = Requester(connection, window=window, on_confirmed=self._tell)
        self._decoder = functools.lru_cache(REPLY_TYPES)(_decoder)
        self._new_id = MessageIds()

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
        mandatory: bool = True,
        timeout: Seconds | None = None,  # noqa: ASYNC109 - covers publishing again, not one await
    ) -> str:
        """Publish one message and return its `message_id` once the broker has confirmed it.

        `timeout` is in seconds, 30 by default. `expiration` is in seconds: so long it may wait in
        a queue. `message_id` is a random one where it is None. See `Outgoing`.

        :raises InvalidMessageError: it cannot be encoded, or is over a limit; nothing was written
        :raises OptionError: the timeout is none; nothing was written
        :raises UnroutableError: no queue is bound for the routing key
        :raises ExchangeNotFoundError: there is no such exchange
        :raises PublishRefusedError: the broker refused it (permissions, size)
        :raises NackedError: a queue refused it; it may be stored
        :raises BlockedError: the broker blocks publishers until the timeout; nothing was written
        :raises PublishTimeoutError: no confirm within the timeout; it may be stored
        :raises ConnectionLostError: no connection at the timeout; see its `may_be_stored`
        :raises PublisherClosedError: `close` was called, or the service ended, before it was
            confirmed; see its `may_be_stored`
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
        )
        message = self._to_message(outgoing)
        await self.send(message, timeout=timeout)
        return message.properties.message_id or ""

    async def send(self, message: Message, *, timeout: Seconds | None = None) -> None:  # noqa: ASYNC109
        """Publish a message that is ready to be written; raises as `publish` does.

        The publisher's limits are not for it: the copy of a message that is over them, on its way
        to the dead letters, must be written all the same.
        """
        await self._sender.send(message, self._seconds(timeout))
        self._tell(message)

    @overload
    async def request(
        self,
        route: Source | Queue,
        body: object,
        reply_type: type[T],
        *,
        timeout: Seconds | None = None,  # noqa: ASYNC109
        message_id: str | None = None,
        headers: Mapping[str, HeaderValue] | None = None,
        type: str | None = None,
        expiration: Seconds | None = None,
        priority: int | None = None,
        persistent: bool = True,
    ) -> T: ...

    @overload
    async def request(
        self,
        route: Source | Queue,
        body: object,
        reply_type: Any,
        *,
        timeout: Seconds | None = None,  # noqa: ASYNC109
        message_id: str | None = None,
        headers: Mapping[str, HeaderValue] | None = None,
        type: str | None = None,
        expiration: Seconds | None = None,
        priority: int | None = None,
        persistent: bool = True,
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
        :raises ConfigurationError: pydantic cannot validate `reply_type`, or the timeout is none;
            nothing was written
        :raises PublishError: as `publish`: it is unroutable, refused, blocked, not confirmed
        :raises InvalidMessageError: as `publish`
        """
        seconds = self._seconds(timeout)
        decoder = self._decoder_of(reply_type)
        exchange, routing_key = _destination(route)
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
        reply = await self._requester.ask(request, seconds)
        return read_reply(reply.body, reply.properties, decoder, request)

    def _seconds(self, timeout: Seconds | None) -> float:
        if timeout is None:
            return self._timeout
        return checked.seconds(timeout, "timeout", over=0)

    def _to_message(self, outgoing: Outgoing) -> Message:
        return to_message(outgoing, self._app_id, limits=self._limits, new_id=self._new_id)

    def _decoder_of(self, reply_type: Any) -> BodyDecoder:
        try:
            hash(reply_type)
        except TypeError:  # Annotated, with something in it that has no hash
            return _decoder(reply_type)
        return self._decoder(reply_type)

    def _tell(self, message: Message) -> None:
        if self._on_confirmed is not None:
            try:
                self._on_confirmed(message)
            except BaseException as error:  # noqa: BLE001 - the driver calls this
                text = "the observer of confirmed messages failed"
                log_error(logger, logging.ERROR, text, error=error)

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
        seconds = self._seconds(timeout)
        window = checked.count(window, "publish_many(window=...)")
        if not isinstance(messages, AsyncIterable | Iterable):
            raise OptionError(
                "publish_many takes an iterable of Outgoing, asynchronous or not, "
                f"not {checked.shown(messages)}"
            )
        return self._publish_many(messages, window, seconds)

    async def _publish_many(
        self,
        messages: Iterable[Outgoing] | AsyncIterable[Outgoing],
        window: int,
        seconds: float,
    ) -> AsyncIterator[PublishResult]:
        pipeline = PublishPipeline(self._sender, self._tell, seconds)
        failure: list[Exception] = []
        try:
            async for outgoing in _items(messages, failure):
                pipeline.begin(outgoing, self._to_message)
                while pipeline.finished or len(pipeline) >= window:
                    yield await pipeline.next()
            while len(pipeline):
                yield await pipeline.next()
        finally:
            pipeline.cancel()
        for error in failure:
            raise error

    async def close(self) -> None:
        """Refuse further publishes and requests; what is in flight is not awaited."""
        await asyncio.gather(self._sender.close(), self._requester.close())


def _decoder(reply_type: Any) -> BodyDecoder:
    try:
        decoder = BodyDecoder(reply_type)
        # Found with the reply, it would be an error after the request was handled.
        decoder.complete()
    except (PydanticUserError, NameError, SyntaxError) as error:
        raise ConfigurationError(f"a reply cannot be a {reply_type!r}: {error}") from error
    return decoder


def _destination(route: Source | Queue) -> tuple[str, str]:
    if isinstance(route, Queue):
        return "", route.name
    if isinstance(route, Source):
        return route.exchange.name, route.routing_key
    raise InvalidMessageError(
        f"a request goes to Exchange.key(...) or to a Queue, not to {type(route).__name__}"
    )


async def _items(
    messages: Iterable[Outgoing] | AsyncIterable[Outgoing], failure: list[Exception]
) -> AsyncIterator[Outgoing]:
    """Yield the messages; what the iterable raises is put into `failure`, and ends them."""
    try:
        if isinstance(messages, AsyncIterable):
            async for message in messages:
                yield message
        else:
            for message in messages:
                yield message
    except Exception as error:  # noqa: BLE001 - it is raised when the results are given
        failure.append(error)
