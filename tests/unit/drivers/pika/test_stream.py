"""pika's connection as the protocol of a transport: where it connects, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any

import pika
import pytest
from pika import exceptions

from mqkit.drivers.pika.stream import LoopConnection, open_stream


class Transport(asyncio.Transport):
    """A transport that notes what it is asked."""

    def __init__(self, connection: LoopConnection) -> None:
        super().__init__()
        self.connection = connection
        self.written: list[bytes] = []

    def write(self, data: Any) -> None:
        self.written.append(bytes(data))

    def abort(self) -> None:
        asyncio.get_running_loop().call_soon(self.connection.connection_lost, None)


def made() -> tuple[LoopConnection, list[BaseException]]:
    """A connection, and the errors by which it ended before it was open."""
    errors: list[BaseException] = []
    connection = LoopConnection(
        pika.ConnectionParameters(), lambda _: None, lambda _, e: errors.append(e), lambda *_: None
    )
    return connection, errors


def connected() -> tuple[LoopConnection, Transport, list[BaseException]]:
    """A connection whose stream is there."""
    connection, errors = made()
    transport = Transport(connection)
    connection.connection_made(transport)
    return connection, transport, errors


async def test_it_begins_with_the_protocols_header() -> None:
    """As soon as there is a stream (AMQP 0-9-1, section 4.2.2)."""
    _, transport, _ = connected()
    assert transport.written == [b"AMQP\0\0\x09\x01"]


async def test_what_is_no_frame_ends_the_stream_with_the_reason() -> None:
    """The loop does not hear of it: it would only log it."""
    connection, _, errors = connected()
    connection.data_received(b"HTTP/1.1 400")
    await asyncio.sleep(0)
    (error,) = errors
    assert isinstance(error, exceptions.IncompatibleProtocolError)
    assert "first byte" in str(error)


async def test_the_end_of_the_peers_stream_is_the_connections() -> None:
    """It is not waited for until all is written, to a peer that may read no more."""
    connection, _, errors = connected()
    connection.eof_received()
    await asyncio.sleep(0)
    assert "Transport indicated EOF" in str(errors)


async def test_an_abandoned_connection_tells_nobody() -> None:
    """Its stream ends, also one that comes only then."""
    connection, _, errors = connected()
    connection.abandon()
    late, late_errors = made()
    late.abandon()
    late.connection_made(Transport(late))
    await asyncio.sleep(0)
    assert errors == late_errors == []


async def test_each_address_of_a_host_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first that takes it has it; where none does, the last one's error is raised."""
    loop = asyncio.get_running_loop()
    tried: list[str] = []

    async def addresses(*_: Any, **__: Any) -> list[Any]:
        return [(0, 0, 0, "", (host, 1)) for host in ("::2", "10.0.0.1", "10.0.0.1", "10.0.0.2")]

    async def connect(_: Any, host: str, *__: Any, **___: Any) -> tuple[None, None]:
        tried.append(host)
        if host != good:
            raise OSError(f"not {host}")
        return None, None

    monkeypatch.setattr(loop, "getaddrinfo", addresses)
    monkeypatch.setattr(loop, "create_connection", connect)
    for good, expected in (("10.0.0.1", 2), ("", 3)):
        tried.clear()
        wrong = (
            contextlib.nullcontext() if good else pytest.raises(OSError, match=r"not 10\.0\.0\.2")
        )
        with wrong:
            await open_stream(made()[0], "broker", 1, None, server_name=None, timeout=1)
        assert tried == ["::2", "10.0.0.1", "10.0.0.2"][:expected]


async def test_an_address_is_not_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """It needs no resolver, which takes a thread."""
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", None)
    with socket.create_server(("127.0.0.1", 0)) as server:
        connection, _ = made()
        port = server.getsockname()[1]
        await open_stream(connection, "127.0.0.1", port, None, server_name=None, timeout=1)
        assert connection._transport is not None
        connection.abandon()
        await asyncio.sleep(0)
