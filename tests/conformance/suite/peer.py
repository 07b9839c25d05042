"""A bare socket that speaks AMQP's frames, well or badly, as a case wants it."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from typing import Any, Self, TypeVar

from pamqp import base, commands, frame
from pamqp.heartbeat import Heartbeat

from mqkit.settings import BrokerUrl
from mqkit.testing.brokers.probe import PROTOCOL_HEADER
from tests.conformance.suite.consumer import ANSWER

FRAME_HEADER = struct.Struct(">BHI")

T = TypeVar("T")

CLIENT_PROPERTIES: dict[str, Any] = {
    "product": "conformance",
    "capabilities": {
        "authentication_failure_close": True,
        "basic.nack": True,
        "connection.blocked": True,
        "consumer_cancel_notify": True,
        "publisher_confirms": True,
    },
}


METHOD, HEADER, BODY = 1, 2, 3
"""Types of frames (AMQP 0-9-1, section 4.2.3)."""


def raw_frame(
    kind: int, channel: int, payload: bytes, *, size: int | None = None, end: int = 0xCE
) -> bytes:
    """A frame's bytes (AMQP 0-9-1, section 4.2.3), with a wrong size or end where given."""
    header = FRAME_HEADER.pack(kind, channel, len(payload) if size is None else size)
    return header + payload + bytes([end])


def content_header(size: int, properties: bytes = b"\0\0", class_id: int = 60) -> bytes:
    """The payload of a content header (AMQP 0-9-1, section 4.2.6.1); no properties at first."""
    return struct.pack(">HHQ", class_id, 0, size) + properties


def message_bytes(channel: int, key: str, payload: bytes, *, mandatory: bool = False) -> bytes:
    """The frames of a message to the queue of a name."""
    publish = commands.Basic.Publish(routing_key=key, mandatory=mandatory)
    content = raw_frame(BODY, channel, payload) if payload else b""
    return (
        frame.marshal(publish, channel)
        + raw_frame(HEADER, channel, content_header(len(payload)))
        + content
    )


class Peer:
    """One TCP connection to the broker."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, url: BrokerUrl
    ) -> None:
        self.url = url
        self.tune = commands.Connection.Tune()
        """What the broker proposed; set by `log_in`."""
        self._reader = reader
        self._writer = writer

    @classmethod
    async def connect(cls, host: str, port: int, url: BrokerUrl) -> Self:
        """Open the TCP connection."""
        reader, writer = await asyncio.open_connection(host, port)
        return cls(reader, writer, url)

    async def send_bytes(self, data: bytes) -> None:
        """Send bytes as they are; what the broker no longer reads is no error."""
        self._writer.write(data)
        try:
            await self._writer.drain()
        except ConnectionError:
            return

    async def send(self, value: frame.FrameTypes, channel: int = 0) -> None:
        """Send one frame."""
        await self.send_bytes(frame.marshal(value, channel))

    async def receive(self, within: float = ANSWER) -> tuple[int, frame.FrameTypes]:
        """The channel and the frame that the broker sends next; heartbeats are passed over.

        :raises EOFError: the broker closed the stream instead
        :raises AssertionError: nothing came within so many seconds
        """
        while True:
            data = await self._read(FRAME_HEADER.size, within)
            size = FRAME_HEADER.unpack(data)[2]
            data += await self._read(size + 1, within)
            _, channel, value = frame.unmarshal(data)
            if not isinstance(value, Heartbeat):
                return channel, value

    async def receive_bytes(self, count: int) -> bytes:
        """The next so many bytes.

        :raises EOFError: the broker closed the stream before
        """
        return await self._read(count, ANSWER)

    async def expect(self, kind: type[T], channel: int | None = None) -> T:
        """Claim that the next frame is of a kind, and return it."""
        number, value = await self.receive()
        assert isinstance(value, kind), f"{kind.__name__} was to come, not {_described(value)}"
        assert channel is None or number == channel, f"it came on channel {number}"
        return value

    async def expect_close(
        self,
        code: int,
        text: str = "",
        *,
        class_id: int | None = None,
        method_id: int | None = None,
    ) -> None:
        """Claim that the broker closes the connection with a code, and the stream after close-ok.

        What it had sent before `connection.close` is passed over.
        """
        close = await self._until(commands.Connection.Close)
        assert close.reply_code == code, f"closed with {close.reply_code}: {close.reply_text}"
        assert text in (close.reply_text or ""), f"{text!r} is not in {close.reply_text!r}"
        assert class_id is None or close.class_id == class_id, f"class {close.class_id}"
        assert method_id is None or close.method_id == method_id, f"method {close.method_id}"
        await self.send(commands.Connection.CloseOk())
        await self.expect_eof()

    async def expect_end(self) -> None:
        """Claim that the broker ends the connection, with words of its own or without."""
        with contextlib.suppress(EOFError):
            await self._until(commands.Connection.Close)
            await self.send(commands.Connection.CloseOk())
            await self.expect_eof()

    async def expect_channel_close(self, channel: int, code: int, text: str = "") -> None:
        """Claim that the broker closes the channel with a code; answers close-ok."""
        while True:
            number, close = await self.receive()
            assert not isinstance(close, commands.Connection.Close), _described(close)
            if isinstance(close, commands.Channel.Close) and number == channel:
                break
        assert close.reply_code == code, f"closed with {close.reply_code}: {close.reply_text}"
        assert text in (close.reply_text or ""), f"{text!r} is not in {close.reply_text!r}"
        await self.send(commands.Channel.CloseOk(), channel)

    async def expect_eof(self, within: float = ANSWER) -> None:
        """Claim that the broker closes the stream, sending nothing more."""
        try:
            data = await self._read(1, within)
        except EOFError:
            return
        raise AssertionError(f"more came: {data!r}")

    async def handshake(
        self,
        *,
        frame_max: int | None = None,
        channel_max: int | None = None,
        heartbeat: int = 0,
        username: str | None = None,
        password: str | None = None,
    ) -> commands.Connection.Start:
        """Say hello and log in, up to `tune-ok`; returns what the broker began with.

        The limits are those that the broker proposed (then in `tune`), unless given.
        """
        await self.send_bytes(PROTOCOL_HEADER)
        start = await self.expect(commands.Connection.Start)
        user = self.url.username if username is None else username
        secret = self.url.password.get_secret_value() if password is None else password
        await self.send(
            commands.Connection.StartOk(
                client_properties=CLIENT_PROPERTIES,
                mechanism="PLAIN",
                response=f"\0{user}\0{secret}",
                locale="en_US",
            )
        )
        self.tune = await self.expect(commands.Connection.Tune)
        await self.send(
            commands.Connection.TuneOk(
                channel_max=self.tune.channel_max if channel_max is None else channel_max,
                frame_max=self.tune.frame_max if frame_max is None else frame_max,
                heartbeat=heartbeat,
            )
        )
        return start

    async def open(
        self,
        vhost: str | None = None,
        *,
        frame_max: int | None = None,
        channel_max: int | None = None,
        heartbeat: int = 0,
    ) -> None:
        """Do the handshake and open the virtual host."""
        await self.handshake(frame_max=frame_max, channel_max=channel_max, heartbeat=heartbeat)
        virtual_host = self.url.vhost if vhost is None else vhost
        await self.send(commands.Connection.Open(virtual_host=virtual_host))
        await self.expect(commands.Connection.OpenOk)

    async def open_channel(self, number: int = 1) -> None:
        """Do `channel.open`."""
        await self.send(commands.Channel.Open(), number)
        await self.expect(commands.Channel.OpenOk, number)

    async def close(self) -> None:
        """Drop the connection without a word."""
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except ConnectionError:
            return  # the broker was first

    async def _until(self, kind: type[T]) -> T:
        while True:
            _, value = await self.receive()
            if isinstance(value, kind):
                return value

    async def _read(self, count: int, within: float) -> bytes:
        try:
            async with asyncio.timeout(within):
                return await self._reader.readexactly(count)
        except TimeoutError:
            raise AssertionError(f"the broker sent nothing within {within:g} s") from None
        except ConnectionError as error:
            raise EOFError("the broker reset the stream") from error


def _described(value: frame.FrameTypes) -> str:
    if isinstance(value, base.Frame):
        return f"{value.name} {dict(value)}"
    return repr(value)
