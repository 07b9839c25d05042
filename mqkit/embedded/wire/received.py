"""Reads content headers as clients send them, and refuses what RabbitMQ refuses.

pamqp would refuse what RabbitMQ takes (texts that are no UTF-8, any time, any depth), and take what
it refuses (a NaN, a value that is cut off). Of the table RabbitMQ (4.0.5, 4.3.6) passes on each
header that is there twice once, the first, and all in the order of their names; a bool as 0 or 1;
and an `L` as an `l`.
"""

from __future__ import annotations

import math
import struct
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from typing import Any

from pamqp import commands

from mqkit.embedded.errors import ReplyError
from mqkit.embedded.wire.tables import FIXED, PROPERTIES, split

START = struct.Struct(">HHQH")
"""Class, weight, body size and flags: how the payload of a content header begins."""

SHORTEST = 12
"""Bytes before its flags: less is no content header, and more a malformed one."""

MAX_LEVELS = 60
"""Tables and arrays within each other that are looked into; what is deeper is bytes to the broker,
and passed on as they are."""

_KINDS = dict(PROPERTIES)

_MALFORMED = (IndexError, struct.error)

_PLAIN = {kind: size for kind, size in FIXED.items() if kind not in b"tLfd"}
"""Bytes of the values that may be any, by the letters of their types."""

_NUMBERS = {
    ord(kind): struct.Struct(f">{layout}")
    for kind, layout in zip("bBsuIilfd", "bBhHiIqfd", strict=True)
}


def read(payload: bytes) -> tuple[bytes, int, int, int, commands.Basic.Properties]:
    """Read a content header: as it is passed on, its class, weight, body's size and properties.

    :raises ReplyError: 501, it is too short to be one; 541, it is malformed
    """
    if len(payload) < SHORTEST:
        raise ReplyError(501, f"a content header of {len(payload)} bytes")
    try:
        class_id, weight, size, flags = START.unpack_from(payload)
        if flags & 3:
            raise _refused("flags of properties that there are none of")
        parts = split(payload)
        if START.size + sum(map(len, parts.values())) != len(payload):
            raise _refused("its properties are not as long as it is")
        if "headers" in parts:
            parts["headers"] = _passed_on(parts["headers"])
        properties = commands.Basic.Properties()
        for name, part in parts.items():
            setattr(properties, name, _property(name, part))
    except _MALFORMED as error:
        raise _refused("it is cut off") from error
    raw = START.pack(class_id, weight, size, flags) + b"".join(parts.values())
    return raw, class_id, weight, size, properties


def text(data: bytes) -> str:
    """Decode a name or a short string; what is no UTF-8 becomes surrogates (PEP 383)."""
    return data.decode("utf-8", "surrogateescape")


def _refused(why: str) -> ReplyError:
    return ReplyError(541, f"a content header is malformed: {why}")


def _property(name: str, part: bytes) -> Any:
    kind = _KINDS[name]
    if kind == "long":
        return _table(part, 0, 1)[0]
    if kind == "short":
        return text(part[1:])
    if name == "timestamp":
        return _moment(int.from_bytes(part))
    return part[0]


def _moment(seconds: int) -> datetime | int:
    """Return a time, or a number where Python has no time for it."""
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return seconds


def _passed_on(table: bytes) -> bytes:
    """Check a table at any depth, and return it as RabbitMQ passes it on."""
    data = bytearray(table)
    starts = _check(data)
    entries: dict[bytes, bytes] = {}
    for start, end in pairwise([*starts, len(data)]):
        name = bytes(data[start + 1 : start + 1 + data[start]])
        entries.setdefault(name, bytes(data[start:end]))
    joined = b"".join(entries[name] for name in sorted(entries))
    return len(joined).to_bytes(4) + joined


def _check(data: bytearray) -> list[int]:
    """Walk a table without recursing, and return where its entries begin.

    It changes bools to 0 or 1, and `L` to `l`.
    """
    starts = []
    at = 4
    levels = [(len(data), True)]
    while levels:
        end, is_table = levels[-1]
        if at == end:
            levels.pop()
            continue
        if is_table:
            if len(levels) == 1:
                starts.append(at)
            at += 1 + data[at]
        kind = data[at]
        at += 1
        if (size := _PLAIN.get(kind)) is not None:
            at += size
        elif kind in b"FA":
            levels.append((at + 4 + int.from_bytes(data[at : at + 4]), kind == b"F"[0]))
            at += 4
        else:
            at += _check_value(data, at, kind)
        if at > end or levels[-1][0] > end:
            raise _refused("a value is longer than what holds it")
    return starts


def _check_value(data: bytearray, at: int, kind: int) -> int:
    """Check a value that begins here, and return how many bytes it has."""
    if kind in b"Sx":
        return 4 + int.from_bytes(data[at : at + 4])
    if kind not in FIXED:
        raise _refused(f"no type has the letter {chr(kind)!r}")
    if kind in b"fd" and not math.isfinite(_NUMBERS[kind].unpack_from(data, at)[0]):
        raise _refused("a number that is none")
    if kind == b"t"[0]:
        data[at] = data[at] != 0
    elif kind == b"L"[0]:
        data[at - 1] = b"l"[0]
    return FIXED[kind]


def _table(data: bytes, at: int, level: int) -> tuple[dict[str, Any], int]:
    end = at + 4 + int.from_bytes(data[at : at + 4])
    at += 4
    found = {}
    while at < end:
        start = at + 1
        at = start + data[at]
        name = text(data[start:at])
        found[name], at = _value(data, at, level)
    return found, end


def _value(  # noqa: PLR0911 - one a type
    data: bytes, at: int, level: int
) -> tuple[Any, int]:
    """Read a value of a table that was checked, in the types of pamqp; returns where it ends."""
    kind = chr(data[at])
    at += 1
    if (number := _NUMBERS.get(ord(kind))) is not None:
        return number.unpack_from(data, at)[0], at + number.size
    if kind == "t":
        return data[at] != 0, at + 1
    if kind == "V":
        return None, at
    if kind == "T":
        return _moment(int.from_bytes(data[at : at + 8])), at + 8
    if kind == "D":
        unscaled = Decimal(int.from_bytes(data[at + 1 : at + 5], signed=True))
        return Decimal((*unscaled.as_tuple()[:2], -data[at])), at + 5
    end = at + 4 + int.from_bytes(data[at : at + 4])
    content = data[at + 4 : end]
    if kind in "FA" and level < MAX_LEVELS:
        return (_table if kind == "F" else _array)(data, at, level + 1)
    if kind == "S":
        try:
            return content.decode(), end
        except UnicodeDecodeError:
            return content, end
    return bytearray(content), end


def _array(data: bytes, at: int, level: int) -> tuple[list[Any], int]:
    end = at + 4 + int.from_bytes(data[at : at + 4])
    at += 4
    values = []
    while at < end:
        value, at = _value(data, at, level)
        values.append(value)
    return values, end
