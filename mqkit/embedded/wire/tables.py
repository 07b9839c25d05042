"""Writes field tables and properties so that nothing of them changes on the way.

pamqp's own encoder chooses types by value: a double loses digits, a long string that is no UTF-8
is refused, long names are cut, a timestamp in milliseconds becomes one in seconds. What a client
sent is therefore copied as it came, and only what the broker adds is encoded, here.

AMQP 0-9-1, section 4.2.5.5, as amended by https://www.rabbitmq.com/amqp-0-9-1-errata#section_3
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from pamqp import commands, encode

FIXED = {
    **dict.fromkeys(b"tbB", 1),
    **dict.fromkeys(b"su", 2),
    **dict.fromkeys(b"Iif", 4),
    **dict.fromkeys(b"lLdT", 8),
    **dict.fromkeys(b"V", 0),
    ord("D"): 5,
}
"""Bytes of a value, for the types that have always as many; all others begin with a length."""

PROPERTIES: tuple[tuple[str, str | int], ...] = (
    ("content_type", "short"),
    ("content_encoding", "short"),
    ("headers", "long"),
    ("delivery_mode", 1),
    ("priority", 1),
    ("correlation_id", "short"),
    ("reply_to", "short"),
    ("expiration", "short"),
    ("message_id", "short"),
    ("timestamp", 8),
    ("message_type", "short"),
    ("user_id", "short"),
    ("app_id", "short"),
    ("cluster_id", "short"),
)
"""In the order of their flags, from the highest bit down, with how their ends are found."""

HIGHEST_FLAG = 1 << 15

_HEADER = struct.Struct(">HHQH")
"""Class, weight, body size and flags: how the payload of a content header begins."""


def encode_table(table: Mapping[str, Any]) -> bytes:
    """Encode a field table with its length.

    Integers are 64 bits wide, as those that RabbitMQ itself puts into headers.

    :raises ValueError: a value is of no type of AMQP 0-9-1, or too large for it
    """
    return _join({name: _value(value) for name, value in table.items()})


def encode_header(
    properties: commands.Basic.Properties,
    body_size: int,
    origin: bytes | None = None,
    before: commands.Basic.Properties | None = None,
) -> bytes:
    """Encode the payload of a content header frame.

    :param origin: the payload that the properties were made from: what is in `properties` the
        very object that is in `before`, its decoded properties, is copied from there
    """
    there = split(origin) if origin is not None else {}
    flags, parts = 0, []
    for index, (name, _) in enumerate(PROPERTIES):
        value = getattr(properties, name)
        old = getattr(before, name, None)
        if name in there and value is old:
            part = there[name]
        elif value is None or value == "":
            continue
        elif name == "headers":
            part = _changed_table(value, old or {}, there.get(name))
        else:
            part = _property(properties, name, value)
        flags |= HIGHEST_FLAG >> index
        parts.append(part)
    return _HEADER.pack(commands.Basic.frame_id, 0, body_size, flags) + b"".join(parts)


def _property(properties: commands.Basic.Properties, name: str, value: Any) -> bytes:
    if isinstance(value, str):
        return _short(value)
    return properties.encode_property(name, value)


def split(header: bytes) -> dict[str, bytes]:
    """Return the encoded properties of a content header, by name."""
    flags = _HEADER.unpack_from(header)[3]
    at = _HEADER.size
    found = {}
    for index, (name, kind) in enumerate(PROPERTIES):
        if flags & (HIGHEST_FLAG >> index):
            if kind == "short":
                size = 1 + header[at]
            elif kind == "long":
                size = 4 + int.from_bytes(header[at : at + 4])
            else:
                size = int(kind)
            found[name] = header[at : at + size]
            at += size
            if at > len(header):
                raise IndexError(f"the property {name} is cut off")
    return found


def fields(table: bytes) -> dict[str, bytes]:
    """Return the encoded values of a field table that was decoded before, by name."""
    found = {}
    at = 4
    while at < len(table):
        start = at + 1 + table[at]
        name = table[at + 1 : start].decode("utf-8", "surrogateescape")
        at = start + 1
        size = FIXED.get(table[start])
        at += 4 + int.from_bytes(table[at : at + 4]) if size is None else size
        found[name] = table[start:at]
    return found


def _changed_table(
    table: Mapping[str, Any], before: Mapping[str, Any], encoded: bytes | None
) -> bytes:
    there = fields(encoded) if encoded is not None else {}
    return _join(
        {
            name: there[name] if name in there and value is before.get(name) else _value(value)
            for name, value in table.items()
        }
    )


def _join(values: Mapping[str, bytes]) -> bytes:
    return _long(b"".join(_short(name) + value for name, value in values.items()))


def _short(name: str) -> bytes:
    encoded = name.encode("utf-8", "surrogateescape")
    try:
        return len(encoded).to_bytes(1) + encoded
    except OverflowError as error:
        raise ValueError(f"a name is {len(encoded)} bytes long, and not 255 at most") from error


def _long(value: bytes) -> bytes:
    return len(value).to_bytes(4) + value


def _value(value: Any) -> bytes:
    """Encode a value with the octet of its type."""
    if value is None:
        return b"V"
    writer = WRITERS.get(type(value))
    if writer is None:
        raise ValueError(f"{type(value).__name__} is no type of AMQP 0-9-1")
    try:
        return writer(value)
    except (TypeError, struct.error) as error:
        raise ValueError(str(error)) from error


WRITERS: dict[type, Callable[[Any], bytes]] = {
    bool: lambda value: b"t" + value.to_bytes(1),
    int: lambda value: b"l" + struct.pack(">q", value),
    float: lambda value: b"d" + struct.pack(">d", value),
    str: lambda value: b"S" + _long(value.encode()),
    bytes: lambda value: b"S" + _long(value),
    bytearray: lambda value: b"x" + _long(value),
    Decimal: lambda value: b"D" + encode.decimal(value),
    datetime: lambda value: b"T" + encode.timestamp(value),
    list: lambda value: b"A" + _long(b"".join(_value(each) for each in value)),
    dict: lambda value: b"F" + encode_table(value),
}
"""How a value is written, by its type: the types that pamqp decodes to."""
