"""Header tables of every AMQP type, as bytes, and what they mean.

The types are those that RabbitMQ reads (https://www.rabbitmq.com/amqp-0-9-1-errata#section_3).
"""

from __future__ import annotations

import struct
from random import Random
from typing import Any

from tests.faults.fuzz.wire import long, short

MAX_LEVELS = 6

_NUMBERS = {
    b"b": ">b",
    b"B": ">B",
    b"s": ">h",
    b"u": ">H",
    b"I": ">i",
    b"i": ">I",
    b"l": ">q",
    b"T": ">Q",
    b"d": ">d",
    b"f": ">f",
}

_BITS = {b"b": 8, b"B": 8, b"s": 16, b"u": 16, b"I": 32, b"i": 32, b"l": 64}
_UNSIGNED = b"BuiT"

NAMES = (
    b"plain",
    b"",
    b"x-match",
    b"x-delivery-count",
    b"x-acquired-count",
    b"x-first-death-queue",
    b"mqkit-attempt",
    b"mqkit-elapsed",
    b"mqkit-exchange",
    b"mqkit-publish",
    b"mqkit-reason",
    b"mqkit-reply",
    b"traceparent",
    b"\xff\xfe",
    b"na\xefve",
    b"\xed\xa0\x80",
    b"nul\0nul",
    b"line\r\nline",
    b"n" * 255,
    b"\xf0\x9f\x92\xa3" * 63,
)
"""Names of headers: none, reserved, no UTF-8, a surrogate, escapes, the longest."""

TEXTS = (b"", b"text", b"\xff\xfe", b"\0", b"\xed\xa0\x80", b"\xf0\x9f\x92\xa3", b"t" * 300)


def table(random: Random, level: int = 0) -> bytes:
    """The entries of a table, without their length."""
    entries: dict[bytes, bytes] = {}
    for _ in range(random.choice((1, 1, 2, 3, 6))):
        entries[_name(random)] = value(random, level + 1)
    return b"".join(short(name) + data for name, data in entries.items())


def deep(levels: int) -> bytes:
    """Tables within each other, so many."""
    data = b""
    for _ in range(levels):
        data = short(b"d") + b"F" + long(data)
    return data


def value(random: Random, level: int) -> bytes:
    """A value with its type before it."""
    kinds = [*_NUMBERS, b"t", b"D", b"S", b"S", b"x", b"V"]
    if level < MAX_LEVELS:
        kinds += [b"F", b"A"]
    kind = random.choice(kinds)
    if kind == b"F":
        return kind + long(table(random, level))
    if kind == b"A":
        return kind + long(b"".join(value(random, level + 1) for _ in range(random.randrange(4))))
    return kind + _scalar(random, kind)


def _scalar(random: Random, kind: bytes) -> bytes:
    match kind:
        case b"V":
            return b""
        case b"t":
            return random.choice((b"\0", b"\x01"))
        case b"D":
            scale, digits = random.choice((0, 2, 28, 255)), random.choice((0, 1, 2**31))
            return struct.pack(">BI", scale, digits)
        case b"S" | b"x":
            return long(random.choice(TEXTS))
    return struct.pack(_NUMBERS[kind], _number(random, kind))


def _number(random: Random, kind: bytes) -> float:
    if kind in (b"d", b"f"):
        # No NaN nor infinity: Erlang has none, and RabbitMQ closes the connection.
        return random.choice((0.0, -0.0, 0.1, 1e30, -1e-30))
    if kind == b"T":
        times = (0, 1_700_000_000, 253_402_300_799, 253_402_300_800, 2**63, 2**64 - 1)
        return random.choice(times)
    bits = _BITS[kind]
    low, high = (0, 2**bits - 1) if kind in _UNSIGNED else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return random.choice((low, high, 0, 1))


def _name(random: Random) -> bytes:
    if random.random() < 0.5:
        return b"h%d" % random.randrange(1000)
    return random.choice(NAMES)


def meaning(data: bytes) -> dict[bytes, Any]:
    """What the entries of a table mean: a number whatever its width, texts and bytes alike."""
    found, offset = {}, 0
    while offset < len(data):
        size = data[offset]
        name = data[offset + 1 : offset + 1 + size]
        found[name], offset = _read(data, offset + 1 + size)
    return found


def is_modest(value: Any) -> bool:
    """Whether all names in what a table means are UTF-8, and no time has its highest bit set."""
    match value:
        case dict():
            return all(_is_text(name) and is_modest(each) for name, each in value.items())
        case list():
            return all(map(is_modest, value))
        case ("time", int(seconds)):
            return seconds < 2**63
    return True


def _is_text(name: bytes) -> bool:
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True


def _read(data: bytes, offset: int) -> tuple[Any, int]:
    """A value whose type is at `offset`, and where the next thing begins."""
    kind, offset = data[offset : offset + 1], offset + 1
    if kind in (b"S", b"x", b"F", b"A"):
        (size,) = struct.unpack_from(">I", data, offset)
        inner, offset = data[offset + 4 : offset + 4 + size], offset + 4 + size
        nested = {b"F": meaning, b"A": _items}
        return nested[kind](inner) if kind in nested else inner, offset
    if kind == b"V":
        return None, offset
    if kind == b"t":
        return ("bool", data[offset] != 0), offset + 1
    if kind == b"D":
        scale, digits = struct.unpack_from(">Bi", data, offset)
        return ("decimal", scale, digits), offset + 5
    (number,) = struct.unpack_from(_NUMBERS[kind], data, offset)
    if kind in (b"d", b"f"):
        number = ("float", struct.pack(">d", number))
    found = ("time", number) if kind == b"T" else number
    return found, offset + struct.calcsize(_NUMBERS[kind])


def _items(data: bytes) -> list[Any]:
    found, offset = [], 0
    while offset < len(data):
        item, offset = _read(data, offset)
        found.append(item)
    return found
