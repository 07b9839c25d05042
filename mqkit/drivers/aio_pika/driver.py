"""The driver for services whose application uses aio-pika: on aiormq, the library under that.

aio-pika's own classes are left aside where mqkit opens the connection itself: its plain connection
(10.2.1) never completes its `closed` when it is lost, and opens and drops streams that nobody can
reach. A connection that the application opened with aio-pika is used by `borrowed`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import aiormq

from mqkit.drivers import common, refusals
from mqkit.drivers.aio_pika.connection import AioPikaConnection, OwnedConnection
from mqkit.drivers.aio_pika.transport import Stream, address, connect_error
from mqkit.drivers.base import Closed, Driver
from mqkit.settings import BrokerUrl, Host

ABANDON_TIMEOUT = 1.0
"""Seconds that an attempt which is given up may take to clean up."""

END_TIMEOUT = 1.0
"""Seconds from the end of what the broker sends until what is not written yet is given up."""


class AioPikaDriver(Driver):
    """Opens aiormq connections, and looks itself whether the broker is silent."""

    name = "aio-pika"

    async def connect(
        self,
        url: BrokerUrl,
        host: Host,
        *,
        name: str,
        on_blocked: Callable[[str | None], None],
    ) -> AioPikaConnection:
        common.quiet("aiormq", "pamqp")
        stream = Stream(url, host)
        connection = _Aiormq(
            address(url, host),
            transport_factory=stream,
            client_properties={"connection_name": name, "product": "mqkit"},
        )
        connection.vhost = url.vhost  # aiormq would take '%2F' in a name for a '/'
        opening = asyncio.ensure_future(connection.connect())
        try:
            async with asyncio.timeout(url.connect_timeout):
                await asyncio.shield(opening)
        except BaseException as error:
            late = isinstance(error, TimeoutError) and not opening.done()
            # Without its stream it ends by itself. A task of aiormq's under it may have failed just
            # now, which a cancellation would leave unseen.
            if not stream.abort():
                opening.cancel()
            await asyncio.wait([opening], timeout=ABANDON_TIMEOUT)
            opening.cancel()
            if late:
                raise refusals.not_in_time(host, url.connect_timeout) from error
            if isinstance(error, Exception) or not _is_cancelled():
                raise connect_error(error, stream.refusal(), url, host) from error
            raise
        return _OwnConnection(connection, stream, on_blocked)


def _is_cancelled() -> bool:
    """Return whether the caller cancels; aiormq cancels its own tasks when it fails."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


class _Aiormq(aiormq.Connection):
    """aiormq's connection without its own look at the broker's silence, which is late.

    aiormq's own look at it (7.2.4) would come later, after three heartbeats and 3 s more, and goes
    by whole frames: on a slow network it takes a large one, or even a heartbeat, for silence.
    """

    HEARTBEAT_GRACE_MULTIPLIER = 1_000_000


class _OwnConnection(OwnedConnection):
    """A connection that mqkit opened, and gives up when the broker is silent.

    It looks itself for silence, and for the end of the stream: aiormq (7.2.4) is not done with that
    before all it had to write is gone, which nobody reads any more.
    """

    def __init__(
        self,
        connection: aiormq.Connection,
        stream: Stream,
        on_blocked: Callable[[str | None], None],
    ) -> None:
        super().__init__(connection, on_blocked)
        self._stream = stream
        self._end_of_stream: asyncio.TimerHandle | None = None
        stream.opened(self._on_end_of_stream, self.frame_max)
        self._watch = self._look_later()

    def end(self, why: Closed) -> None:
        self._watch.cancel()
        if self._end_of_stream is not None:
            self._end_of_stream.cancel()
        super().end(why)

    def _drop(self) -> None:
        self._stream.abort()

    def _on_end_of_stream(self) -> None:
        if not self._closed.done():
            loop = asyncio.get_running_loop()
            self._end_of_stream = loop.call_later(END_TIMEOUT, self._drop)

    def _look(self) -> None:
        if self._stream.monitor.left > 0:
            self._watch = self._look_later()
            return
        self.end(Closed(0, self._stream.monitor.why))
        self._drop()  # aiormq ends its own tasks when the stream ends

    def _look_later(self) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(self._stream.monitor.left, self._look)
