"""Cuts a byte stream into frames, and writes frames.

pamqp decodes and encodes; this module cuts the stream into frames, holds the peer to the agreed
`frame_max`, and keeps content headers as they came.
"""

from __future__ import annotations

import struct
import warnings
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from types import NoneType
from typing import Any

from pamqp import base, body, commands, constants, exceptions, frame, header, heartbeat

from mqkit.embedded.errors import ReplyError
from mqkit.embedded.wire import received

FRAME_OVERHEAD = constants.FRAME_HEADER_SIZE + 1
"""Bytes of a frame besides its payload (AMQP 0-9-1, section 4.2.3)."""

PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"
"""AMQP 0-9-1, section 4.2.2."""

HEARTBEAT = heartbeat.Heartbeat().marshal()

MALFORMED = (
    exceptions.PAMQPException,
    ValueError,  # UnicodeDecodeError is one
    TypeError,
    LookupError,
    ArithmeticError,
    OSError,  # a timestamp out of the platform's range
    struct.error,
    RecursionError,  # tables within tables
)
"""What pamqp raises for bytes that are no frame."""

RECOVER_ASYNC = commands.Basic.RecoverAsync.index.to_bytes(4)

PUBLISH = commands.Basic.Publish.index.to_bytes(4)

CLOSE_OK = frame.marshal(commands.Connection.CloseOk(), 0)

_START = struct.Struct(">BHI")
"""Type, channel and length of the payload: how a frame begins."""

KNOWN_TYPES = (
    constants.FRAME_METHOD,
    constants.FRAME_HEADER,
    constants.FRAME_BODY,
    constants.FRAME_HEARTBEAT,
)

TYPE_NAMES: Mapping[type, str] = {
    bool: "bool",
    int: "signedint",
    float: "double",
    Decimal: "decimal",
    bytearray: "binary",
    datetime: "timestamp",
    dict: "table",
    list: "array",
    NoneType: "void",
}

Method = base.Frame


class ReceivedHeader(header.ContentHeader):
    """A content header with the bytes that it is passed on as.

    :raises ReplyError: 541, it is none
    """

    def __init__(self, payload: bytes) -> None:
        self.raw, self.content_class, weight, size, properties = received.read(payload)
        super().__init__(weight, size, properties)


class _RawHeader(header.ContentHeader):
    """A content header that is written as the bytes it was given."""

    def __init__(self, raw: bytes) -> None:
        super().__init__()
        self._raw = raw

    def marshal(self) -> bytes:
        return self._raw


Frame = Method | ReceivedHeader | body.ContentBody | heartbeat.Heartbeat


class FrameReader:
    """Cuts a byte stream into frames."""

    def __init__(self, frame_max: int) -> None:
        self.frame_max = frame_max
        """Bytes of a whole frame; 0 is no limit."""
        self._buffer = bytearray()
        self._is_lost = False

    def feed(self, data: bytes) -> None:
        """Add bytes that were received."""
        self._buffer += data

    def take(self, count: int) -> bytes | None:
        """Remove and return the first `count` bytes, or None while fewer are there."""
        if len(self._buffer) < count:
            return None
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        return data

    def peek(self, count: int) -> bytes:
        """Return the first `count` bytes, or as many as are there, and leave them in place."""
        return bytes(self._buffer[:count])

    def clear(self) -> None:
        """Drop what was received and not read."""
        self._buffer.clear()

    def __iter__(self) -> Iterator[tuple[int, Frame]]:
        """Return channel number and frame of each frame that is complete.

        After a 501 nobody knows where the next frame begins: only `connection.close-ok` is looked
        for, which the peer sends on being told so.

        :raises ReplyError: 501, the stream is of no use any more; 502 or 503, this frame is not
        """
        if self._is_lost:
            if CLOSE_OK in self._buffer:
                yield 0, commands.Connection.CloseOk()
            del self._buffer[: 1 - len(CLOSE_OK)]
            return
        if self._size(self._buffer, 0) is None:
            return
        start = 0
        try:
            # One copy of the whole, not a removal from the front per frame.
            data = bytes(self._buffer)
            while (size := self._size(data, start)) is not None:
                piece = data[start : start + size]
                start += size
                yield _decode(piece)
        finally:
            del self._buffer[:start]

    def _size(self, data: bytes | bytearray, start: int) -> int | None:
        """Return the bytes of the frame that begins here, or None while it is incomplete."""
        try:
            return self._measure(data, start)
        except ReplyError:
            self._is_lost = True
            raise

    def _measure(self, data: bytes | bytearray, start: int) -> int | None:
        if len(data) < start + constants.FRAME_HEADER_SIZE:
            # Not to wait for ever for a frame that can be none.
            if len(data) > start and data[start] not in KNOWN_TYPES:
                raise ReplyError(501, f"type {data[start]} is no frame's")
            return None
        kind, _, length = _START.unpack_from(data, start)
        if kind not in KNOWN_TYPES:
            raise ReplyError(501, f"type {kind} is no frame's")
        size = int(length) + FRAME_OVERHEAD
        # As lenient as RabbitMQ: there are clients that count the payload alone.
        if self.frame_max and size > self.frame_max + FRAME_OVERHEAD:
            raise ReplyError(501, f"a frame of {size} bytes is over frame_max {self.frame_max}")
        if len(data) - start < size:
            return None
        if data[start + size - 1] != constants.FRAME_END:
            raise ReplyError(501, f"a frame of type {kind} does not end with its end octet")
        return size


def _decode(piece: bytes) -> tuple[int, Frame]:
    kind, channel, _ = _START.unpack_from(piece)
    payload = piece[constants.FRAME_HEADER_SIZE : -1]
    if kind == constants.FRAME_HEARTBEAT:
        if channel:
            raise ReplyError(505, f"a heartbeat on channel {channel}")
        if payload:
            raise ReplyError(501, "a heartbeat with a payload")
        return 0, heartbeat.Heartbeat()
    if kind == constants.FRAME_BODY:
        return channel, body.ContentBody(payload)
    if kind == constants.FRAME_HEADER and not channel:
        raise ReplyError(505, "content on channel 0")
    if kind == constants.FRAME_HEADER:
        return channel, ReceivedHeader(payload)
    try:
        if payload.startswith(RECOVER_ASYNC):
            with warnings.catch_warnings():
                # pamqp warns whoever builds it that it is deprecated; here a peer has sent it.
                warnings.simplefilter("ignore", DeprecationWarning)
                decoded = frame.unmarshal(piece)[2]
        else:
            decoded = frame.unmarshal(piece)[2]
    except MALFORMED as error:
        if not payload.startswith(PUBLISH) or (found := _publish(payload)) is None:
            raise _undecodable(payload) from error
        return channel, found
    assert isinstance(decoded, base.Frame)
    return channel, decoded


def _publish(payload: bytes) -> commands.Basic.Publish | None:
    """Decode a `basic.publish` whose routing key is no UTF-8, which RabbitMQ takes; else None."""
    try:
        start = 7 + payload[6]  # after the method, the ticket and the exchange
        end = start + 1 + payload[start]
        found = commands.Basic.Publish()
        found.unmarshal(payload[4:start] + b"\0" + payload[end:])
        found.routing_key = payload[start + 1 : end].decode("utf-8", "surrogateescape")
    except MALFORMED:
        return None
    return found


def _undecodable(payload: bytes) -> ReplyError:
    if int.from_bytes(payload[:4]) not in commands.INDEX_MAPPING:
        return ReplyError(503, "no method of AMQP 0-9-1")
    about = int.from_bytes(payload[:2]), int.from_bytes(payload[2:4])
    return ReplyError(501, "cannot decode a method", about=about)


class Deliver(commands.Basic.Deliver):
    """A `basic.deliver` with any names: pamqp writes those of the specification only.

    And a routing key may be any bytes, of which those that are no UTF-8 are surrogates here.
    """

    def validate(self) -> None:
        """Allow any name: what could be declared can be delivered from."""

    def marshal(self) -> bytes:
        """Write the frame; pamqp calls this."""
        return _with_key(self, super().marshal)


class GetOk(commands.Basic.GetOk):
    """A `basic.get-ok` with any names, as `Deliver`."""

    def validate(self) -> None:
        """As `Deliver`."""

    def marshal(self) -> bytes:
        """As `Deliver`."""
        return _with_key(self, super().marshal, after=4)


class Return(commands.Basic.Return):
    """A `basic.return` with any names, as `Deliver`."""

    def validate(self) -> None:
        """As `Deliver`."""

    def marshal(self) -> bytes:
        """As `Deliver`."""
        return _with_key(self, super().marshal)


def _with_key(
    method: Deliver | GetOk | Return, marshal: Callable[[], bytes], after: int = 0
) -> bytes:
    """Write a method with any routing key, which `after` bytes follow."""
    key = method.routing_key or ""
    if key.isascii():
        return marshal()
    encoded = key.encode("utf-8", "surrogateescape")
    method.routing_key = ""
    data = marshal()
    method.routing_key = key
    end = len(data) - after
    return data[: end - 1] + len(encoded).to_bytes(1) + encoded + data[end:]


class ChannelOpenOk(commands.Channel.OpenOk):
    """A `channel.open-ok` with the empty long string that RabbitMQ sends; pamqp writes "0".

    There are clients that read these four octets as a number and go wrong over any other.
    """

    def __init__(self) -> None:
        super().__init__("")

    def validate(self) -> None:
        """Allow the empty string."""


class QueueDeclareOk(commands.Queue.DeclareOk):
    """A `queue.declare-ok` with any name, as `Deliver`."""

    def validate(self) -> None:
        """As `Deliver`."""


def type_name(value: Any) -> str:
    """Return what RabbitMQ calls the type of a table's value.

    Which of the integer types it was on the wire is no longer known here.
    """
    return TYPE_NAMES.get(type(value), "longstr")


def ids(value: Method) -> tuple[int, int]:
    """Return the class and method numbers, as `close` methods name what they are about."""
    return value.index >> 16, value.index & 0xFFFF


def method(channel: int, value: Method) -> bytes:
    """Write a method frame."""
    return frame.marshal(value, channel)


def content(channel: int, content_header: bytes, payload: bytes, frame_max: int) -> bytes:
    """Write header and body frames, none larger than `frame_max` (0: no limit)."""
    parts = [frame.marshal(_RawHeader(content_header), channel)]
    step = frame_max - FRAME_OVERHEAD if frame_max else max(len(payload), 1)
    parts += [
        frame.marshal(body.ContentBody(payload[at : at + step]), channel)
        for at in range(0, len(payload), step)
    ]
    return b"".join(parts)
