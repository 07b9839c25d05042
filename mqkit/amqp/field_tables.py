"""Encodes and decodes field tables, the type of a message's headers and of arguments.

Layout: AMQP 0-9-1, section 4.2.5.5, with the types as RabbitMQ has them
(https://www.rabbitmq.com/amqp-0-9-1-errata#section_3). The codecs of pika (1.4.4) and pamqp (4.0.1)
are not used: pika reads 1.5 as 1, pamqp a negative Decimal as a positive one, and neither a name
that is no UTF-8.
"""

from __future__ import annotations

import calendar
import math
import struct
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from mqkit.message import HeaderValue

MAX_LEVELS = 100
"""Tables and arrays within each other that are read; RabbitMQ passes on thousands of them."""

MAX_TIME = 253_402_300_799
"""The last second of the year 9999, in which Python's time ends."""

MAX_NAME = 255
"""Bytes of a name, and of any short string (AMQP 0-9-1, section 4.2.5.3)."""

UNREADABLE = (ValueError, IndexError, struct.error)
"""What reading raises for bytes that are no field table, or one that is too deep."""

SIZE = struct.Struct(">I")
_INT_VALUE = struct.Struct(">i")
_TIME = struct.Struct(">Q")
_DECIMAL = struct.Struct(">Bi")
_LONG_VALUE = struct.Struct(">q")
_DOUBLE_VALUE = struct.Struct(">d")

_BOOL, _INT, _TEXT, _BYTES, _ARRAY, _TABLE, _MOMENT, _SCALED, _VOID = b"tISxAFTDV"

_NUMBERS = {
    kind: struct.Struct(layout)
    for kind, layout in zip(
        b"bBsuIilLfd", (">b", ">B", ">h", ">H", ">i", ">I", ">q", ">q", ">f", ">d"), strict=True
    )
}
"""Numbers by the letter of their type. `L` is signed: RabbitMQ passes it on as an `l`."""

_SIZES = {
    **{kind: number.size for kind, number in _NUMBERS.items()},
    _BOOL: 1,
    _MOMENT: 8,
    _SCALED: 5,
    _VOID: 0,
}
"""Bytes of the values that have always as many; all others begin with their length."""


def text(data: bytes) -> str:
    """Decode a name; bytes that are no UTF-8 become surrogates (PEP 383), as in file names."""
    return data.decode("utf-8", "surrogateescape")


def decode(data: bytes, at: int, level: int = 1) -> tuple[dict[str, Any], int]:
    """Decode the table that begins, with its length, at an offset; return it and where it ends.

    Of a name that is there twice the last value is read. Long strings that are no UTF-8 are bytes;
    a time after the year 9999 is the whole number of its seconds.

    :raises UNREADABLE: it is no table, or deeper than `MAX_LEVELS`
    """
    end = at + 4 + SIZE.unpack_from(data, at)[0]
    at += 4
    if end > len(data):
        raise ValueError("a table is longer than what holds it")
    if level > MAX_LEVELS:
        raise ValueError(f"tables within each other on more than {MAX_LEVELS} levels")
    table: dict[str, Any] = {}
    while at < end:
        start = at + 1
        at = start + data[at]
        try:
            name = data[start:at].decode()
        except UnicodeDecodeError:
            name = text(data[start:at])
        kind = data[at]
        # Whole numbers and texts are what most headers are: without a call.
        if kind == _INT:
            (table[name],) = _INT_VALUE.unpack_from(data, at + 1)
            at += 5
        elif kind == _TEXT:
            start = at + 5
            at = start + SIZE.unpack_from(data, at + 1)[0]
            value = data[start:at]
            try:
                table[name] = value.decode()
            except UnicodeDecodeError:
                table[name] = value
        else:
            table[name], at = _value(data, at, level)
    if at != end:
        raise ValueError("a value is longer than the table that holds it")
    return table, end


def _value(  # noqa: C901, PLR0911 - one a type
    data: bytes, at: int, level: int
) -> tuple[Any, int]:
    kind = data[at]
    at += 1
    if (number := _NUMBERS.get(kind)) is not None:
        return number.unpack_from(data, at)[0], at + number.size
    if kind == _BOOL:
        return data[at] != 0, at + 1
    if kind == _VOID:
        return None, at
    if kind == _MOMENT:
        (seconds,) = _TIME.unpack_from(data, at)
        return (seconds if seconds > MAX_TIME else datetime.fromtimestamp(seconds, UTC)), at + 8
    if kind == _SCALED:
        scale, unscaled = _DECIMAL.unpack_from(data, at)
        # By its parts: arithmetic would round, by the context of whoever reads.
        sign, digits, _ = Decimal(unscaled).as_tuple()
        return Decimal((sign, digits, -scale)), at + 5
    if kind == _TABLE:
        return decode(data, at, level + 1)
    if kind == _ARRAY:
        return _array(data, at, level + 1)
    if kind not in (_TEXT, _BYTES):
        raise ValueError(f"no type of a field has the letter {chr(kind)!r}")
    start = at + 4
    end = start + SIZE.unpack_from(data, at)[0]
    value = data[start:end]
    if kind == _TEXT:
        try:
            return value.decode(), end
        except UnicodeDecodeError:
            pass
    return value, end


def _array(data: bytes, at: int, level: int) -> tuple[list[Any], int]:
    end = at + 4 + SIZE.unpack_from(data, at)[0]
    at += 4
    if level > MAX_LEVELS:
        raise ValueError(f"arrays within each other on more than {MAX_LEVELS} levels")
    values = []
    while at < end:
        value, at = _value(data, at, level)
        values.append(value)
    if at != end:
        raise ValueError("a value is longer than the array that holds it")
    return values, end


def entries(table: bytes) -> Iterator[tuple[str, bytes]]:
    """Cut a table, with its length, into its names and the bytes of each entry, name included.

    What is nested is not looked into, so that it may be of any depth.

    :raises UNREADABLE: it is no table
    """
    at, end = 4, len(table)
    while at < end:
        start = at
        at += 1 + table[at]
        name = text(table[start + 1 : at])
        at += 1 + _size(table, at)
        if at > end:
            raise ValueError("a value is longer than the table that holds it")
        yield name, table[start:at]


def _size(table: bytes, at: int) -> int:
    """Return how many bytes the value takes whose letter is at this offset, without the letter."""
    kind = table[at]
    if (size := _SIZES.get(kind)) is not None:
        return size
    if kind not in (_TEXT, _BYTES, _ARRAY, _TABLE):
        raise ValueError(f"no type of a field has the letter {chr(kind)!r}")
    return 4 + int(SIZE.unpack_from(table, at + 1)[0])


def encode(table: Mapping[str, HeaderValue], ready: Mapping[str, bytes] | None = None) -> bytes:
    """Encode a table, with its length.

    Integers are `I`, or `l` where they need it; text is `S`, bytes `x`, floats `d`; a Decimal keeps
    its scale where it fits.

    :param ready: entries that are encoded already, by their names; they go first, and what the
        table has under these names is not written
    :raises Exception: a name or a value cannot be written: ValueError (UnicodeError is one),
        TypeError, AttributeError, OverflowError, RecursionError or struct.error
    """
    pieces: list[bytes] = [b""]
    if ready:
        pieces += ready.values()
        table = {name: value for name, value in table.items() if name not in ready}
    _add_entries(pieces, table)
    size = sum(map(len, pieces))
    pieces[0] = SIZE.pack(size)
    return b"".join(pieces)


def _add_entries(pieces: list[bytes], table: Mapping[str, Any]) -> None:
    for name, value in table.items():
        encoded = name.encode()
        if len(encoded) > MAX_NAME:
            raise ValueError(f"a name is over {MAX_NAME} bytes long")
        pieces += (OCTETS[len(encoded)], encoded)
        _add(pieces, value)


OCTETS = [bytes((value,)) for value in range(MAX_NAME + 1)]
"""Each octet: what a short string begins with, by its length."""


def _add(pieces: list[bytes], value: Any) -> None:
    writer = _WRITERS.get(type(value))
    if writer is None:
        for kind, each in _WRITERS.items():
            if isinstance(value, kind):  # an enumeration's, say
                writer = each
                break
        else:
            raise TypeError(f"{type(value).__name__} is no type of a field")
    writer(pieces, value)


def _add_int(pieces: list[bytes], value: int) -> None:
    if -(2**31) <= value < 2**31:
        pieces += (b"I", _INT_VALUE.pack(value))
    else:
        pieces += (b"l", _LONG_VALUE.pack(value))


def _add_float(pieces: list[bytes], value: float) -> None:
    if not math.isfinite(value):
        # RabbitMQ (4.0.5, 4.3.6) closes the connection of whoever writes one (541).
        raise ValueError(f"{value} is no value of a field")
    pieces += (b"d", _DOUBLE_VALUE.pack(value))


def _add_decimal(pieces: list[bytes], value: Decimal) -> None:
    sign, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int):
        raise ValueError(f"{value} is no value of a field")  # noqa: TRY004 - its value is wrong
    unscaled = int("".join(map(str, digits))) if len(digits) <= MAX_NAME else MAX_TIME
    if exponent > 0 and unscaled:
        unscaled *= 10 ** min(exponent, MAX_NAME)  # more is too large in any case
    scale = max(-exponent, 0)
    while scale and unscaled % 10 == 0 and (scale > MAX_NAME or unscaled >= 2**31):
        unscaled //= 10
        scale -= 1
    pieces += (b"D", _DECIMAL.pack(scale, -unscaled if sign else unscaled))


def _add_time(pieces: list[bytes], value: datetime) -> None:
    pieces += (b"T", _TIME.pack(calendar.timegm(value.utctimetuple())))


def _add_long(pieces: list[bytes], kind: bytes, value: bytes) -> None:
    pieces += (kind, SIZE.pack(len(value)), value)


def _add_array(pieces: list[bytes], values: list[Any]) -> None:
    inner: list[bytes] = []
    for value in values:
        _add(inner, value)
    _add_long(pieces, b"A", b"".join(inner))


_WRITERS: dict[type, Callable[[list[bytes], Any], None]] = {
    str: lambda pieces, value: _add_long(pieces, b"S", value.encode()),
    bytes: lambda pieces, value: _add_long(pieces, b"x", value),
    bool: lambda pieces, value: pieces.append(b"t\1" if value else b"t\0"),
    int: _add_int,
    float: _add_float,
    Decimal: _add_decimal,
    datetime: _add_time,
    dict: lambda pieces, value: pieces.extend((b"F", encode(value))),
    list: _add_array,
    type(None): lambda pieces, _: pieces.append(b"V"),
}
"""How a value is written, by its type."""
