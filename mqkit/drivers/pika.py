"""The default driver, on `pika.adapters.asyncio_connection`."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from pika import exceptions, spec
from pika.channel import Channel

from mqkit.drivers import pika_wire, wire
from mqkit.drivers.base import (
    Closed,
    Driver,
    DriverChannel,
    DriverConnection,
    Incoming,
    QueueState,
    Returned,
)
from mqkit.drivers.pika_mended import HeaderTooLargeError, MendedConnection
from mqkit.errors import ChannelClosedError
from mqkit.message import Message
from mqkit.settings import BrokerUrl, Host


class PikaDriver(Driver):
    """pika, driven by the running event loop."""

    name = "pika"

    async def connect(
        self,
        url: BrokerUrl,
        host: Host,
        *,
        name: str,
        on_blocked: Callable[[str | None], None],
    ) -> PikaConnection:
        pika_wire.quiet_pika()
        loop = asyncio.get_running_loop()
        opened: asyncio.Future[None] = loop.create_future()
        closed: asyncio.Future[Closed] = loop.create_future()

        def on_open(_: Any) -> None:
            if not opened.done():
                opened.set_result(None)

        def on_open_error(_: Any, error: BaseException) -> None:
            if not opened.done():
                opened.set_exception(pika_wire.connect_error(error, host, url.vhost))

        def on_close(_: Any, reason: BaseException) -> None:
            if not closed.done():
                closed.set_result(pika_wire.closed(reason))

        parameters = pika_wire.parameters(url, host, name)
        parameters.stack_timeout = None  # it would still pass after the attempt was given up
        connection = MendedConnection(parameters, on_open, on_open_error, on_close, loop)
        connection.add_on_connection_blocked_callback(
            lambda _, frame: on_blocked(str(frame.method.reason))
        )
        connection.add_on_connection_unblocked_callback(lambda *_: on_blocked(None))
        try:
            async with asyncio.timeout(url.connect_timeout):
                await asyncio.shield(opened)
        except BaseException as error:
            _abandon(connection, opened)
            if isinstance(error, TimeoutError):
                raise wire.not_in_time(host, url.connect_timeout) from error
            raise
        return PikaConnection(connection, closed)


def _abandon(connection: MendedConnection, opened: asyncio.Future[None]) -> None:
    connection.abandon()
    # Nobody awaits it any more; an error that still arrives is the abort's own.
    opened.add_done_callback(lambda f: f.cancelled() or f.exception())


class PikaConnection(DriverConnection):
    """One open connection."""

    def __init__(self, connection: MendedConnection, closed: asyncio.Future[Closed]) -> None:
        self._connection = connection
        self._closed = closed
        properties = connection.server_properties or {}
        self._server = f"{properties.get('product', 'broker')} {properties.get('version', '?')}"

    @property
    def server(self) -> str:
        return self._server

    @property
    def closed(self) -> asyncio.Future[Closed]:
        return self._closed

    async def channel(self) -> PikaChannel:
        loop = asyncio.get_running_loop()
        opened: asyncio.Future[None] = loop.create_future()
        closed: asyncio.Future[Closed] = loop.create_future()

        def on_open(channel: Channel) -> None:
            if opened.cancelled():
                channel.close()  # whoever asked for it has gone meanwhile
            elif not opened.done():
                opened.set_result(None)

        def on_close(_: Any, reason: BaseException) -> None:
            why = pika_wire.closed(reason)
            if not closed.done():
                closed.set_result(why)
            if not opened.done():
                opened.set_exception(ChannelClosedError(why.code, why.text))

        try:
            channel = self._connection.channel(on_open_callback=on_open)
        except exceptions.ConnectionWrongStateError as error:
            raise ChannelClosedError(0, "the connection is closed") from error
        channel.add_on_close_callback(on_close)
        await opened
        return PikaChannel(channel, closed)

    async def close(self) -> None:
        if self._connection.is_open:
            self._connection.close()
        done, _ = await asyncio.wait([self._closed], timeout=wire.CLOSE_TIMEOUT)
        if not done:
            # pika has no public way to drop a stream whose peer does not answer.
            self._connection._terminate_stream(  # noqa: SLF001
                exceptions.StreamLostError("the broker did not answer connection.close")
            )
            await asyncio.wait([self._closed], timeout=wire.CLOSE_TIMEOUT)


class PikaChannel(DriverChannel):
    """One open channel."""

    def __init__(self, channel: Channel, closed: asyncio.Future[Closed]) -> None:
        self._channel = channel
        self._closed = closed
        self._waiting: set[asyncio.Future[Any]] = set()
        self._published = 0
        self._on_cancel: dict[str, Callable[[], None]] = {}
        self._get_lock = asyncio.Lock()
        self._got: asyncio.Future[Incoming | None] | None = None
        closed.add_done_callback(self._fail_waiting)
        channel.add_on_cancel_callback(self._on_broker_cancel)
        channel.add_callback(self._on_get_empty, [spec.Basic.GetEmpty], one_shot=False)

    @property
    def is_open(self) -> bool:
        return bool(self._channel.is_open)

    @property
    def closed(self) -> asyncio.Future[Closed]:
        return self._closed

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
            lambda done: self._channel.exchange_declare(
                name,
                type,
                passive=passive,
                durable=durable,
                auto_delete=auto_delete,
                internal=internal,
                arguments=dict(arguments or {}),
                callback=done,
            )
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
        frame = await self._call(
            lambda done: self._channel.queue_declare(
                name,
                passive=passive,
                durable=durable,
                exclusive=exclusive,
                auto_delete=auto_delete,
                arguments=dict(arguments or {}),
                callback=done,
            )
        )
        ok = frame.method
        return QueueState(ok.queue, ok.message_count, ok.consumer_count)

    async def bind_queue(
        self,
        queue: str,
        exchange: str,
        routing_key: str,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        await self._call(
            lambda done: self._channel.queue_bind(
                queue, exchange, routing_key, dict(arguments or {}), callback=done
            )
        )

    async def bind_exchange(
        self,
        destination: str,
        source: str,
        routing_key: str,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        await self._call(
            lambda done: self._channel.exchange_bind(
                destination, source, routing_key, dict(arguments or {}), callback=done
            )
        )

    async def confirm_select(
        self,
        on_confirm: Callable[[int, bool, bool], None],
        on_return: Callable[[Returned], None],
    ) -> None:
        def confirmed(frame: Any) -> None:
            method = frame.method
            on_confirm(method.delivery_tag, method.multiple, isinstance(method, spec.Basic.Ack))

        def returned(_: Any, method: Any, properties: Any, __: bytes) -> None:
            on_return(
                Returned(
                    method.reply_code,
                    method.reply_text,
                    method.exchange,
                    method.routing_key,
                    pika_wire.from_pika(properties),
                )
            )

        self._channel.add_on_return_callback(returned)
        await self._call(lambda done: self._channel.confirm_delivery(confirmed, done))

    def publish(self, message: Message) -> int:
        self._ensure_open()
        try:
            self._channel.basic_publish(
                message.exchange,
                message.routing_key,
                message.body,
                pika_wire.to_pika(message.properties),
                mandatory=message.mandatory,
            )
        except HeaderTooLargeError as error:
            raise wire.too_large(message, *error.args) from error
        except pika_wire.ENCODING_ERRORS as error:
            raise wire.unencodable(message, error) from error
        self._published += 1
        return self._published

    async def qos(self, prefetch: int) -> None:
        await self._call(
            lambda done: self._channel.basic_qos(prefetch_count=prefetch, callback=done)
        )

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
        def delivered(_: Any, method: Any, properties: Any, body: bytes) -> None:
            on_delivery(pika_wire.incoming(method, properties, body))

        # Our own tag, so that a cancel in the same packet as consume-ok finds its callback.
        tag = f"mqkit-{uuid.uuid4().hex}"
        self._on_cancel[tag] = on_cancel
        await self._call(
            lambda done: self._channel.basic_consume(
                queue,
                delivered,
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
                self._on_cancel.pop(consumer_tag, None)
                done(frame)

            # Until it is answered the broker's own cancel may be on its way: it took messages back.
            self._channel.basic_cancel(consumer_tag, answered)
            # pika would reject what still arrives before cancel-ok. A reject counts towards
            # the delivery limit, and settling is not a driver's business.
            self._channel._cancelled.discard(consumer_tag)  # noqa: SLF001

        if consumer_tag in self._channel.consumer_tags:
            await self._call(send)

    async def get(self, queue: str) -> Incoming | None:
        async with self._get_lock:
            if self._got is not None:
                await asyncio.wait([self._got])  # its caller has gone; pika takes one at a time
            self._ensure_open()
            got: asyncio.Future[Incoming | None] = asyncio.get_running_loop().create_future()
            self._got = got
            self._waiting.add(got)
            got.add_done_callback(self._waiting.discard)
            self._channel.basic_get(
                queue,
                lambda _, method, properties, body: self._on_got(
                    pika_wire.incoming(method, properties, body)
                ),
            )
            try:
                return await asyncio.shield(got)
            except asyncio.CancelledError:
                got.add_done_callback(self._give_back)
                raise

    def ack(self, tag: int, multiple: bool = False) -> None:
        self._ensure_open()
        self._channel.basic_ack(tag, multiple)

    def nack(self, tag: int, *, requeue: bool) -> None:
        self._ensure_open()
        self._channel.basic_nack(tag, requeue=requeue)

    async def close(self) -> None:
        if self.is_open:
            self._channel.close()
        await asyncio.wait([self._closed], timeout=wire.CLOSE_TIMEOUT)

    async def _call(self, send: Callable[[Callable[[Any], None]], object]) -> Any:
        """Send a method and await its answer, which may come after the caller is gone."""
        self._ensure_open()
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def done(result: Any) -> None:
            if not future.done():
                future.set_result(result)

        self._waiting.add(future)
        try:
            send(done)
            return await future
        finally:
            self._waiting.discard(future)

    def _ensure_open(self) -> None:
        if not self._channel.is_open:
            why = self._closed.result() if self._closed.done() else Closed(0, "it is closing")
            raise ChannelClosedError(why.code, why.text)

    def _fail_waiting(self, closed: asyncio.Future[Closed]) -> None:
        why = closed.result()
        for future in list(self._waiting):
            if not future.done():
                future.set_exception(ChannelClosedError(why.code, why.text))

    def _on_broker_cancel(self, frame: Any) -> None:
        on_cancel = self._on_cancel.pop(str(frame.method.consumer_tag), None)
        if on_cancel is not None:
            on_cancel()

    def _on_get_empty(self, _: Any) -> None:
        self._on_got(None)

    def _on_got(self, incoming: Incoming | None) -> None:
        if self._got is not None and not self._got.done():
            self._got.set_result(incoming)

    def _give_back(self, got: asyncio.Future[Incoming | None]) -> None:
        """Requeue what nobody waits for; it would be held until the channel closes."""
        if got.exception() is None and (incoming := got.result()) is not None and self.is_open:
            self.nack(incoming.tag, requeue=True)
