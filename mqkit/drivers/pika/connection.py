"""pika's connection, with messages, acks and confirms read and written without pika.

pika (1.4.4) makes objects of every frame that comes, asks its callbacks, and sends each frame by a
system call of its own: three for a publish. Here the frames of messages go from the socket's bytes
to the channel's callbacks, and what is written in one turn of the loop is sent as one. All else
(opening, closing, declarations, heartbeats, what is returned) is pika's as before.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Iterable
from typing import Any

from pika import exceptions

from mqkit.amqp import content_header
from mqkit.drivers import common, frames
from mqkit.drivers.base import Incoming
from mqkit.drivers.pika.stream import LoopConnection
from mqkit.message import Properties, maker

_CONTENT_AND_CONFIRMS = (frames.DELIVER, frames.RETURN, frames.GET_OK, frames.ACK, frames.NACK)

_FRAME_START = frames.HEAD.size

_ACK = struct.Struct(">BHLLQBB")

_incoming = maker(Incoming)


def ack(channel: int, tag: int, *, multiple: bool) -> bytes:
    """Encode the frame of a `basic.ack` (AMQP 0-9-1, section 1.8.3.13)."""
    return _ACK.pack(frames.METHOD, channel, 13, frames.ACK, tag, multiple, frames.END)


class Inbound:
    """Reads the deliveries and confirms of one channel, which are not left to pika."""

    def __init__(self) -> None:
        self.on_delivery: dict[str, Callable[[Incoming], None]] = {}
        """By consumer tag; what comes for none of these is nobody's any more."""
        self.on_confirm: Callable[[int, bool, bool], None] | None = None
        self._method: tuple[str, int, bool, str, str] | None = None
        self._properties: Properties | None = None
        self._parts: list[bytes] = []
        self._missing = 0
        self.is_broken = False
        """Set where a frame could not be dealt with: what comes is of no use any more."""

    def take(self, kind: int, frame: bytes, at: int, end: int) -> bool:
        """Deal with the frame whose payload is from `at` to `end`; False leaves it to pika."""
        if self._method is not None:
            self._content(kind, frame, at, end)
            return True
        if kind != frames.METHOD:
            return self.is_broken
        (method,) = frames.METHOD_ID.unpack_from(frame, at)
        if self.is_broken:
            return method in _CONTENT_AND_CONFIRMS
        if method == frames.DELIVER:
            self._method = frames.deliver(frame, at + 4)
            return True
        if method in (frames.ACK, frames.NACK) and self.on_confirm is not None:
            tag, multiple = frames.confirm(frame, at + 4)
            self.on_confirm(tag, multiple, method == frames.ACK)
            return True
        return False

    def _content(self, kind: int, frame: bytes, at: int, end: int) -> None:
        if kind == frames.HEADER and self._properties is None:
            self._missing, self._properties = content_header.decode(frame, at, end)
        elif kind == frames.BODY and self._properties is not None:
            self._parts.append(frame[at:end])
            self._missing -= end - at
        else:
            raise exceptions.InvalidFrameError("a message's frames do not follow each other")
        if self._missing <= 0:
            self._deliver()

    def break_off(self) -> None:
        """Drop what still comes, but for the answers that a close waits for."""
        self.is_broken = True
        self.on_delivery.clear()
        self._method = None

    def _deliver(self) -> None:
        assert self._method is not None
        assert self._properties is not None
        consumer, tag, redelivered, exchange, routing_key = self._method
        properties, parts = self._properties, self._parts
        self._method = self._properties = None
        self._parts = []
        if (on_delivery := self.on_delivery.get(consumer)) is not None:
            body = parts[0] if len(parts) == 1 else b"".join(parts)
            on_delivery(_incoming(tag, redelivered, exchange, routing_key, properties, body))


class StreamConnection(LoopConnection):
    """Hands frames to channels before pika sees them, and writes many frames at once."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._inbound: dict[int, Inbound] = {}
        self._unsent: list[bytes | memoryview] = []
        super().__init__(*arguments, **options)

    @property
    def payload_max(self) -> int:
        """Bytes that a frame's payload may have."""
        return int(self._body_max_length)

    def attach(self, number: int) -> Inbound:
        """Let a channel take its frames, until `detach`."""
        inbound = self._inbound[number] = Inbound()
        return inbound

    def detach(self, number: int) -> None:
        """Leave the channel's frames to pika again."""
        self._inbound.pop(number, None)

    def emit(self, pieces: Iterable[bytes | memoryview]) -> None:
        """Write whole frames, after all that was written before, at the end of the loop's turn."""
        if not self._unsent:
            self._loop.call_soon(self._send_unsent)
        self._unsent.extend(pieces)

    def _adapter_emit_data(self, data: bytes) -> None:
        self.emit((data,))

    def _adapter_disconnect_stream(self) -> None:
        self._send_unsent()  # an answer to the broker's close, say
        super()._adapter_disconnect_stream()

    def _send_unsent(self) -> None:
        unsent, self._unsent = self._unsent, []
        transport = self._transport
        if transport is None or transport.is_closing():  # the connection was lost meanwhile
            return
        short: list[bytes | memoryview] = []
        for piece in unsent:
            if isinstance(piece, bytes):
                short.append(piece)
                continue
            _write(transport, short)
            short = []
            transport.write(piece)  # a long body, uncopied
        _write(transport, short)

    def _on_data_available(self, data: bytes) -> None:
        if self.connection_state != self.CONNECTION_OPEN:
            super()._on_data_available(data)
            return
        if self._heartbeat_checker is not None:
            self._heartbeat_checker.octets(len(data))
        buffer = self._frame_buffer + data if self._frame_buffer else data
        done = self._take_frames(buffer)
        self.bytes_received += done
        rest = self._frame_buffer = buffer[done:]
        if self._heartbeat_checker is not None:
            self._heartbeat_checker.frames(some=done > 0, rest=bool(rest))
        if len(rest) >= _FRAME_START and frames.HEAD.unpack_from(rest)[2] > self._body_max_length:
            raise exceptions.InvalidFrameError("a frame is larger than was agreed on")

    def _take_frames(self, buffer: bytes) -> int:
        """Deal with all whole frames; return how many bytes they are."""
        at, size = 0, len(buffer)
        while size - at > _FRAME_START:
            kind, number, length = frames.HEAD.unpack_from(buffer, at)
            start = at + _FRAME_START
            end = start + length
            if end >= size:
                break
            if buffer[end] != frames.END:
                raise exceptions.InvalidFrameError("Invalid FRAME_END marker")
            inbound = self._inbound.get(number)
            try:
                taken = inbound is not None and inbound.take(kind, buffer, start, end)
            except Exception:  # noqa: BLE001 - the rule of `common.defect`
                self._on_defect(number)
                taken = True
            if not taken:
                self._frame_buffer = buffer[at : end + 1]
                self._by_pika(number)
            at = end + 1
        return at

    def _by_pika(self, number: int) -> None:
        """Have pika deal with the frame that is in the buffer."""
        try:
            _, frame = self._read_frame()
            self._process_frame(frame)
        except Exception:
            if number not in self._inbound or not self.is_open:
                raise  # pika's own way to end the connection
            self._on_defect(number)

    def _on_defect(self, number: int) -> None:
        common.defect()
        if (inbound := self._inbound.get(number)) is not None:
            inbound.break_off()
        channel = self._channels.get(number)
        if channel is not None and channel.is_open:
            channel.close(common.INTERNAL_ERROR, common.DEFECT)


def _write(transport: asyncio.Transport, pieces: list[bytes | memoryview]) -> None:
    if pieces:
        transport.write(pieces[0] if len(pieces) == 1 else b"".join(pieces))
