"""The suite's wire over aiormq, the layer under aio-pika whose methods are AMQP's own."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Coroutine
from datetime import UTC, datetime
from typing import Any, cast

import aiormq
from aiormq.abc import ChannelFrame, ConfirmationFrameType, DeliveredMessage, FrameType
from aiormq.connection import EXCEPTION_MAPPING, FrameReceiver
from pamqp import commands
from pamqp.base import Frame
from pamqp.body import ContentBody
from pamqp.frame import FrameTypes, marshal
from pamqp.header import ContentHeader
from yarl import URL

from mqkit.settings import BrokerUrl
from tests.conformance.suite.consumer import ANSWER, first_of
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

CODES = {error: code for code, error in EXCEPTION_MAPPING.items()}
"""aiormq turns a connection's reply code into a class of exception; this is the way back."""


async def connect(url: BrokerUrl) -> AiormqWire:
    """Open a connection, without heartbeats.

    :raises ConnectionClosedError: the broker refused it, with its code
    """
    connection = _PlainConnection(
        URL.build(
            scheme="amqp",
            user=url.username,
            password=url.password.get_secret_value(),
            host=url.hosts[0].name,
            port=url.hosts[0].port,
            path="/" if url.vhost == "/" else f"/{url.vhost}",
            query={"heartbeat": "0"},
        )
    )
    try:
        await connection.connect()
    except aiormq.exceptions.AMQPConnectionError as error:
        closed = _connection_closed(error)
        raise ConnectionClosedError(closed.code, closed.text) from error
    return AiormqWire(connection)


class AiormqWire(Wire):
    """A connection of aiormq."""

    def __init__(self, connection: aiormq.Connection) -> None:
        self.closed = asyncio.get_running_loop().create_future()
        self.server_properties = cast("dict[str, Any]", connection.server_properties)
        self._connection = connection
        connection.closing.add_done_callback(self._on_closing)

    async def raw(self) -> AiormqRaw:
        if self.closed.done():
            raise self.closed.result().error()
        channels = self._connection.channels
        number = next(n for n in itertools.count(1) if n not in channels)
        channel = _PlainChannel(self._connection, number, publisher_confirms=False, frame_buffer=10)
        channels[number] = channel
        raw = AiormqRaw(channel, self.closed)
        await raw.answer(channel.open())
        return raw

    async def close(self) -> None:
        await self._connection.close()
        await asyncio.wait([self.closed])

    def _on_closing(self, closing: asyncio.Future[Any]) -> None:
        if not self.closed.done():
            self.closed.set_result(_connection_closed(_why(closing)))


class _PlainConnection(aiormq.Connection):
    """aiormq's connection, which tells with which code it was refused.

    aiormq takes `connection.close` in answer to `connection.open` for an invalid frame.
    """

    FRAME_BUFFER_SIZE = 0
    """Without limit: aiormq drops its close-ok for a channel where the buffer is full, and the
    broker then takes the channel's number for one that is still open."""

    @staticmethod
    async def _rpc(
        request: Frame,
        writer: asyncio.StreamWriter,
        frame_receiver: FrameReceiver,
        wait_response: bool = True,
    ) -> FrameTypes | None:
        writer.write(marshal(request, 0))
        await writer.drain()
        if not wait_response:
            return None
        _, _, answer = await frame_receiver.get_frame()
        if isinstance(answer, commands.Connection.Close):
            raise aiormq.exceptions.ConnectionClosed(answer.reply_code, answer.reply_text)
        return answer


class _PlainChannel(aiormq.Channel):
    """aiormq's channel, without what it adds to AMQP.

    It gives every message an id, pairs returns with it, and counts confirms for itself, so that
    a confirm or a return it does not expect is only logged; a case must see what was sent.
    """

    raw: AiormqRaw
    close_frame: commands.Channel.Close | None = None

    async def _on_close_frame(self, frame: commands.Channel.Close) -> None:
        self.close_frame = frame
        await super()._on_close_frame(frame)

    async def _on_deliver_frame(self, frame: commands.Basic.Deliver) -> None:
        self.raw.listener.on_delivery(_delivery(await self._content(frame)))

    async def _on_return_frame(self, frame: commands.Basic.Return) -> None:
        message = await self._content(frame)
        self.raw.listener.on_return(
            Returned(
                int(frame.reply_code or 0),
                str(frame.reply_text),
                str(frame.exchange),
                str(frame.routing_key),
                _properties(message.header.properties),
                message.body,
            )
        )

    async def _on_confirm_frame(self, frame: ConfirmationFrameType) -> None:
        self.raw.listener.on_confirm(
            Confirm(
                int(frame.delivery_tag or 0),
                bool(getattr(frame, "multiple", False)),
                isinstance(frame, commands.Basic.Ack),
            )
        )

    async def _content(
        self, frame: commands.Basic.Deliver | commands.Basic.Return
    ) -> DeliveredMessage:
        header = await self._get_frame()
        assert isinstance(header, ContentHeader)
        return await self._read_content(frame, header)


class AiormqRaw(Raw):
    """A channel of aiormq."""

    def __init__(self, channel: _PlainChannel, connection_closed: asyncio.Future[Closed]) -> None:
        self.closed: asyncio.Future[Closed] = asyncio.get_running_loop().create_future()
        self._channel = channel
        self._connection_closed = connection_closed
        channel.raw = self
        channel.closing.add_done_callback(self._on_closing)
        channel.on_consumer_cancel_callbacks.add(
            lambda frame: self.listener.on_cancel(str(frame.consumer_tag))
        )

    async def answer(self, call: Coroutine[Any, Any, Any]) -> Any:
        """Await a call of aiormq; where the channel closes meanwhile, it is only cancelled."""
        task = asyncio.ensure_future(call)
        try:
            await first_of(task, self.closed)
            if task.done() and not task.cancelled() and task.exception() is None:
                return task.result()
            # While it handles channel.close, aiormq refuses calls before it says that it is closed.
            refused = task.done() and _is_refusal(task)
            if refused or self._channel.is_closed or self.closed.done():
                await asyncio.wait([self.closed], timeout=ANSWER)
                if self.closed.done():
                    raise self.closed.result().error()
            return task.result()
        finally:
            task.cancel()

    async def call(self, method: str, **fields: Any) -> Any:
        self._ensure_open()
        return await self.answer(getattr(self._channel, method)(**fields))

    async def send(self, method: str, **fields: Any) -> None:
        self._ensure_open()
        await self.answer(getattr(self._channel, method)(**fields, wait=False))

    async def publish(
        self, exchange: str, routing_key: str, body: bytes, properties: Properties, mandatory: bool
    ) -> None:
        self._ensure_open()
        header = ContentHeader(properties=_to_pamqp(properties), body_size=len(body))
        size = self._channel.max_content_size
        frames: list[FrameType | ContentBody] = [
            commands.Basic.Publish(exchange=exchange, routing_key=routing_key, mandatory=mandatory),
            header,
            *(ContentBody(body[at : at + size]) for at in range(0, len(body), size)),
        ]
        await self._channel.write_queue.put(
            ChannelFrame.marshall(frames=frames, channel_number=self._channel.number)
        )

    async def get(self, queue: str, no_ack: bool) -> Delivery | None:
        message = await self.call("basic_get", queue=queue, no_ack=no_ack)
        if isinstance(message.delivery, commands.Basic.GetEmpty):
            return None
        return _delivery(message)

    async def consume(
        self, queue: str, tag: str, no_ack: bool, exclusive: bool, arguments: dict[str, Any]
    ) -> None:
        await self.call(
            "basic_consume",
            queue=queue,
            consumer_callback=_unused,
            no_ack=no_ack,
            exclusive=exclusive,
            consumer_tag=tag,
            arguments=arguments,
        )

    async def cancel(self, tag: str) -> None:
        await self.call("basic_cancel", consumer_tag=tag)

    async def qos(self, count: int, global_: bool) -> None:
        await self.call("basic_qos", prefetch_count=count, global_=global_)

    async def confirm_select(self) -> None:
        await self.call("confirm_delivery")

    async def close(self) -> None:
        await self._channel.close()
        await asyncio.wait([self.closed])

    def _ensure_open(self) -> None:
        if self.closed.done():
            raise self.closed.result().error()

    def _on_closing(self, closing: asyncio.Future[Any]) -> None:
        frame = self._channel.close_frame
        if frame is not None:
            closed = Closed(
                int(frame.reply_code or 0),
                str(frame.reply_text),
                class_id=frame.class_id,
                method_id=frame.method_id,
            )
        elif self._connection_closed.done():
            closed = self._connection_closed.result()
        else:
            closed = _channel_gone(_why(closing))
        self.closed.set_result(closed)
        if hasattr(self, "listener"):
            self.listener.on_closed(closed)


def _is_refusal(task: asyncio.Future[Any]) -> bool:
    return task.cancelled() or isinstance(
        task.exception(), aiormq.exceptions.ChannelInvalidStateError
    )


async def _unused(_: DeliveredMessage) -> None:
    raise AssertionError("_PlainChannel hands deliveries over itself")


def _why(closing: asyncio.Future[Any]) -> BaseException | None:
    return asyncio.CancelledError() if closing.cancelled() else closing.exception()


def _connection_closed(error: BaseException | None) -> Closed:
    for kind, code in CODES.items():
        if isinstance(error, kind):
            return Closed(code, str(error), of_connection=True)
    if type(error) is aiormq.exceptions.ConnectionClosed and len(error.args) > 1:
        return Closed(int(error.args[0] or 0), str(error.args[1]), of_connection=True)
    return Closed(NOT_SENT, repr(error), of_connection=True)


def _channel_gone(error: BaseException | None) -> Closed:
    """Make the error for a channel that this side closed, or that went with its connection."""
    if isinstance(error, aiormq.exceptions.AMQPConnectionError):
        return _connection_closed(error)
    return Closed(NOT_SENT, repr(error))


def _to_pamqp(properties: Properties) -> commands.Basic.Properties:
    timestamp = properties.timestamp
    return commands.Basic.Properties(
        content_type=properties.content_type,
        content_encoding=properties.content_encoding,
        headers=cast("Any", properties.headers),
        delivery_mode=properties.delivery_mode,
        priority=properties.priority,
        correlation_id=properties.correlation_id,
        reply_to=properties.reply_to,
        expiration=properties.expiration,
        message_id=properties.message_id,
        timestamp=None if timestamp is None else datetime.fromtimestamp(timestamp, UTC),
        message_type=properties.type,
        user_id=properties.user_id,
        app_id=properties.app_id,
    )


def _properties(properties: commands.Basic.Properties) -> Properties:
    timestamp = properties.timestamp
    return Properties(
        content_type=properties.content_type,
        content_encoding=properties.content_encoding,
        headers=properties.headers,
        delivery_mode=properties.delivery_mode,
        priority=properties.priority,
        correlation_id=properties.correlation_id,
        reply_to=properties.reply_to,
        expiration=properties.expiration,
        message_id=properties.message_id,
        timestamp=None if timestamp is None else int(timestamp.timestamp()),
        type=properties.message_type,
        user_id=properties.user_id,
        app_id=properties.app_id,
    )


def _delivery(message: DeliveredMessage) -> Delivery:
    method = message.delivery
    assert isinstance(method, commands.Basic.Deliver | commands.Basic.GetOk)
    return Delivery(
        int(method.delivery_tag or 0),
        bool(method.redelivered),
        str(method.exchange),
        str(method.routing_key),
        _properties(message.header.properties),
        message.body,
        str(getattr(method, "consumer_tag", "")),
        getattr(method, "message_count", None),
    )
