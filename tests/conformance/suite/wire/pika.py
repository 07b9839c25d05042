"""The suite's wire over pika's asyncio adapter, with nothing of mqkit in between."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any

import pika
from pika import exceptions, spec
from pika.adapters.asyncio_connection import AsyncioConnection
from pika.channel import Channel

from mqkit.settings import BrokerUrl
from tests.conformance.suite.consumer import first_of
from tests.conformance.suite.values import (
    NOT_SENT,
    Closed,
    Confirm,
    ConnectionClosedError,
    Delivery,
    Properties,
    Returned,
)
from tests.conformance.suite.wire.base import Raw, Wire

PROPERTIES = tuple(Properties.__dataclass_fields__)


async def connect(url: BrokerUrl) -> PikaWire:
    """Open a connection, without heartbeats.

    :raises ConnectionClosedError: the broker refused it, with its code
    """
    loop = asyncio.get_running_loop()
    opened: asyncio.Future[None] = loop.create_future()
    closed: asyncio.Future[Closed] = loop.create_future()

    def on_open(_: Any) -> None:
        if not opened.done():
            opened.set_result(None)

    def on_open_error(_: Any, error: BaseException) -> None:
        if not opened.done():
            opened.set_exception(_refused(error))

    def on_close(_: Any, reason: BaseException) -> None:
        if not closed.done():
            closed.set_result(_closed(reason))

    connection = AsyncioConnection(
        pika.ConnectionParameters(
            host=url.hosts[0].name,
            port=url.hosts[0].port,
            virtual_host=url.vhost,
            credentials=pika.PlainCredentials(url.username, url.password.get_secret_value()),
            heartbeat=0,
        ),
        on_open,
        on_open_error,
        on_close,
        loop,
    )
    await opened
    return PikaWire(connection, closed)


class PikaWire(Wire):
    """A connection of pika."""

    def __init__(self, connection: AsyncioConnection, closed: asyncio.Future[Closed]) -> None:
        self.closed = closed
        self.server_properties = connection.server_properties
        self._connection = connection

    async def raw(self) -> PikaRaw:
        opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.closed.done():
            raise self.closed.result().error()
        channel = self._connection.channel(on_open_callback=lambda _: opened.set_result(None))
        raw = PikaRaw(channel)
        await first_of(opened, raw.closed)
        if raw.closed.done():
            raise raw.closed.result().error()
        return raw

    async def close(self) -> None:
        if not (self._connection.is_closed or self._connection.is_closing):
            self._connection.close()
        await asyncio.wait([self.closed])


class PikaRaw(Raw):
    """A channel of pika."""

    def __init__(self, channel: Channel) -> None:
        self.closed: asyncio.Future[Closed] = asyncio.get_running_loop().create_future()
        self._channel = channel
        self._got: asyncio.Future[Delivery | None] | None = None
        channel.add_on_close_callback(self._on_close)
        channel.add_on_cancel_callback(
            lambda frame: self.listener.on_cancel(frame.method.consumer_tag)
        )
        channel.add_on_return_callback(self._on_return)
        channel.add_callback(self._on_get_empty, [spec.Basic.GetEmpty], one_shot=False)

    async def call(self, method: str, **fields: Any) -> Any:
        frame = await self._answer(
            lambda done: getattr(self._channel, method)(**fields, callback=done)
        )
        return getattr(frame, "method", frame)

    async def send(self, method: str, **fields: Any) -> None:
        self._ensure_open()
        getattr(self._channel, method)(**fields)

    async def publish(
        self, exchange: str, routing_key: str, body: bytes, properties: Properties, mandatory: bool
    ) -> None:
        self._ensure_open()
        written = pika.BasicProperties(**{name: getattr(properties, name) for name in PROPERTIES})
        self._channel.basic_publish(exchange, routing_key, body, written, mandatory)

    async def get(self, queue: str, no_ack: bool) -> Delivery | None:
        self._got = asyncio.get_running_loop().create_future()

        def send(done: Callable[[Any], None]) -> None:
            self._channel.basic_get(queue, lambda *got: done(_delivery(*got)), auto_ack=no_ack)

        return await self._answer(send, self._got)  # type: ignore[no-any-return]

    async def consume(
        self, queue: str, tag: str, no_ack: bool, exclusive: bool, arguments: dict[str, Any]
    ) -> None:
        await self._answer(
            lambda done: self._channel.basic_consume(
                queue,
                lambda *delivered: self.listener.on_delivery(_delivery(*delivered)),
                auto_ack=no_ack,
                exclusive=exclusive,
                consumer_tag=tag,
                arguments=arguments,
                callback=done,
            )
        )

    async def cancel(self, tag: str) -> None:
        def send(done: Callable[[Any], None]) -> None:
            self._channel.basic_cancel(tag, done)
            # pika would reject what still arrives before cancel-ok; a case wants to see it.
            self._channel._cancelled.discard(tag)

        await self._answer(send)

    async def qos(self, count: int, global_: bool) -> None:
        await self.call("basic_qos", prefetch_count=count, global_qos=global_)

    async def confirm_select(self) -> None:
        await self.call("confirm_delivery", ack_nack_callback=self._on_confirm)

    async def close(self) -> None:
        if self._channel.is_open:
            self._channel.close()
        await asyncio.wait([self.closed])

    async def _answer(
        self,
        send: Callable[[Callable[[Any], None]], object],
        answer: asyncio.Future[Any] | None = None,
    ) -> Any:
        self._ensure_open()
        future = answer or asyncio.get_running_loop().create_future()

        def done(result: Any) -> None:
            if not future.done():
                future.set_result(result)

        send(done)
        await first_of(future, self.closed)
        if not future.done():
            raise self.closed.result().error()
        return future.result()

    def _ensure_open(self) -> None:
        if self.closed.done():
            raise self.closed.result().error()

    def _on_close(self, _: Any, reason: BaseException) -> None:
        self.closed.set_result(_closed(reason))
        if hasattr(self, "listener"):
            self.listener.on_closed(self.closed.result())

    def _on_return(self, _: Any, method: Any, properties: Any, body: bytes) -> None:
        self.listener.on_return(
            Returned(
                method.reply_code,
                method.reply_text,
                method.exchange,
                method.routing_key,
                _properties(properties),
                body,
            )
        )

    def _on_confirm(self, frame: Any) -> None:
        method = frame.method
        self.listener.on_confirm(
            Confirm(method.delivery_tag, method.multiple, isinstance(method, spec.Basic.Ack))
        )

    def _on_get_empty(self, _: Any) -> None:
        if self._got is not None and not self._got.done():
            self._got.set_result(None)


def _properties(properties: pika.BasicProperties) -> Properties:
    return Properties(**{name: getattr(properties, name) for name in PROPERTIES})


def _delivery(_: Any, method: Any, properties: pika.BasicProperties, body: bytes) -> Delivery:
    return Delivery(
        method.delivery_tag,
        method.redelivered,
        method.exchange,
        method.routing_key,
        _properties(properties),
        body,
        getattr(method, "consumer_tag", ""),
        getattr(method, "message_count", None),
    )


def _closed(reason: BaseException) -> Closed:
    of_connection = not isinstance(reason, exceptions.ChannelClosed)
    if isinstance(reason, exceptions.ChannelClosedByBroker | exceptions.ConnectionClosedByBroker):
        return Closed(reason.reply_code, str(reason.reply_text), of_connection)
    return Closed(NOT_SENT, str(reason), of_connection)


def _refused(error: BaseException) -> ConnectionClosedError:
    """Find the broker's code in the text of what pika wraps around it."""
    text = repr(error)
    found = re.search(r"\((\d{3}),|\((\d{3})\)", text)
    return ConnectionClosedError(int(found[1] or found[2]) if found else NOT_SENT, text)
