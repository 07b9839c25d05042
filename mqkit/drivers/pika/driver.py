"""The default driver, on `pika.adapters.asyncio_connection`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any

from pika import exceptions
from pika.channel import Channel

from mqkit.drivers import common, refusals
from mqkit.drivers.base import Closed, Driver, DriverConnection
from mqkit.drivers.pika import convert
from mqkit.drivers.pika.channel import PikaChannel
from mqkit.drivers.pika.connection import StreamConnection
from mqkit.errors import ConfigurationError
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
        _check_loop(loop)
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

        parameters = convert.parameters(url, host, name)
        parameters.stack_timeout = None  # it would still pass after the attempt was given up
        try:
            connection = StreamConnection(parameters, on_open, on_open_error, on_close, loop)
        except Exception as error:
            raise convert.connect_error(error, url, host) from error
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
                raise refusals.not_in_time(host, url.connect_timeout) from error
            raise
        return PikaConnection(connection, closed)


def _check_loop(loop: asyncio.AbstractEventLoop) -> None:
    """Check that pika can wait for a socket on this event loop.

    :raises ConfigurationError: it cannot, and would say so anew at each attempt to connect
    """
    if sys.platform == "win32" and not isinstance(loop, asyncio.SelectorEventLoop):
        raise ConfigurationError(
            "the driver pika needs asyncio.SelectorEventLoop, which is not the usual loop on "
            "Windows: run on that, or take the driver aio-pika"
        )


def _abandon(connection: StreamConnection, opened: asyncio.Future[None]) -> None:
    connection.abandon()
    # Nobody awaits it any more; an error that still arrives is the abort's own.
    opened.add_done_callback(lambda f: f.cancelled() or f.exception())


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
