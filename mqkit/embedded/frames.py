"""Bytes to frames and back, on pamqp.

pamqp decodes and encodes; this module cuts the stream into frames, holds the peer to the agreed
`frame_max`, and keeps content headers as they came.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from types import NoneType
from typing import Any

from pamqp import base, body, commands, constants, exceptions, frame, header, heartbeat

from mqkit.embedded.errors import ReplyError

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
    """A content header with the bytes that it was decoded from."""

    def __init__(self, raw: bytes, decoded: header.ContentHeader) -> None:
        super().__init__(decoded.weight, decoded.body_size, decoded.properties)
        self.content_class: int | None = decoded.class_id
        self.raw = raw


class _RawHeader(header.ContentHeader):
    """A content header that is written as the bytes it was given."""

    def __init__(self, raw: bytes) -> None:
        super().__init__()
        self._raw = raw

    def marshal(self) -> bytes:
        return self._raw


Frame = Method | ReceivedHeader | body.ContentBody | heartbeat.Heartbeat


class FrameReader:
    """Cuts a byte stream into frames. After an error the stream is of no use any more."""

    def __init__(self, frame_max: int) -> None:
        self.frame_max = frame_max
        """Bytes of a whole frame; 0 is no limit."""
        self._buffer = bytearray()
        self._again: tuple[int, Frame] | None = None

    def feed(self, data: bytes) -> None:
        """Take what was received."""
        self._buffer += data

    def take(self, count: int) -> bytes | None:
        """The first `count` bytes, or None while fewer are there."""
        if len(self._buffer) < count:
            return None
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        return data

    def peek(self, count: int) -> bytes:
        """The first `count` bytes, or as many as are there, left in place."""
        return bytes(self._buffer[:count])

    def clear(self) -> None:
        """Forget what was received and not read."""
        self._buffer.clear()
        self._again = None

    def put_back(self, channel: int, frame: Frame) -> None:
        """Give the frame that was read last once more; reading must stop after that."""
        self._again = (channel, frame)

    def __iter__(self) -> Iterator[tuple[int, Frame]]:
        """Channel number and frame, for each that is complete.

        :raises ReplyError: 501 or 502; what follows cannot be read
        """
        if self._again is not None:
            again, self._again = self._again, None
            yield again
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

    def _size(self, data: bytes, start: int) -> int | None:
        """Bytes of the frame that begins here, or None while it is incomplete."""
        kind, _, length = frame.frame_parts(data[start : start + constants.FRAME_HEADER_SIZE])
        if length is None:
            # Not to wait for ever for a frame that can be none.
            if len(data) > start and data[start] not in KNOWN_TYPES:
                raise ReplyError(501, f"type {data[start]} is no frame's")
            return None
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
    kind, channel, _ = frame.frame_parts(piece)
    payload = piece[constants.FRAME_HEADER_SIZE : -1]
    if kind == constants.FRAME_HEARTBEAT:
        if channel:
            raise ReplyError(505, f"a heartbeat on channel {channel}")
        if payload:
            raise ReplyError(501, "a heartbeat with a payload")
        return 0, heartbeat.Heartbeat()
    if kind == constants.FRAME_BODY:
        return channel, body.ContentBody(payload)
    try:
        decoded = frame.unmarshal(piece)[2]
    except MALFORMED as error:
        if kind != constants.FRAME_METHOD:
            raise ReplyError(502, "cannot decode a content header") from error
        if _is_unknown(payload):
            raise ReplyError(503, "no method of AMQP 0-9-1") from error
        about = int.from_bytes(payload[:2]), int.from_bytes(payload[2:4])
        raise ReplyError(501, "cannot decode a method", about=about) from error
    if isinstance(decoded, header.ContentHeader):
        return channel, ReceivedHeader(payload, decoded)
    assert isinstance(decoded, base.Frame)
    return channel, decoded


def _is_unknown(payload: bytes) -> bool:
    """True if the first four bytes name no method of the specification."""
    return int.from_bytes(payload[:4]) not in commands.INDEX_MAPPING


class Deliver(commands.Basic.Deliver):
    """pamqp holds names to the specification's letters on writing; RabbitMQ allows all of UTF-8."""

    def validate(self) -> None:
        """Any name that could be declared can be delivered from."""


class GetOk(commands.Basic.GetOk):
    """As `Deliver`."""

    def validate(self) -> None:
        """As `Deliver`."""


class Return(commands.Basic.Return):
    """As `Deliver`."""

    def validate(self) -> None:
        """As `Deliver`."""


class QueueDeclareOk(commands.Queue.DeclareOk):
    """As `Deliver`."""

    def validate(self) -> None:
        """As `Deliver`."""


def type_name(value: Any) -> str:
    """What RabbitMQ calls the type of a table's value.

    Which of the integer types it was on the wire is no longer known here.
    """
    return TYPE_NAMES.get(type(value), "longstr")


def ids(value: Method) -> tuple[int, int]:
    """The class and method numbers, as `close` methods name what they are about."""
    return value.index >> 16, value.index & 0xFFFF


def method(channel: int, value: Method) -> bytes:
    """A method frame."""
    return frame.marshal(value, channel)


def encode_header(properties: commands.Basic.Properties, body_size: int) -> bytes:
    """The payload of a content header frame."""
    return header.ContentHeader(0, body_size, properties).marshal()


def decode_header(raw: bytes) -> ReceivedHeader:
    """A content header from the payload of its frame.

    :raises ValueError: it is none
    """
    decoded = header.ContentHeader()
    decoded.unmarshal(raw)
    return ReceivedHeader(raw, decoded)


def content(channel: int, content_header: bytes, payload: bytes, frame_max: int) -> bytes:
    """Header and body frames, no frame larger than `frame_max` (0: no limit)."""
    parts = [frame.marshal(_RawHeader(content_header), channel)]
    step = frame_max - FRAME_OVERHEAD if frame_max else max(len(payload), 1)
    parts += [
        frame.marshal(body.ContentBody(payload[at : at + step]), channel)
        for at in range(0, len(payload), step)
    ]
    return b"".join(parts)
