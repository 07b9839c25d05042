"""The channel of the default driver, on pika's channel."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from pika import amqp_object, spec
from pika.channel import Channel

from mqkit.drivers import common, frames
from mqkit.drivers.base import Closed, Incoming, Returned
from mqkit.drivers.methods import MethodChannel
from mqkit.drivers.pika import convert
from mqkit.drivers.pika.connection import StreamConnection, ack
from mqkit.message import HeaderValue, Message


class PikaChannel(MethodChannel):
    """An open AMQP channel; messages and confirms come to it past pika."""

    def __init__(
        self, connection: StreamConnection, channel: Channel, closed: asyncio.Future[Closed]
    ) -> None:
        self._connection = connection
        self._channel = channel
        self._number = channel.channel_number
        self._inbound = connection.attach(self._number)
        super().__init__(closed, self._inbound.on_delivery)
        self._waiting: dict[asyncio.Future[Any], None] = {}
        self._published = 0
        self._get_lock = asyncio.Lock()
        self._got: asyncio.Future[Incoming | None] | None = None
        channel.add_on_close_callback(lambda *_: connection.detach(self._number))
        closed.add_done_callback(self._fail_waiting)
        channel.add_on_cancel_callback(
            lambda frame: self._on_broker_cancel(str(frame.method.consumer_tag))
        )
        channel.add_callback(self._on_get_empty, [spec.Basic.GetEmpty], one_shot=False)

    @property
    def is_open(self) -> bool:
        return bool(self._channel.is_open)

    async def confirm_select(
        self,
        on_confirm: Callable[[int, bool, bool], None],
        on_return: Callable[[Returned], None],
    ) -> None:
        def returned(_: Any, method: Any, properties: Any, __: bytes) -> None:
            on_return(convert.returned(method, properties))

        self._channel.add_on_return_callback(returned)
        # Confirms go to `on_confirm`, and pika hears of none.
        await self._await(lambda done: self._channel.confirm_delivery(_not_here, done))
        self._inbound.on_confirm = on_confirm

    def publish(
        self, message: Message, extra_headers: Mapping[str, HeaderValue] | None = None
    ) -> int:
        self._ensure_open()
        pieces = frames.publish(self._number, message, self._connection.payload_max, extra_headers)
        self._connection.emit(pieces)
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
        await self._await(
            lambda done: self._channel.basic_consume(
                queue,
                _not_here,
                auto_ack=no_ack,
                exclusive=exclusive,
                consumer_tag=tag,
                arguments=dict(arguments or {}),
                callback=done,
            )
        )
        return tag

    async def cancel(self, consumer_tag: str) -> None:
        def send(done: Callable[[Any], None]) -> None:
            def answered(frame: Any) -> None:
                self._remove_consumer(consumer_tag)
                done(frame)

            self._channel.basic_cancel(consumer_tag, answered)
            # pika would tell nobody of a cancel of the broker's that crosses this one; but that
            # took messages back.
            self._channel._cancelled.discard(consumer_tag)  # noqa: SLF001

        if consumer_tag in self._channel.consumer_tags:
            await self._await(send)

    async def get(self, queue: str) -> Incoming | None:
        async with self._get_lock:
            if self._got is not None:
                await asyncio.wait([self._got])  # its caller has gone; pika takes one at a time
            self._ensure_open()
            got: asyncio.Future[Incoming | None] = asyncio.get_running_loop().create_future()
            self._got = got
            self._waiting[got] = None
            got.add_done_callback(self._waiting.pop)
            self._channel.basic_get(
                queue,
                lambda _, method, properties, body: self._on_got(
                    convert.incoming(method, properties, body)
                ),
            )
            try:
                return await asyncio.shield(got)
            except asyncio.CancelledError:
                got.add_done_callback(self._give_back)
                raise

    def ack(self, tag: int, multiple: bool = False) -> None:
        self._ensure_open()
        self._connection.emit((ack(self._number, tag, multiple=multiple),))

    def nack(self, tag: int, *, requeue: bool, multiple: bool = False) -> None:
        self._ensure_open()
        self._channel.basic_nack(tag, multiple, requeue)

    def reject(self, tag: int, *, requeue: bool) -> None:
        self._ensure_open()
        self._channel.basic_reject(tag, requeue=requeue)

    async def close(self, *, in_order: bool = False) -> None:
        if self.is_open:
            self._on_delivery.clear()  # what still comes is the broker's again
            if in_order:
                # pika cancels what is not being cancelled, and knows no other way to close.
                self._channel._cancelled.update(self._channel.consumer_tags)  # noqa: SLF001
            self._channel.close()
        await asyncio.wait([self._closed], timeout=common.CLOSE_TIMEOUT)

    async def _call(self, method: amqp_object.Method, *answers: type[amqp_object.Method]) -> Any:
        # pika (1.4.4) has no public way to send a method that is made already.
        rpc = self._channel._rpc  # noqa: SLF001
        return (await self._await(lambda done: rpc(method, done, list(answers)))).method

    async def _await(self, send: Callable[[Callable[[Any], None]], object]) -> Any:
        """Send a method and await its answer, which may come after the caller is gone."""
        self._ensure_open()
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def done(result: Any) -> None:
            if not future.done():
                future.set_result(result)

        self._waiting[future] = None
        try:
            send(done)
            return await future
        finally:
            self._waiting.pop(future, None)

    def _ensure_open(self) -> None:
        if not self._channel.is_open:
            raise self._closed_error()

    def _fail_waiting(self, closed: asyncio.Future[Closed]) -> None:
        for future in list(self._waiting):
            if not future.done():
                future.set_exception(closed.result().error())

    def _on_get_empty(self, _: Any) -> None:
        self._on_got(None)

    def _on_got(self, incoming: Incoming | None) -> None:
        if self._got is not None and not self._got.done():
            self._got.set_result(incoming)

    def _give_back(self, got: asyncio.Future[Incoming | None]) -> None:
        """Requeue a message whose caller is gone; it would be held until the channel closes."""
        if got.exception() is None and (incoming := got.result()) is not None and self.is_open:
            self.nack(incoming.tag, requeue=True)


def _not_here(*_: Any) -> None:
    """Raise: pika is given this to call for messages and confirms, which do not come by pika."""
    raise AssertionError("pika got a frame that was to be taken before")
