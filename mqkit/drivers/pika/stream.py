"""pika's connection on the event loop's transports: asyncio's, uvloop's, or simulated ones.

pika (1.4.4) opens sockets itself, and waits for them with readers and writers of the loop, which
neither Windows' usual loop nor a simulated one has.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Callable
from typing import Any, cast

import pika
from pika import exceptions
from pika.connection import Connection

from mqkit.drivers.pika.mixin import ConnectionMixin

RECEIVE = 64 * 1024
"""Bytes asked of the socket at a time: asyncio would ask for 256 KiB, and a turn of the loop that
handles as many messages keeps all else waiting."""


class LoopConnection(ConnectionMixin, Connection, asyncio.Protocol):  # type: ignore[misc]
    """A connection of pika's that is the protocol of a transport; `open_stream` connects it."""

    def __init__(
        self,
        parameters: pika.ConnectionParameters,
        on_open: Callable[[Any], None],
        on_open_error: Callable[[Any, BaseException], None],
        on_close: Callable[[Any, BaseException], None],
    ) -> None:
        """Connect to nothing yet; belongs to the running loop."""
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._failure: Exception | None = None
        self._got_eof = False
        self._is_abandoned = False
        super().__init__(
            parameters, on_open, on_open_error, on_close, internal_connection_workflow=False
        )

    def abandon(self) -> None:
        """Give up a connection that is not open; nobody hears of its end."""
        self._is_abandoned = True
        if self._transport is not None:
            self._remove_heartbeat()
            self._transport.abort()

    # What the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if isinstance(getattr(transport, "max_size", None), int):
            transport.max_size = RECEIVE  # type: ignore[attr-defined]
        if self._is_abandoned:
            self._transport.abort()
        else:
            self._on_stream_connected()

    def data_received(self, data: bytes) -> None:
        try:
            self._on_data_available(data)
        except Exception as error:  # noqa: BLE001 - it is the reason of the connection's end
            self._failure = error
            if self._transport is not None:
                self._transport.abort()

    def eof_received(self) -> None:
        self._got_eof = True
        # Closed only, it would wait until all is written, to a peer that may not read any more.
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        if self._is_abandoned:
            return
        error = self._failure or error
        if error is not None:
            error = exceptions.StreamLostError(f"Stream connection lost: {error!r}")
        elif self._got_eof or self._error is None:
            error = exceptions.StreamLostError("Transport indicated EOF")
        self._on_stream_terminated(error)

    # What pika calls

    def _adapter_connect_stream(self) -> None:
        raise AssertionError("it is connected by `open_stream`")

    def _adapter_disconnect_stream(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _adapter_emit_data(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def _adapter_call_later(self, delay: float, callback: Callable[[], None]) -> object:
        return self._loop.call_later(delay, callback)

    def _adapter_remove_timeout(self, timeout_id: Any) -> None:
        timeout_id.cancel()

    def _adapter_add_callback_threadsafe(self, callback: Callable[[], None]) -> None:
        self._loop.call_soon_threadsafe(callback)


async def open_stream(
    connection: LoopConnection,
    host: str,
    port: int,
    tls: ssl.SSLContext | None,
    *,
    server_name: str | None,
    timeout: float,  # noqa: ASYNC109 - of the TLS handshake, which has a timeout of its own
) -> None:
    """Connect to the first of a host's addresses that takes it.

    :param server_name: the name that the server's certificate must have
    :param timeout: seconds for all of it, which the caller sees to
    :raises OSError: there is no connection; of several addresses it is the last one's error
    :raises ValueError: the host's name, or the server's, cannot be one
    """
    loop = asyncio.get_running_loop()
    options: dict[str, Any] = {}
    if tls is not None:
        if server_name is not None:
            server_name.encode("idna")  # asyncio would say nothing, and wait for the handshake
        # Later than the caller's, whose words are clearer.
        options = {
            "ssl": tls,
            "server_hostname": server_name,
            "ssl_handshake_timeout": timeout + 1,
        }
    failure: OSError | None = None
    for address in await _addresses(loop, host, port):
        try:
            await loop.create_connection(lambda: connection, address, port, **options)
        except OSError as error:
            failure = error
        else:
            return
    try:
        raise failure or OSError(f"{host!r} has no address")
    finally:
        del failure  # its traceback has this frame


async def _addresses(loop: asyncio.AbstractEventLoop, host: str, port: int) -> list[str]:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))
    return [host]
