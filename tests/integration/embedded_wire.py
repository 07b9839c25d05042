"""A client of the embedded broker on a real socket, frame by frame, that may behave badly."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any, TypeVar

from pamqp import base, body, commands, frame, header
from pamqp.heartbeat import Heartbeat

PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"

DEADLINE = 10.0
"""Seconds that an answer may take before a test fails."""

F = TypeVar("F")


def marshal(value: Any, channel: int = 1) -> bytes:
    """One frame's bytes."""
    return frame.marshal(value, channel)


def message(key: str, payload: bytes, *, mandatory: bool = False, **properties: Any) -> bytes:
    """A message's frames, to the default exchange."""
    head = header.ContentHeader(0, len(payload), commands.Basic.Properties(**properties))
    parts = [marshal(commands.Basic.Publish(0, "", key, mandatory)), marshal(head)]
    if payload:
        parts.append(marshal(body.ContentBody(payload)))
    return b"".join(parts)


class Wire:
    """A socket with a client's side of AMQP on it; it reads only when it is told to."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.largest = 0
        """Bytes of the largest frame that came."""

    def send(self, *values: Any, channel: int = 1) -> None:
        """Write frames."""
        self.writer.write(b"".join(marshal(value, channel) for value in values))

    async def read(self) -> Any:
        """The next frame; None at the end of the stream."""
        try:
            async with asyncio.timeout(DEADLINE):
                start = await self.reader.readexactly(7)
                rest = await self.reader.readexactly(int.from_bytes(start[3:]) + 1)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        self.largest = max(self.largest, len(start) + len(rest))
        return frame.unmarshal(start + rest)[2]

    async def until(self, kind: type[F]) -> F:
        """The next frame of a kind; others before it are dropped."""
        while True:
            value = await self.read()
            assert value is not None, f"the stream ended before {kind.__name__}"
            if isinstance(value, kind):
                return value

    async def call(self, value: base.Frame, answer: type[F], channel: int = 1) -> F:
        """Send a method and wait for its answer."""
        self.send(value, channel=channel)
        return await self.until(answer)

    async def ends(self) -> None:
        """Wait for the end of the stream, whatever comes before it."""
        while await self.read() is not None:
            pass

    async def body(self) -> bytes:
        """The body of the next message."""
        head = await self.until(header.ContentHeader)
        parts = []
        missing = head.body_size
        while missing:
            part = await self.until(body.ContentBody)
            parts.append(part.value)
            missing -= len(part.value)
        return b"".join(parts)

    async def open(self, *, heartbeat: int = 0, frame_max: int = 131072) -> None:
        """Shake hands, and open channel 1."""
        self.writer.write(PROTOCOL_HEADER)
        await self.until(commands.Connection.Start)
        properties: dict[str, Any] = {"capabilities": {"connection.blocked": True}}
        self.send(commands.Connection.StartOk(properties, "PLAIN", "\0guest\0guest"), channel=0)
        await self.until(commands.Connection.Tune)
        self.send(
            commands.Connection.TuneOk(2047, frame_max, heartbeat),
            commands.Connection.Open(),
            channel=0,
        )
        await self.until(commands.Connection.OpenOk)
        await self.call(commands.Channel.Open(), commands.Channel.OpenOk)

    def beat(self) -> None:
        """Send a heartbeat."""
        self.send(Heartbeat(), channel=0)

    def drop(self) -> None:
        """End without a word."""
        self.writer.transport.abort()


@contextlib.asynccontextmanager
async def connected(
    port: int, host: str = "127.0.0.1", *, receive_buffer: int | None = None
) -> AsyncIterator[Wire]:
    """A socket to the broker, before the handshake.

    :param receive_buffer: bytes that the kernel may take while nobody reads
    """
    if receive_buffer is None:
        reader, writer = await asyncio.open_connection(host, port)
    else:
        plain = socket.socket()
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        plain.setblocking(False)
        await asyncio.get_running_loop().sock_connect(plain, (host, port))
        reader, writer = await asyncio.open_connection(sock=plain, limit=receive_buffer)
    try:
        yield Wire(reader, writer)
    finally:
        writer.transport.abort()
