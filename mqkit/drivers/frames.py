"""Encodes and decodes the frames that every message takes, with no object in between.

The drivers use these for what comes and goes with every message, in the place of their libraries'
codecs. Layouts: AMQP 0-9-1, sections 2.3.5 "Frame details" and 4.2; the fields' order, 1.8 "Basic".
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import replace

from mqkit.amqp import content_header
from mqkit.amqp.field_tables import text
from mqkit.errors import HeadersTooLargeError, InvalidMessageError
from mqkit.message import HeaderValue, Message

METHOD, HEADER, BODY = 1, 2, 3
"""Types of frames."""

END = 0xCE
HEAD = struct.Struct(">BHL")
"""What a frame begins with: its type, channel, and its payload's size."""

DELIVER, RETURN, GET_OK = 0x003C003C, 0x003C0032, 0x003C0047
"""The methods that a content header follows: `basic.deliver`, `basic.return`, `basic.get-ok`."""

ACK, NACK = 0x003C0050, 0x003C0078
"""What confirms are: `basic.ack` and `basic.nack`."""

METHOD_ID = struct.Struct(">L")
_BODY_SIZE = struct.Struct(">Q")
_TAG_AND_FLAGS = struct.Struct(">QB")

_MULTIPLE = _REDELIVERED = 1

SHORT_BODY = 16 * 1024
"""Bytes up to which a body is copied into one piece with its frames, which is cheaper."""

MAX_SHORT = 255
"""Bytes of a short string."""

NO_LIMIT = 2**32 - 1
"""Bytes that a frame's payload can have at all (AMQP 0-9-1, section 4.2.3)."""

ENCODING_ERRORS = (
    struct.error,
    UnicodeError,
    OverflowError,
    TypeError,
    ValueError,
    RecursionError,
    AttributeError,
)
"""What encoding raises for what AMQP cannot hold; none of it is written."""


def confirm(frame: bytes, at: int) -> tuple[int, bool]:
    """Decode a confirm whose fields begin at `at`: delivery tag, and whether it is `multiple`."""
    tag, flags = _TAG_AND_FLAGS.unpack_from(frame, at)
    return tag, bool(flags & _MULTIPLE)


def deliver(frame: bytes, at: int) -> tuple[str, int, bool, str, str]:
    """Decode a `basic.deliver`: consumer tag, delivery tag, redelivered, exchange, routing key.

    Names that are no UTF-8 are read as `field_tables.text` does; RabbitMQ takes them.
    """
    end = at + 1 + frame[at]
    consumer = frame[at + 1 : end]
    tag, flags = _TAG_AND_FLAGS.unpack_from(frame, end)
    end += 9
    start, end = end + 1, end + 1 + frame[end]
    exchange = frame[start:end]
    start = end + 1
    key = frame[start : start + frame[end]]
    redelivered = bool(flags & _REDELIVERED)
    try:
        return consumer.decode(), tag, redelivered, exchange.decode(), key.decode()
    except UnicodeDecodeError:
        return text(consumer), tag, redelivered, text(exchange), text(key)


def got(frame: bytes, at: int) -> tuple[int, bool, str, str]:
    """Decode a `basic.get-ok`: delivery tag, redelivered, exchange, routing key."""
    tag, flags = _TAG_AND_FLAGS.unpack_from(frame, at)
    exchange, end = short(frame, at + 9)
    key, _ = short(frame, end)
    return tag, bool(flags & _REDELIVERED), exchange, key


def returned(frame: bytes, at: int) -> tuple[int, str, str, str]:
    """Decode a `basic.return`: reply code, reply text, exchange, routing key."""
    reason, end = short(frame, at + 2)
    exchange, end = short(frame, end)
    key, _ = short(frame, end)
    return int.from_bytes(frame[at : at + 2]), reason, exchange, key


def short(frame: bytes, at: int) -> tuple[str, int]:
    """Decode a short string; return it and where it ends."""
    end = at + 1 + frame[at]
    return text(frame[at + 1 : end]), end


def publish(
    channel: int,
    message: Message,
    limit: int,
    extra_headers: Mapping[str, HeaderValue] | None = None,
) -> list[bytes | memoryview]:
    """Encode a publish as pieces to be written in turn; a long body is not copied.

    :param limit: bytes that a frame's payload may have
    :param extra_headers: written with the message's own, and in place of those of the same name
    :raises HeadersTooLargeError: headers and properties take more than a frame's payload
    :raises InvalidMessageError: a name, header or property cannot be encoded
    """
    body = message.body
    headers = message.properties.headers
    if extra_headers:
        headers = {**headers, **extra_headers} if headers else extra_headers
    try:
        size = len(body)
        exchange, key = message.exchange.encode(), message.routing_key.encode()
        properties = content_header.encode(message.properties, headers)
        if len(exchange) > MAX_SHORT or len(key) > MAX_SHORT:
            raise ValueError(f"a name is over {MAX_SHORT} bytes long")
        header_size = content_header.START + len(properties)
        if header_size > limit:
            raise too_large(message, header_size, limit)
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
    except ENCODING_ERRORS as error:
        raise _unencodable(message, error) from error
    pieces: list[bytes | memoryview] = [start, whole[:limit]]
    for begin in range(limit, size, limit):
        piece = whole[begin : begin + limit]
        pieces += (b"\xce" + HEAD.pack(BODY, channel, len(piece)), piece)
    pieces.append(b"\xce")
    return pieces


def check_writable(message: Message) -> None:
    """Encode all of a message but its body, to find out now whether it can be published.

    The broker's limit for headers (`frame_max`) is not known here.

    :raises InvalidMessageError: a name, header or property cannot be encoded
    """
    publish(0, replace(message, body=b""), NO_LIMIT)


def _unencodable(message: Message, error: BaseException) -> InvalidMessageError:
    """Make the error for a message that cannot be encoded."""
    return InvalidMessageError(
        f"message {message.properties.message_id} to exchange {message.exchange!r}: a header or "
        f"property cannot be encoded ({type(error).__name__}); headers take text, bytes, numbers, "
        "booleans, Decimal, datetime, None, and lists and dicts of those; names and short "
        "properties are 255 bytes at most"
    )


def too_large(message: Message, size: int, limit: int) -> HeadersTooLargeError:
    """Make the error for headers that do not fit a frame, as they must (AMQP 0-9-1, 4.2.6.1)."""
    return HeadersTooLargeError(
        f"message {message.properties.message_id} to exchange {message.exchange!r}: its "
        f"headers and properties take {size} bytes, and the broker takes {limit} at most "
        "(frame_max)",
        size=size,
        limit=limit,
    )
