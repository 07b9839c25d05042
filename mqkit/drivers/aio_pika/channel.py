"""The channel of the aio-pika driver, which reads the frames that an aiormq connection hands on.

It stands beside aiormq's own channel class, in its place in the connection, because that one
(7.2.4) matches returns by message id, closes the channel when a call is cancelled, runs consumers
in tasks that it cancels with the channel, and drops deliveries that precede a cancel-ok.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from aiormq.abc import FrameType
from pamqp import commands
from pamqp.body import ContentBody
from pika import amqp_object, spec

from mqkit.drivers import frames
from mqkit.drivers.aio_pika import convert
from mqkit.drivers.aio_pika.assembly import Assembly, Calls, Inbox
from mqkit.drivers.base import REPLY_SUCCESS, Closed, Incoming, Returned
from mqkit.drivers.common import BY_US, CLOSE_TIMEOUT, DEFECT, INTERNAL_ERROR, defect
from mqkit.drivers.methods import MethodChannel
from mqkit.message import HeaderValue, Message, Properties


class ConnectionPort(Protocol):
    """What a channel asks of its connection."""

    @property
    def frame_max(self) -> int:
        """How many bytes a frame may have; 0 is any number."""
        ...

    def write(self, data: bytes) -> None:
        """Hand whole frames to the transport, in the order of the calls."""
        ...

    def keep(self, channel: AioPikaChannel) -> None:
        """Keep the number in use: something of this channel is still to come."""
        ...

    def release(self, channel: AioPikaChannel) -> None:
        """Free the number; a channel that is opened under it comes after what was written."""
        ...


class AioPikaChannel(MethodChannel):
    """An AMQP channel on an aiormq connection."""

    def __init__(self, connection: ConnectionPort, number: int) -> None:
        super().__init__(asyncio.get_running_loop().create_future(), {})
        self.number = number
        self.frames = Inbox(self._receive)
        self._connection = connection
        self._open = False
        self._closing = False
        self._parting = Closed(0, BY_US)
        self._calls = Calls(connection.write)
        self._assembly = Assembly()
        self._published = 0
        self._on_confirm: Callable[[int, bool, bool], None] | None = None
        self._on_return: Callable[[Returned], None] | None = None

    @property
    def is_open(self) -> bool:
        return self._open

    async def open(self) -> None:
        """Open the channel on the broker.

        :raises ChannelClosedError: the connection was lost
        """
        try:
            await self._await(spec.Channel.Open(), spec.Channel.OpenOk)
        except asyncio.CancelledError:
            self.begin_to_close()  # whoever asked for it has gone meanwhile
            raise
        self._open = not self._closing and not self._closed.done()
        self._ensure_open()

    async def confirm_select(
        self,
        on_confirm: Callable[[int, bool, bool], None],
        on_return: Callable[[Returned], None],
    ) -> None:
        self._on_confirm, self._on_return = on_confirm, on_return
        await self._call(spec.Confirm.Select(), spec.Confirm.SelectOk)

    def publish(
        self, message: Message, extra_headers: Mapping[str, HeaderValue] | None = None
    ) -> int:
        self._ensure_open()
        self._connection.write(
            convert.publish(self.number, message, self._connection.frame_max, extra_headers)
        )
        self._published += 1
        return self._published

    async def consume(
        self,
        queue: str,
        on_delivery: Callable[[Incoming], None],
        on_cancel: Callable[[], None],
        *,
        no_ack: bool = False,
        exclusive: bool = False,
        arguments: Mapping[str, Any] | None = None,
    ) -> str:
        self._ensure_open()
        tag = self._add_consumer(on_delivery, on_cancel)
        await self._call(
            spec.Basic.Consume(
                queue=queue,
                consumer_tag=tag,
                no_ack=no_ack,
                exclusive=exclusive,
                arguments=dict(arguments or {}),
            ),
            spec.Basic.ConsumeOk,
        )
        return tag

    async def cancel(self, consumer_tag: str) -> None:
        # Until it is answered the broker's own cancel may be on its way: it took messages back.
        if consumer_tag in self._on_delivery:
            await self._call(spec.Basic.Cancel(consumer_tag=consumer_tag), spec.Basic.CancelOk)

    async def get(self, queue: str) -> Incoming | None:
        got: Incoming | None = await self._call(
            spec.Basic.Get(queue=queue), spec.Basic.GetOk, spec.Basic.GetEmpty
        )
        return got

    def ack(self, tag: int, multiple: bool = False) -> None:
        self._ensure_open()
        self._connection.write(convert.method(self.number, spec.Basic.Ack(tag, multiple)))

    def nack(self, tag: int, *, requeue: bool, multiple: bool = False) -> None:
        self._ensure_open()
        self._connection.write(convert.method(self.number, spec.Basic.Nack(tag, multiple, requeue)))

    def reject(self, tag: int, *, requeue: bool) -> None:
        self._ensure_open()
        self._connection.write(convert.method(self.number, spec.Basic.Reject(tag, requeue=requeue)))

    async def close(self, *, in_order: bool = False) -> None:
        if in_order:
            self._on_delivery.clear()  # none of them is cancelled
        self.begin_to_close()
        await asyncio.wait([self._closed], timeout=CLOSE_TIMEOUT)

    def begin_to_close(self, code: int = REPLY_SUCCESS, text: str = BY_US) -> None:
        """Send `channel.close` and take no more calls; `closed` is done when that is answered."""
        if self._closing or self._closed.done():
            return
        self._open, self._closing = False, True
        self._parting = Closed(0, text)
        close = spec.Channel.Close(reply_code=code, reply_text=text, class_id=0, method_id=0)
        # RabbitMQ (4.0.5, 4.3.6) forgets acks that it has not passed on to a quorum queue when a
        # channel closes, and has passed on all that came before it answers a cancel.
        cancels = [spec.Basic.Cancel(consumer_tag=tag) for tag in self._on_delivery]
        self._calls.finish(
            ((convert.method(self.number, each), (commands.Basic.CancelOk,)) for each in cancels),
            convert.method(self.number, close),
        )

    def end(self, why: Closed) -> None:
        """Mark the channel as closed, and fail everyone who waits for something of it."""
        if self._closed.done():
            return
        self._open = False
        self._closed.set_result(why)
        self._calls.fail(why)
        self._on_delivery.clear()
        self._on_cancel.clear()

    async def _call(self, method: amqp_object.Method, *answers: type[amqp_object.Method]) -> Any:
        self._ensure_open()
        return await self._await(method, *answers)

    async def _await(self, method: amqp_object.Method, *answers: type[amqp_object.Method]) -> Any:
        as_pamqp = tuple(commands.INDEX_MAPPING[each.INDEX] for each in answers)
        return await self._calls.send(convert.method(self.number, method), as_pamqp)

    def _ensure_open(self) -> None:
        if not self._open:
            raise self._closed_error()

    def _receive(self, frame: FrameType) -> None:
        """Deal with one frame; what goes wrong ends this channel and not the connection."""
        try:
            match frame:
                case ContentBody():
                    if (message := self._assembly.add(frame.value)) is not None:
                        self._on_message(*message)
                case commands.Basic.Ack() | commands.Basic.Nack():
                    if self._on_confirm is not None:
                        acked = isinstance(frame, commands.Basic.Ack)
                        self._on_confirm(frame.delivery_tag or 0, bool(frame.multiple), acked)
                case _:
                    self._on_method(frame)
        except Exception:  # noqa: BLE001 - the rule of `defect`
            defect()
            self._assembly.is_broken = True
            self.begin_to_close(INTERNAL_ERROR, DEFECT)

    def _on_method(self, frame: FrameType) -> None:
        match frame:
            case commands.Channel.Close():
                self._on_close(frame)
            case commands.Channel.CloseOk():
                self._on_close_ok()
            case commands.Basic.Cancel():
                self._on_broker_cancel(frame.consumer_tag or "")
            case commands.Basic.CancelOk():
                self._remove_consumer(frame.consumer_tag or "")
                self._calls.answer(type(frame), frame)
            case commands.Basic.GetEmpty():
                self._calls.answer(type(frame), None)
            case _:
                self._calls.answer(type(frame), frame)

    def _on_message(self, method: bytes, properties: Properties, body: bytes) -> None:
        (kind,) = frames.METHOD_ID.unpack_from(method)
        if kind == frames.DELIVER:
            consumer, tag, redelivered, exchange, key = frames.deliver(method, 4)
            if self._open and (deliver := self._on_delivery.get(consumer)):
                deliver(Incoming(tag, redelivered, exchange, key, properties, body))
        elif kind == frames.RETURN:
            if self._on_return is not None:
                self._on_return(Returned(*frames.returned(method, 4), properties))
        else:
            tag, redelivered, exchange, key = frames.got(method, 4)
            got = Incoming(tag, redelivered, exchange, key, properties, body)
            taken = self._calls.answer(commands.Basic.GetOk, got)
            if self._open and not taken:
                # Nobody has its tag, and it would be held until the channel closes.
                self.nack(tag, requeue=True)

    def _on_close(self, frame: commands.Channel.Close) -> None:
        # aiormq gives the number away now, but nothing may be opened under it before close-ok.
        self._connection.keep(self)
        self._connection.write(convert.method(self.number, spec.Channel.CloseOk()))
        if not self._closing:
            self._connection.release(self)
        self.end(Closed(frame.reply_code or 0, frame.reply_text or ""))

    def _on_close_ok(self) -> None:
        if self._closing:
            self._connection.release(self)
            self.end(self._parting)
