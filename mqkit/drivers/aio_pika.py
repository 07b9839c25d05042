"""The driver for services that are at home on aio-pika: on the aiormq connections under it.

aio-pika's own classes are left aside where mqkit opens the connection itself: its plain connection
(10.2.1) never completes its `closed` when it is lost, and opens and drops streams that nobody can
reach. A connection that the application opened with aio-pika is used by `aio_pika_lent`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import aiormq

from mqkit.drivers import wire
from mqkit.drivers.aio_pika_link import AioPikaConnection, OwnedConnection
from mqkit.drivers.aio_pika_stream import Stream, address, connect_error
from mqkit.drivers.base import Closed, Driver
from mqkit.settings import BrokerUrl, Host

ABANDON_TIMEOUT = 1.0
"""Seconds that an attempt which is given up may take to clean up."""

SILENCE = 2.0
"""Heartbeats; a broker that sends nothing for so long is gone. It sends one each half of one
(AMQP 0-9-1, section 4.2.7; https://www.rabbitmq.com/docs/heartbeats). aiormq itself waits for
three, and each a second longer."""


LOOKS = 4
"""How often in each heartbeat it is looked whether the broker is silent."""


class AioPikaDriver(Driver):
    """aio-pika's connections."""

    name = "aio-pika"

    async def connect(
        self,
        url: BrokerUrl,
        host: Host,
        *,
        name: str,
        on_blocked: Callable[[str | None], None],
    ) -> AioPikaConnection:
        wire.quiet("aiormq", "pamqp")
        stream = Stream(url, host)
        connection = aiormq.Connection(
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
            stream.abort()
            opening.cancel()
            await asyncio.wait([opening], timeout=ABANDON_TIMEOUT)
            if late:
                raise wire.not_in_time(host, url.connect_timeout) from error
            if isinstance(error, Exception) or not _is_cancelled():
                raise connect_error(error, stream.refusal(), host, url.vhost) from error
            raise
        return _OwnConnection(connection, stream, url.heartbeat, on_blocked)


def _is_cancelled() -> bool:
    """Whether it is the caller who cancels; aiormq cancels its own tasks when it fails."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


class _OwnConnection(OwnedConnection):
    """A connection that mqkit opened."""

    def __init__(
        self,
        connection: aiormq.Connection,
        stream: Stream,
        heartbeat: int,
        on_blocked: Callable[[str | None], None],
    ) -> None:
        super().__init__(connection, on_blocked)
        self._stream = stream
        self._heartbeat = heartbeat
        stream.opened()
        self._watch = asyncio.get_running_loop().call_later(heartbeat / LOOKS, self._look)

    def end(self, why: Closed) -> None:
        self._watch.cancel()
        super().end(why)

    def _drop(self) -> None:
        self._stream.abort()

    def _look(self) -> None:
        if self._stream.silence > SILENCE * self._heartbeat:
            self.end(Closed(0, wire.SILENT))
            self._drop()  # aiormq ends its own tasks when the stream ends
            return
        loop = asyncio.get_running_loop()
        self._watch = loop.call_later(self._heartbeat / LOOKS, self._look)
