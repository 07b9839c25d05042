"""Headers that a client library cannot decode, taken out of a content header before it tries.

RabbitMQ passes on whatever is a field table, and Python's libraries decode it recursively: headers
of some hundred levels, or a time after the year 9999, would close the connection of whoever
consumes them, again and again until the queue's delivery limit. Here such headers are replaced by
one that says so, and the rest of the message can be dead-lettered.
"""

from __future__ import annotations

from mqkit.message import Header

HEADER_FRAME = b"\x02"
"""The type of a frame that holds a content header (AMQP 0-9-1, section 4.2.6.1)."""

MAX_LEVELS = 100
"""Tables and arrays within each other that any decoder can still decode."""

MAX_TIME = 253_402_300_799
"""The last second of the year 9999, in which Python's time ends."""

_FLAGS = 12
"""Where the flags of the properties are in a content header's payload."""

_CONTENT_TYPE, _CONTENT_ENCODING, _HEADERS = 1 << 15, 1 << 14, 1 << 13

_NAME = Header.UNREADABLE.encode()
_ENTRY = bytes([len(_NAME)]) + _NAME + b"t\x01"
_REPLACEMENT = len(_ENTRY).to_bytes(4, "big") + _ENTRY

_SIZES = dict(zip(b"tbBsuUIilLfdDV", (1, 1, 1, 2, 2, 2, 4, 4, 8, 8, 4, 8, 5, 0), strict=True))
"""Bytes of the values that have always as many (https://www.rabbitmq.com/amqp-0-9-1-errata#section_3)."""


def without_headers(payload: bytes) -> bytes:
    """The payload of a content header with its headers replaced."""
    start, end = _table(payload)
    return payload[:start] + _REPLACEMENT + payload[end:] if end > start else payload


def readable(payload: bytes) -> bytes:
    """The payload of a content header, with its headers replaced if they cannot be decoded.

    Nearly all have too few letters that could begin a table, an array or a time to be walked.
    """
    if b"T" not in payload and payload.count(b"F") + payload.count(b"A") <= MAX_LEVELS:
        return payload
    start, end = _table(payload)
    return payload if _is_readable(payload, start + 4, end) else without_headers(payload)


def _table(payload: bytes) -> tuple[int, int]:
    """Where the headers begin, with their length, and end; the same place if there are none."""
    flags = int.from_bytes(payload[_FLAGS : _FLAGS + 2], "big")
    start = _FLAGS + 2
    for flag in (_CONTENT_TYPE, _CONTENT_ENCODING):
        if flags & flag:
            start += 1 + payload[start]
    if not flags & _HEADERS:
        return start, start
    return start, start + 4 + int.from_bytes(payload[start : start + 4], "big")


def _is_readable(data: bytes, offset: int, end: int) -> bool:
    """Walk a table without recursing."""
    levels = [(end, True)]
    while levels:
        end, is_table = levels[-1]
        if offset >= end:
            levels.pop()
            continue
        if is_table:
            offset += 1 + data[offset]
        kind = data[offset]
        offset += 1
        if kind in b"FASx":
            length = int.from_bytes(data[offset : offset + 4], "big")
            offset += 4
            if kind in b"Sx":
                offset += length
            elif len(levels) == MAX_LEVELS:
                return False
            else:
                levels.append((offset + length, kind == b"F"[0]))
        elif kind == b"T"[0]:
            if int.from_bytes(data[offset : offset + 8], "big") > MAX_TIME:
                return False
            offset += 8
        else:
            offset += _SIZES.get(kind, 0)
    return True
