"""The default driver, on pika's connection and the event loop's transports."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Any

from pika import exceptions
from pika.channel import Channel

from mqkit.drivers import common, refusals
from mqkit.drivers.base import Closed, Driver, DriverConnection
from mqkit.drivers.pika import convert
from mqkit.drivers.pika.channel import PikaChannel
from mqkit.drivers.pika.connection import StreamConnection
from mqkit.drivers.pika.stream import open_stream
from mqkit.settings import BrokerUrl, Host


class PikaDriver(Driver):
    """Opens pika's connections on the running event loop."""

    name = "pika"

    async def connect(
        self,
        url: BrokerUrl,
        host: Host,
        *,
        name: str,
        on_blocked: Callable[[str | None], None],
    ) -> PikaConnection:
        convert.quiet_pika()
        loop = asyncio.get_running_loop()
        opened: asyncio.Future[None] = loop.create_future()
        closed: asyncio.Future[Closed] = loop.create_future()

        def on_open(_: Any) -> None:
            if not opened.done():
                opened.set_result(None)

        def on_open_error(_: Any, error: BaseException) -> None:
            if not opened.done():
                opened.set_exception(convert.connect_error(error, url, host))

        def on_close(_: Any, reason: BaseException) -> None:
            if not closed.done():
                closed.set_result(convert.closed(reason))

        tls = common.tls_context(url.tls) if url.tls else None
        parameters = convert.parameters(url, host, name)
        connection = StreamConnection(parameters, on_open, on_open_error, on_close)
        connection.add_on_connection_blocked_callback(
            lambda _, frame: on_blocked(str(frame.method.reason))
        )
        connection.add_on_connection_unblocked_callback(lambda *_: on_blocked(None))
        within = asyncio.timeout(url.connect_timeout)
        try:
            async with within:
                await _open(connection, url, host, tls)
                await opened
        except BaseException as error:
            connection.abandon()
            opened.cancel()
            if isinstance(error, TimeoutError) and within.expired():
                raise refusals.not_in_time(host, url.connect_timeout) from error
            raise
        return PikaConnection(connection, closed)


async def _open(
    connection: StreamConnection, url: BrokerUrl, host: Host, tls: ssl.SSLContext | None
) -> None:
    """Connect to a host, and begin to speak AMQP.

    :raises ConnectError: there is no connection
    """
    server_name = (url.tls.server_name or host.name) if url.tls else None
    try:
        await open_stream(
            connection,
            host.name,
            host.port,
            tls,
            server_name=server_name,
            timeout=url.connect_timeout,
        )
    except Exception as error:
        raise convert.connect_error(error, url, host) from error


class PikaConnection(DriverConnection):
    """An open pika connection."""

    def __init__(self, connection: StreamConnection, closed: asyncio.Future[Closed]) -> None:
        self._connection = connection
        self._closed = closed
        self._server = common.product(connection.server_properties or {})

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
            why = convert.closed(reason)
            if not closed.done():
                closed.set_result(why)
            if not opened.done():
                opened.set_exception(why.error())

        try:
            channel = self._connection.channel(on_open_callback=on_open)
        except exceptions.ConnectionWrongStateError as error:
            raise common.NOT_OPEN.error() from error
        channel.add_on_close_callback(on_close)
        await opened
        return PikaChannel(self._connection, channel, closed)

    async def close(self) -> None:
        if self._connection.is_open:
            self._connection.close()
        done, _ = await asyncio.wait([self._closed], timeout=common.CLOSE_TIMEOUT)
        if not done:
            # pika has no public way to drop a stream whose peer does not answer.
            self._connection._terminate_stream(  # noqa: SLF001
                exceptions.StreamLostError("the broker did not answer connection.close")
            )
            await asyncio.wait([self._closed], timeout=common.CLOSE_TIMEOUT)
