"""The frames of messages as bytes, for the hot path: read and written with no object in between.

The pika driver uses these for what comes and goes with every message. The values and the bytes are
those of pika's own codec, to which everything unusual is left; tests hold the two together.
Layouts: AMQP 0-9-1, sections 2.3.5 "Frame details" and 4.2; the order of the fields, 1.8 "Basic".
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

from pika import data as codec
from pika import exceptions

from mqkit.drivers import unreadable, wire
from mqkit.frozen import maker
from mqkit.message import HeaderValue, Message, Properties

METHOD, HEADER, BODY = 1, 2, 3
"""Types of frames."""

END = 0xCE
HEAD = struct.Struct(">BHL")
"""What a frame begins with: its type, channel, and its payload's size."""

DELIVER, ACK, NACK = 0x003C003C, 0x003C0050, 0x003C0078
"""`basic.deliver`, and what confirms are: `basic.ack` and `basic.nack`."""

METHOD_ID = struct.Struct(">L")
_BODY_SIZE = struct.Struct(">Q")
_TAG_AND_FLAGS = struct.Struct(">QB")
_FLAGS = struct.Struct(">H")
_TIME = struct.Struct(">Q")

_MULTIPLE = _REDELIVERED = 1


def confirm(frame: bytes, at: int) -> tuple[int, bool]:
    """The delivery tag of a confirm whose fields begin at `at`, and whether it is `multiple`."""
    tag, flags = _TAG_AND_FLAGS.unpack_from(frame, at)
    return tag, bool(flags & _MULTIPLE)


def deliver(frame: bytes, at: int) -> tuple[str, int, bool, str, str]:
    """Of a `basic.deliver`: consumer tag, delivery tag, redelivered, exchange, routing key."""
    end = at + 1 + frame[at]
    consumer = frame[at + 1 : end].decode()
    tag, flags = _TAG_AND_FLAGS.unpack_from(frame, end)
    end += 9
    start, end = end + 1, end + 1 + frame[end]
    exchange = _text(frame[start:end])
    start = end + 1
    return (
        consumer,
        tag,
        bool(flags & _REDELIVERED),
        exchange,
        _text(frame[start : start + frame[end]]),
    )


def header(frame: bytes, at: int, end: int) -> tuple[int, Properties]:
    """The size of the body that follows, and the properties, of a content header's payload.

    Headers that cannot be decoded are replaced (`mqkit.drivers.unreadable`).
    """
    (size,) = _BODY_SIZE.unpack_from(frame, at + 4)
    try:
        return size, _properties(frame, at + 12)
    except (RecursionError, ValueError, OverflowError, OSError):
        return size, _properties(unreadable.without_headers(frame[at:end]), 12)


_make_properties = maker(Properties)


def _properties(frame: bytes, at: int) -> Properties:  # noqa: C901, PLR0912 - one step a field
    (flags,) = _FLAGS.unpack_from(frame, at)
    at += 2
    more = flags
    while more & 1:  # flags of properties that there are none of
        (more,) = _FLAGS.unpack_from(frame, at)
        at += 2
    content_type = content_encoding = correlation_id = reply_to = expiration = None
    message_id = type_ = user_id = app_id = priority = timestamp = None
    headers: dict[Any, Any] = {}
    persistent = False
    if flags & 0x8000:
        at, content_type = _short(frame, at)
    if flags & 0x4000:
        at, content_encoding = _short(frame, at)
    if flags & 0x2000:
        headers, at = _table(frame, at)
    if flags & 0x1000:
        persistent = frame[at] == wire.PERSISTENT
        at += 1
    if flags & 0x0800:
        priority = frame[at]
        at += 1
    if flags & 0x0400:
        at, correlation_id = _short(frame, at)
    if flags & 0x0200:
        at, reply_to = _short(frame, at)
    if flags & 0x0100:
        at, expiration = _short(frame, at)
    if flags & 0x0080:
        at, message_id = _short(frame, at)
    if flags & 0x0040:
        timestamp = wire.moment(_TIME.unpack_from(frame, at)[0])
        at += 8
    if flags & 0x0020:
        at, type_ = _short(frame, at)
    if flags & 0x0010:
        at, user_id = _short(frame, at)
    if flags & 0x0008:
        at, app_id = _short(frame, at)
    return _make_properties(
        content_type,
        content_encoding,
        headers,
        persistent,
        priority,
        correlation_id,
        reply_to,
        None if expiration is None else wire.seconds(expiration),
        message_id,
        timestamp,
        type_,
        user_id,
        app_id,
    )


def _table(frame: bytes, at: int) -> tuple[dict[Any, Any], int]:
    """A table and where it ends. Whole numbers and texts are read here, and all else by pika."""
    end = at + 4 + _SIZE.unpack_from(frame, at)[0]
    at += 4
    table: dict[Any, Any] = {}
    while at < end:
        start = at + 1
        at = start + frame[at]
        name = _text(frame[start:at])
        kind = frame[at]
        if kind == _INT:
            (table[name],) = _INT_VALUE.unpack_from(frame, at + 1)
            at += 5
        elif kind == _TEXT:
            start = at + 5
            at = start + _SIZE.unpack_from(frame, at + 1)[0]
            table[name] = _text(frame[start:at])
        else:
            table[name], at = codec.decode_value(frame, at)
    return table, at


_SIZE = struct.Struct(">I")
_INT, _INT_VALUE = ord("I"), struct.Struct(">i")
_TEXT = ord("S")


def _short(frame: bytes, at: int) -> tuple[int, str | None]:
    """Where a short string ends, and the string; None is one that is not UTF-8."""
    start = at + 1
    end = start + frame[at]
    try:
        return end, frame[start:end].decode()
    except UnicodeDecodeError:
        return end, None


def _text(name: bytes) -> Any:
    """A name, or its bytes where it is not UTF-8, as pika has it."""
    try:
        return name.decode()
    except UnicodeDecodeError:
        return name


def publish(
    channel: int, message: Message, headers: Mapping[str, HeaderValue], limit: int
) -> list[bytes | memoryview]:
    """A publish as pieces to be written one after the other; the body is not copied if it is long.

    :param headers: the message's, and what goes with them
    :param limit: bytes that a frame's payload may have
    :raises HeaderTooLargeError: the properties take more than that
    :raises Exception: one of `pika_wire.ENCODING_ERRORS`
    """
    body = message.body
    size = len(body)
    exchange, key = message.exchange.encode(), message.routing_key.encode()
    properties = _encoded_properties(message.properties, headers)
    if len(exchange) > MAX_SHORT or len(key) > MAX_SHORT:
        raise exceptions.ShortStringTooLong(exchange if len(exchange) > MAX_SHORT else key)
    header_size = 12 + len(properties)
    if header_size > limit:
        raise HeaderTooLargeError(header_size + wire.FRAME_OVERHEAD, limit + wire.FRAME_OVERHEAD)
    start = b"".join(
        (
            HEAD.pack(METHOD, channel, 9 + len(exchange) + len(key)),
            b"\x00\x3c\x00\x28\x00\x00",
            bytes((len(exchange),)),
            exchange,
            bytes((len(key),)),
            key,
            b"\x01\xce" if message.mandatory else b"\x00\xce",
            HEAD.pack(HEADER, channel, header_size),
            b"\x00\x3c\x00\x00",
            _BODY_SIZE.pack(size),
            properties,
            b"\xce" + HEAD.pack(BODY, channel, min(size, limit)) if size else b"\xce",
        )
    )
    if not size:
        return [start]
    if size <= SHORT_BODY and size <= limit:
        return [b"".join((start, body, b"\xce"))]
    whole = memoryview(body)
    pieces: list[bytes | memoryview] = [start, whole[:limit]]
    for begin in range(limit, size, limit):
        piece = whole[begin : begin + limit]
        pieces += (b"\xce" + HEAD.pack(BODY, channel, len(piece)), piece)
    pieces.append(b"\xce")
    return pieces


SHORT_BODY = 16 * 1024
"""Bytes up to which a body is copied into one piece with its frames, which is cheaper."""

MAX_SHORT = 255
"""Bytes of a short string."""


class HeaderTooLargeError(Exception):
    """The bytes of a message's header frame, and those that a frame may have."""


def _encoded_properties(  # noqa: C901 - one step a field
    properties: Properties, headers: Mapping[str, HeaderValue]
) -> bytes:
    flags = 0x1000
    pieces = [b""]
    if (content_type := properties.content_type) is not None:
        flags |= 0x8000
        _add_short(pieces, content_type)
    if (content_encoding := properties.content_encoding) is not None:
        flags |= 0x4000
        _add_short(pieces, content_encoding)
    if headers:
        flags |= 0x2000
        _add_table(pieces, headers)
    pieces.append(b"\x02" if properties.persistent else b"\x01")
    if properties.priority is not None:
        flags |= 0x0800
        pieces.append(struct.pack("B", properties.priority))
    if (correlation_id := properties.correlation_id) is not None:
        flags |= 0x0400
        _add_short(pieces, correlation_id)
    if (reply_to := properties.reply_to) is not None:
        flags |= 0x0200
        _add_short(pieces, reply_to)
    if properties.expiration is not None:
        flags |= 0x0100
        _add_short(pieces, str(round(properties.expiration * 1000)))
    if (message_id := properties.message_id) is not None:
        flags |= 0x0080
        _add_short(pieces, message_id)
    if properties.timestamp is not None:
        flags |= 0x0040
        pieces.append(_TIME.pack(int(properties.timestamp.timestamp())))
    if (type_ := properties.type) is not None:
        flags |= 0x0020
        _add_short(pieces, type_)
    if (user_id := properties.user_id) is not None:
        flags |= 0x0010
        _add_short(pieces, user_id)
    if (app_id := properties.app_id) is not None:
        flags |= 0x0008
        _add_short(pieces, app_id)
    pieces[0] = _FLAGS.pack(flags)
    return b"".join(pieces)


def _add_short(pieces: list[bytes], text: str) -> None:
    encoded = text.encode()
    if len(encoded) > MAX_SHORT:
        raise exceptions.ShortStringTooLong(encoded)
    pieces += (_OCTET[len(encoded)], encoded)


_OCTET = [bytes((value,)) for value in range(MAX_SHORT + 1)]


def _add_table(pieces: list[bytes], table: Mapping[str, HeaderValue]) -> None:
    if len(table) == 1:
        ((name, value),) = table.items()
        if type(value) is int and -(2**31) <= value < 2**31:
            encoded = name.encode()  # the number of a publish is all that most messages have
            if len(encoded) > MAX_SHORT:
                raise exceptions.ShortStringTooLong(encoded)
            pieces += (
                _SIZE.pack(6 + len(encoded)),
                _OCTET[len(encoded)],
                encoded,
                b"I",
                _INT_VALUE.pack(value),
            )
            return
    codec.encode_table(pieces, dict(table))
