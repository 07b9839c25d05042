"""Encodes and decodes content headers, which hold a message's properties and headers.

Layout: AMQP 0-9-1, section 4.2.6.1; the order of the properties, 1.8 "Basic". What comes is kept as
it came beside the decoded values: Python has no int8, a name may be no UTF-8, and a copy is to have
what its original had, to the bit.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from mqkit.amqp import field_tables
from mqkit.amqp.field_tables import MAX_NAME, OCTETS, SIZE, UNREADABLE
from mqkit.message import RESERVED_PREFIX, Carried, Header, HeaderValue, Properties, maker

PERSISTENT = 2
TRANSIENT = 1
"""Delivery modes."""

START = 12
"""Bytes of a content header before its flags: its class, weight and the body's size."""

_PUBLISH_ENTRY = 23
"""Bytes of the longest `mqkit-publish`, which every publish is given as it is written."""

_FLAGS = struct.Struct(">H")
_BODY_SIZE = struct.Struct(">Q")
_TIME = struct.Struct(">Q")

_HEADERS, _CLUSTER_ID = 0x2000, 0x0004

_PROPERTIES: tuple[tuple[str, int], ...] = (
    ("content_type", -1),
    ("content_encoding", -1),
    ("headers", -4),
    ("delivery_mode", 1),
    ("priority", 1),
    ("correlation_id", -1),
    ("reply_to", -1),
    ("expiration", -1),
    ("message_id", -1),
    ("timestamp", 8),
    ("type", -1),
    ("user_id", -1),
    ("app_id", -1),
    ("cluster_id", -1),
)
"""From the highest flag down, with their bytes; below zero, those of the length before them."""

_CARRIED = (
    "content_type",
    "content_encoding",
    "correlation_id",
    "reply_to",
    "message_id",
    "timestamp",
    "type",
    "app_id",
    "cluster_id",
)
"""What a copy takes over as it came where `Properties` cannot hold it.

Not `expiration` and `user_id`, which are for the original alone, nor the delivery mode: all copies
are persistent.
"""

_make = maker(Properties)


def decode(frame: bytes, at: int, end: int) -> tuple[int, Properties]:
    """Decode the content header from `at` to `end`; return the size of the body and the properties.

    Headers that cannot be read are left out, and `mqkit-unreadable` says so; a property that is not
    what `Properties` holds (a text that is no UTF-8) is None. `Properties.received` has all of it.

    :raises UNREADABLE: it is no content header
    """
    (size,) = _BODY_SIZE.unpack_from(frame, at + 4)
    try:
        return size, _decode(frame, at + START, end)
    except (*UNREADABLE, OverflowError, OSError, RecursionError):
        return size, _decode_odd(frame[at + START : end])


def _decode(  # noqa: C901, PLR0912 - one step a field
    frame: bytes, at: int, end: int
) -> Properties:
    (flags,) = _FLAGS.unpack_from(frame, at)
    begin, at = at, at + 2
    content_type = content_encoding = correlation_id = reply_to = expiration = None
    message_id = type_ = user_id = app_id = priority = timestamp = None
    headers: dict[str, Any] = {}
    persistent = False
    if flags & 0x8000:
        at, content_type = _short(frame, at)
    if flags & 0x4000:
        at, content_encoding = _short(frame, at)
    if flags & _HEADERS:
        headers, at = field_tables.decode(frame, at)
    if flags & 0x1000:
        persistent = frame[at] == PERSISTENT
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
        timestamp = datetime.fromtimestamp(_TIME.unpack_from(frame, at)[0], UTC)
        at += 8
    if flags & 0x0020:
        at, type_ = _short(frame, at)
    if flags & 0x0010:
        at, user_id = _short(frame, at)
    if flags & 0x0008:
        at, app_id = _short(frame, at)
    if flags & 0x0007:
        raise ValueError("properties that only the slow way knows")
    if at != end:
        raise ValueError("a content header of another length")
    return _make(
        content_type,
        content_encoding,
        headers,
        persistent,
        priority,
        correlation_id,
        reply_to,
        None if expiration is None else seconds(expiration),
        message_id,
        timestamp,
        type_,
        user_id,
        app_id,
        frame[begin:end] if headers else None,
    )


def _short(frame: bytes, at: int) -> tuple[int, str]:
    start = at + 1
    end = start + frame[at]
    return end, frame[start:end].decode()


def _decode_odd(received: bytes) -> Properties:
    """Decode property by property, where `_decode` meets something that few messages have."""
    sizes = dict(_PROPERTIES)
    values = {name: _read(name, sizes[name], value) for name, value in split(received).items()}
    values.pop("cluster_id", None)
    mode, expiration = values.pop("delivery_mode", None), values.pop("expiration", None)
    return Properties(
        **{"headers": {}, **values},
        persistent=mode == PERSISTENT,
        expiration=None if expiration is None else seconds(expiration),
        received=received,
    )


def _read(name: str, size: int, value: bytes) -> Any:
    """Decode one property; None where `Properties` cannot hold it."""
    if name == "headers":
        try:
            return field_tables.decode(value, 0)[0]
        except (*UNREADABLE, RecursionError):
            return _readable(value)
    if size == 1:
        return value[0]
    try:
        if name == "timestamp":
            return datetime.fromtimestamp(int.from_bytes(value), UTC)
        return value[1:].decode()
    except (ValueError, OverflowError, OSError):
        return None


def _readable(table: bytes) -> dict[str, Any]:
    """Decode the headers that can be, and note by `mqkit-unreadable` that there are others."""
    found: dict[str, Any] = {}
    for _, entry in _entries(table):
        try:
            found |= field_tables.decode(SIZE.pack(len(entry)) + entry, 0)[0]
        except (*UNREADABLE, RecursionError):
            continue
    return {**found, Header.UNREADABLE: True}


def seconds(milliseconds: str) -> float | None:
    """Decode the `expiration` property; None where it is no number of milliseconds."""
    if not (milliseconds.isascii() and milliseconds.isdecimal()):
        return None
    return int(milliseconds) / 1000


def split(received: bytes) -> dict[str, bytes]:
    """Cut flags and properties into the bytes of each property, by name.

    :raises UNREADABLE: they are no flags and properties
    """
    (flags,) = _FLAGS.unpack_from(received)
    at, more = 2, flags
    while more & 1:  # flags of properties that there are none of
        (more,) = _FLAGS.unpack_from(received, at)
        at += 2
    found = {}
    for index, (name, size) in enumerate(_PROPERTIES):
        if flags & (0x8000 >> index):
            end = at + size
            if size < 0:
                end = at - size + int.from_bytes(received[at : at - size])
            found[name] = received[at:end]
            at = end
            if at > len(received):
                raise ValueError(f"the property {name} is longer than what holds it")
    return found


def encode(  # noqa: C901, PLR0912 - one step a field
    properties: Properties, headers: Mapping[str, HeaderValue]
) -> bytes:
    """Encode the flags and the properties of a content header.

    :param headers: the message's own, and what goes with them
    :raises Exception: as `field_tables.encode`; ValueError for a text that is too long
    """
    if properties.carried is not None:
        return _encode_carried(properties, properties.carried, headers)
    flags = 0x1000
    pieces = [b""]
    if (content_type := properties.content_type) is not None:
        flags |= 0x8000
        _add_short(pieces, content_type)
    if (content_encoding := properties.content_encoding) is not None:
        flags |= 0x4000
        _add_short(pieces, content_encoding)
    if headers:
        flags |= _HEADERS
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
    if len(encoded) > MAX_NAME:
        raise ValueError(f"a text is over {MAX_NAME} bytes long")
    pieces += (OCTETS[len(encoded)], encoded)


_INT_VALUE = struct.Struct(">i")


def _add_table(pieces: list[bytes], table: Mapping[str, HeaderValue]) -> None:
    if len(table) == 1:
        ((name, value),) = table.items()
        if type(value) is int and -(2**31) <= value < 2**31:
            encoded = name.encode()  # the number of a publish is all that most messages have
            if len(encoded) > MAX_NAME:
                raise ValueError(f"a name is over {MAX_NAME} bytes long")
            pieces += (
                SIZE.pack(6 + len(encoded)),
                OCTETS[len(encoded)],
                encoded,
                b"I",
                _INT_VALUE.pack(value),
            )
            return
    pieces.append(field_tables.encode(table))


def _encode_carried(
    properties: Properties, carried: Carried, headers: Mapping[str, HeaderValue]
) -> bytes:
    values = {**split(encode(replace(properties, carried=None), {})), **carried.properties}
    if headers or carried.entries:
        values["headers"] = field_tables.encode(headers, carried.entries)
    flags = 0
    pieces = [b""]
    for index, (name, _) in enumerate(_PROPERTIES):
        if name in values:
            flags |= 0x8000 >> index
            pieces.append(values[name])
    pieces[0] = _FLAGS.pack(flags)
    return b"".join(pieces)


def size(properties: Properties) -> int:
    """Return how many bytes the content header of a publish with these properties takes at most.

    It must fit into one frame: it is what `HeadersTooLargeError.limit` is the most of.

    :raises Exception: as `encode`
    """
    return (
        START
        + len(encode(properties, properties.headers))
        + (_PUBLISH_ENTRY if properties.headers else 4 + _PUBLISH_ENTRY)
    )


def carry(copy: Properties, origin: Properties, keep: Callable[[str], bool]) -> Properties:
    """Return a copy's properties so that what is its original's is encoded as it was received.

    A header that is the same object in both goes as it came; so does a property that is None in
    both because `Properties` cannot hold it. A `message_id` that is no UTF-8 stays the copy's.

    :param origin: the properties of the delivery that it is a copy of
    :param keep: whether a header of this name is taken over; asked for those that could not be read
    """
    if origin.received is None:
        return copy
    there = split(origin.received)
    entries: dict[str, bytes] = {}
    for name, entry in _entries(there.get("headers")):
        if name in origin.headers:
            kept = name in copy.headers and copy.headers[name] is origin.headers[name]
        else:  # dropped where it came in, unless it could not be read
            is_hidden = Header.UNREADABLE in origin.headers
            kept = is_hidden and not name.startswith(RESERVED_PREFIX) and keep(name)
        if kept:
            entries[name] = entries.get(name, b"") + entry
    properties = {
        name: there[name]
        for name in _CARRIED
        if name in there and getattr(origin, name, None) is None
    }
    return replace(
        copy,
        message_id=None if "message_id" in properties else copy.message_id,
        received=None,
        carried=Carried(entries, properties),
    )


def is_without_id(properties: Properties) -> bool:
    """Tell whether a message came without an id; one that is no UTF-8 is one, which copies keep."""
    if properties.message_id is not None or properties.received is None:
        return not properties.message_id
    return "message_id" not in split(properties.received)


def _entries(table: bytes | None) -> list[tuple[str, bytes]]:
    try:
        return [] if table is None else list(field_tables.entries(table))
    except UNREADABLE:
        return []  # no broker would take it again


def names(properties: Properties) -> list[str]:
    """Return the names of all headers that are encoded, with those that could not be decoded."""
    carried = properties.carried
    return list({**properties.headers, **({} if carried is None else carried.entries)})


def without(properties: Properties, *names: str) -> Properties:
    """Return the properties without these headers, also where they are an original's."""
    headers = {name: value for name, value in properties.headers.items() if name not in names}
    carried = properties.carried
    if carried is not None:
        entries = {name: entry for name, entry in carried.entries.items() if name not in names}
        carried = replace(carried, entries=entries)
    return replace(properties, headers=headers, carried=carried)
