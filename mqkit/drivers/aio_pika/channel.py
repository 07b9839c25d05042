"""A channel of the aio-pika driver, on the frames that an aiormq connection hands over.

It stands beside aiormq's own channel class, in its place in the connection, because that one
(7.2.4) matches returns by message id, closes the channel when a call is cancelled, runs consumers
in tasks that it cancels with the channel, and drops deliveries that precede a cancel-ok.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from aiormq.abc import FrameType
from pamqp import commands
from pamqp.body import ContentBody
from pika import amqp_object, spec

from mqkit.drivers import frames
from mqkit.drivers.aio_pika import convert
from mqkit.drivers.aio_pika.assembly import Assembly, Calls, Inbox
from mqkit.drivers.base import Closed, DriverChannel, Incoming, QueueState, Returned
from mqkit.drivers.common import BY_US, CLOSE_TIMEOUT, DEFECT, INTERNAL_ERROR, defect
from mqkit.errors import ChannelClosedError
from mqkit.message import HeaderValue, Message, Properties

REPLY_SUCCESS = 200
"""The reply code of a close in peace (AMQP 0-9-1, section 1.2 "Constants")."""


class ConnectionPort(Protocol):
    """The connection, as its channels see it."""

    @property
    def frame_max(self) -> int:
        """The most bytes of a frame; 0 is any number."""
        ...

    def write(self, data: bytes) -> None:
        """Hand whole frames to the transport, in the order of the calls."""
        ...

    def keep(self, channel: AioPikaChannel) -> None:
        """Take the number out of use again: something of this channel is still to come."""
        ...

    def release(self, channel: AioPikaChannel) -> None:
        """Free the number; a channel that is opened under it comes after what was written."""
        ...


class AioPikaChannel(DriverChannel):
    """One channel."""

    def __init__(self, connection: ConnectionPort, number: int) -> None:
        self.number = number
        self.frames = Inbox(self._receive)
        self._connection = connection
        self._open = False
        self._closing = False
        self._parting = Closed(0, BY_US)
        self._closed: asyncio.Future[Closed] = asyncio.get_running_loop().create_future()
        self._calls = Calls(connection.write)
        self._assembly = Assembly()
        self._published = 0
        self._on_delivery: dict[str, Callable[[Incoming], None]] = {}
        self._on_cancel: dict[str, Callable[[], None]] = {}
        self._on_confirm: Callable[[int, bool, bool], None] | None = None
        self._on_return: Callable[[Returned], None] | None = None

    @property
    def is_open(self) -> bool:
        return self._open

    @property
    def closed(self) -> asyncio.Future[Closed]:
        return self._closed

    async def open(self) -> None:
        """Open it on the broker.

        :raises ChannelClosedError: the connection was lost
        """
        try:
            await self._await(spec.Channel.Open(), commands.Channel.OpenOk)
        except asyncio.CancelledError:
            self.begin_to_close()  # whoever asked for it has gone meanwhile
            raise
        self._open = not self._closing and not self._closed.done()
        self._ensure_open()

    async def declare_exchange(
        self,
        name: str,
        type: str,  # noqa: A002 - the specification's name
        *,
        durable: bool = True,
        auto_delete: bool = False,
        internal: bool = False,
        arguments: Mapping[str, Any] | None = None,
        passive: bool = False,
    ) -> None:
        await self._call(
            spec.Exchange.Declare(
                exchange=name,
                type=type,
                passive=passive,
                durable=durable,
                auto_delete=auto_delete,
                internal=internal,
                arguments=dict(arguments or {}),
            ),
            commands.Exchange.DeclareOk,
        )

    async def declare_queue(
        self,
        name: str,
        *,
        durable: bool = True,
        exclusive: bool = False,
        auto_delete: bool = False,
        arguments: Mapping[str, Any] | None = None,
        passive: bool = False,
    ) -> QueueState:
        ok = await self._call(
            spec.Queue.Declare(
                queue=name,
                passive=passive,
                durable=durable,
                exclusive=exclusive,
                auto_delete=auto_delete,
                arguments=dict(arguments or {}),
            ),
            commands.Queue.DeclareOk,
        )
        return QueueState(ok.queue, ok.message_count, ok.consumer_count)

    async def bind_queue(
        self,
        queue: str,
        exchange: str,
        routing_key: str,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        await self._call(
            spec.Queue.Bind(
                queue=queue,
                exchange=exchange,
                routing_key=routing_key,
                arguments=dict(arguments or {}),
            ),
            commands.Queue.BindOk,
        )

    async def bind_exchange(
        self,
        destination: str,
        source: str,
        routing_key: str,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        await self._call(
            spec.Exchange.Bind(
                destination=destination,
                source=source,
                routing_key=routing_key,
                arguments=dict(arguments or {}),
            ),
            commands.Exchange.BindOk,
        )

    async def confirm_select(
        self,
        on_confirm: Callable[[int, bool, bool], None],
        on_return: Callable[[Returned], None],
    ) -> None:
        self._on_confirm, self._on_return = on_confirm, on_return
        await self._call(spec.Confirm.Select(), commands.Confirm.SelectOk)

    def publish(
        self, message: Message, extra_headers: Mapping[str, HeaderValue] | None = None
    ) -> int:
        self._ensure_open()
        self._connection.write(
            convert.publish(self.number, message, self._connection.frame_max, extra_headers)
        )
        self._published += 1
        return self._published

    async def qos(self, prefetch: int) -> None:
        await self._call(spec.Basic.Qos(prefetch_count=prefetch), commands.Basic.QosOk)

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
        # Our own tag, so that a delivery in the same packet as consume-ok finds its callback.
        tag = f"mqkit-{uuid.uuid4().hex}"
        self._on_delivery[tag], self._on_cancel[tag] = on_delivery, on_cancel
        await self._call(
            spec.Basic.Consume(
                queue=queue,
                consumer_tag=tag,
                no_ack=no_ack,
                exclusive=exclusive,
                arguments=dict(arguments or {}),
            ),
            commands.Basic.ConsumeOk,
        )
        return tag

    async def cancel(self, consumer_tag: str) -> None:
        # Until it is answered the broker's own cancel may be on its way: it took messages back.
        if consumer_tag in self._on_delivery:
            await self._call(spec.Basic.Cancel(consumer_tag=consumer_tag), commands.Basic.CancelOk)

    async def get(self, queue: str) -> Incoming | None:
        got: Incoming | None = await self._call(
            spec.Basic.Get(queue=queue), commands.Basic.GetOk, commands.Basic.GetEmpty
        )
        return got

    def ack(self, tag: int, multiple: bool = False) -> None:
        self._ensure_open()
        self._connection.write(convert.method(self.number, spec.Basic.Ack(tag, multiple)))

    def nack(self, tag: int, *, requeue: bool) -> None:
        self._ensure_open()
        self._connection.write(convert.method(self.number, spec.Basic.Nack(tag, requeue=requeue)))

    def reject(self, tag: int, *, requeue: bool) -> None:
        self._ensure_open()
        self._connection.write(convert.method(self.number, spec.Basic.Reject(tag, requeue=requeue)))

    async def close(self, *, in_order: bool = False) -> None:
        if in_order:
            self._on_delivery.clear()  # none of them is cancelled
        self.begin_to_close()
        await asyncio.wait([self._closed], timeout=CLOSE_TIMEOUT)

    def begin_to_close(self, code: int = REPLY_SUCCESS, text: str = BY_US) -> None:
        """Tell the broker, and take no more; `closed` is done when it has answered."""
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
        """Be closed, and tell everyone who waits for something of this channel."""
        if self._closed.done():
            return
        self._open = False
        self._closed.set_result(why)
        self._calls.fail(why)
        self._on_delivery.clear()
        self._on_cancel.clear()

    async def _call(self, method: amqp_object.Method, *answers: type) -> Any:
        self._ensure_open()
        return await self._await(method, *answers)

    async def _await(self, method: amqp_object.Method, *answers: type) -> Any:
        return await self._calls.send(convert.method(self.number, method), answers)

    def _ensure_open(self) -> None:
        if not self._open:
            why = self._closed.result() if self._closed.done() else Closed(0, "it is closing")
            raise ChannelClosedError(why.code, why.text)

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
                self._on_delivery.pop(frame.consumer_tag or "", None)
                self._on_cancel.pop(frame.consumer_tag or "", None)
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

    def _on_broker_cancel(self, tag: str) -> None:
        self._on_delivery.pop(tag, None)
        on_cancel = self._on_cancel.pop(tag, None)
        if on_cancel is not None:
            on_cancel()

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
