"""Opens the stream under an aiormq connection, and makes the errors of attempts that fail."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import aiormq
import yarl
from aiormq.connection import TransportFactory
from pamqp import commands
from pamqp import frame as pamqp_frame
from pamqp.exceptions import PAMQPException, UnmarshalingException

from mqkit.clock import loop_clock
from mqkit.drivers import common, refusals
from mqkit.drivers.aio_pika import convert
from mqkit.drivers.heartbeat import HeartbeatMonitor
from mqkit.errors import ConnectError
from mqkit.settings import BrokerUrl, Host

MAX_HEARTBEAT = 65534
"""Seconds; aiormq (7.2.4) takes 65535 for 'off'."""

ACCESS_REFUSED = 403
NOT_ALLOWED = 530


class NotAmqpError(Exception):
    """The peer's first bytes are no broker's."""


def address(url: BrokerUrl, host: Host) -> yarl.URL:
    """Make the URL that aiormq reads user, vhost and heartbeat from; the stream has the rest."""
    return yarl.URL.build(
        scheme="amqps" if url.tls else "amqp",
        host="broker",  # yarl refuses some names; the stream goes to the true one
        port=host.port,
        user=url.username,
        password=url.password.get_secret_value(),
        path="/",
        query={"heartbeat": str(min(url.heartbeat, MAX_HEARTBEAT))},
    )


class Stream(TransportFactory):
    """Opens the stream of one aiormq connection, drops it, and measures its silence.

    :raises BrokerUrlError: the URL's TLS files cannot be used
    """

    def __init__(self, url: BrokerUrl, host: Host) -> None:
        self._host = host
        self._tls = common.tls_context(url.tls) if url.tls else None
        self._server_name = (url.tls.server_name or host.name) if url.tls else None
        self.monitor = HeartbeatMonitor(url.heartbeat, loop_clock())
        """How long the peer may still say nothing."""
        self._reader: _Reader | None = None
        self._transport: asyncio.WriteTransport | None = None

    async def create(
        self,
        url: yarl.URL,  # noqa: ARG002 - the stream goes to the host that it was made for
        **_: Any,
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open the stream; called by aiormq when it connects."""
        loop = asyncio.get_running_loop()
        reader = self._reader = _Reader(self.monitor, loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        transport, _protocol = await loop.create_connection(
            lambda: protocol,
            self._host.name,
            self._host.port,
            ssl=self._tls,
            server_hostname=self._server_name,
        )
        self._transport = transport
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)

    def opened(self, on_end: Callable[[], None], frame_max: int) -> None:
        """Note that the connection is open; call `on_end` when the peer ends the stream.

        What the peer sends is no longer kept.

        From now on no frame is larger than `frame_max` octets; 0 is no limit.
        """
        if self._reader is not None:
            self._reader.words = None
            self._reader.frame_max = frame_max
            self._reader.ended.add_done_callback(lambda _: on_end())

    def refusal(self) -> commands.Connection.Close | None:
        """Return the `connection.close` by which the broker refused to open, if it sent one."""
        words = bytes(self._reader.words or b"") if self._reader is not None else b""
        try:
            while words:
                size, _, frame = pamqp_frame.unmarshal(words)
                if isinstance(frame, commands.Connection.Close):
                    return frame
                words = words[size:]
        except PAMQPException:
            return None
        return None

    def abort(self) -> bool:
        """Drop the stream at once, with what is not sent yet; tell whether there was one."""
        if self._transport is None:
            return False
        self._transport.abort()
        return True


class _Reader(asyncio.StreamReader):
    """Reads frames as wholes, and notes when octets come and when the stream ends.

    aiormq reads a frame in three parts: its type, its channel and size, its payload and end.
    Here it is read as a whole, and given out as `convert.passed_by` says.
    """

    def __init__(self, monitor: HeartbeatMonitor, *, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self._monitor = monitor
        self.ended: asyncio.Future[None] = loop.create_future()
        """Done when the peer says nothing more."""
        self.words: bytearray | None = bytearray()
        self._parts: list[bytes] = []
        self.frame_max = 0

    def feed_data(self, data: Any) -> None:
        self._monitor.received(len(data))
        if self.words is not None:
            self.words += data
            if problem := refusals.stranger(bytes(self.words)):
                # aiormq would take the peer's words for a frame's length, and wait for the rest.
                self.set_exception(NotAmqpError(problem))
                return
        super().feed_data(data)

    def feed_eof(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)
        super().feed_eof()

    async def readexactly(self, n: int) -> bytes:  # noqa: ARG002 - the parts are read as wholes
        """Return the next part of a frame; called by aiormq."""
        if not self._parts:
            self._parts = await self._read_frame()
        return self._parts.pop()

    async def _read_frame(self) -> list[bytes]:
        (kind,) = await self._read(_TYPE)
        start = await self._read(_CHANNEL_AND_SIZE)
        rest = await self._read(int.from_bytes(start[2:]) + 1)
        kind, payload = convert.passed_by(kind, rest[:-1])
        return [payload + rest[-1:], start[:2] + len(payload).to_bytes(4), bytes((kind,))]

    async def _read(self, n: int) -> bytes:
        if self.frame_max and n > self.frame_max:
            raise UnmarshalingException("it is larger than was agreed on", n)
        self._monitor.frame_state(whole=n == _TYPE)
        return await super().readexactly(n)


_TYPE, _CHANNEL_AND_SIZE = 1, 6
"""Bytes of the first two parts of a frame (AMQP 0-9-1, section 4.2.3)."""


def connect_error(
    error: BaseException, refusal: commands.Connection.Close | None, url: BrokerUrl, host: Host
) -> ConnectError:
    """Make the error for a connection that could not be opened."""
    code = refusal.reply_code if refusal is not None else None
    if code == ACCESS_REFUSED or isinstance(
        error, aiormq.exceptions.AuthenticationError | aiormq.exceptions.ProbableAuthenticationError
    ):
        return refusals.login_refused(host)
    if code == NOT_ALLOWED:
        return refusals.vhost_refused(host, url.vhost)
    if refusal is not None:
        return ConnectError(
            f"no connection to the broker at {host}: ({code}) {refusal.reply_text!r}"
        )
    if isinstance(error, aiormq.exceptions.IncompatibleProtocolError):
        return refusals.not_amqp(host)
    if isinstance(error.__cause__, asyncio.IncompleteReadError | ConnectionError):
        return refusals.no_word(url, host)
    return refusals.no_connection(url, host, error)
