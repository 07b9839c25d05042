"""Limits of how large and how deep a message may be, on its way out and on its way in.

Sizes are known before anything is encoded or decoded a second time, and nothing here recurses,
so that a message that is far over its limits costs little more than one just over them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from itertools import accumulate, repeat
from typing import Any

from mqkit.checks.checked import count, flag, shown
from mqkit.errors import ConfigurationError, OptionError

MIB = 1024 * 1024

MAX_BODY = 512 * MIB
"""Bytes: RabbitMQ can be told to take no more (`max_message_size`,
https://www.rabbitmq.com/docs/configure)."""

MAX_HEADERS = 2**32 - 1
"""Bytes: a table's length is a 32-bit number (AMQP 0-9-1, section 4.2.5.5)."""

MAX_DEPTH = 200
"""Levels: pydantic's parser of JSON goes no deeper (by one more for an array)."""

MAX_HEADER_DEPTH = 32
"""Tables and arrays within each other in the headers, which are the first. The broker's own
`x-death` has four. Client libraries decode them recursively."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The largest message that a publisher writes, and that a service hands to a handler.

    `body` and `headers` are bytes on the wire, `depth` is the number of JSON arrays and objects
    within each other (RFC 8259, section 9, lets a parser have such a limit).

    A body is 16 MiB by default, as RabbitMQ 4 takes it (`max_message_size`). Headers must fit into
    one frame, of 128 KiB by default (`frame_max`), together with what is added to them later: by
    mqkit to a dead letter (9 KiB), and by the broker to what it dead-letters itself. So they are
    64 KiB.

    With `unique_keys`, JSON in which an object has a key twice is over the limits, too. Without it,
    the last one counts, as nearly everywhere: RFC 8259, section 4, leaves that open, and another
    reader of the same body may take the first.

    :raises OptionError: a value is not a whole number, or out of its range
    """

    body: int = 16 * MIB
    headers: int = 64 * 1024
    depth: int = 100
    unique_keys: bool = False

    def __post_init__(self) -> None:
        ranges = {"body": (0, MAX_BODY), "headers": (0, MAX_HEADERS), "depth": (1, MAX_DEPTH)}
        flag(self.unique_keys, "Limits(unique_keys=...)")
        for name, (least, most) in ranges.items():
            count(getattr(self, name), f"Limits({name}=...)", least=least, most=most)

    def body_problem(self, size: int) -> str | None:
        """Say what is wrong with a body of so many bytes; None is nothing."""
        if size <= self.body:
            return None
        return f"its body of {size} bytes is over the limit of {self.body} (Limits.body)"

    def json_problem(self, body: bytes) -> str | None:
        """Say what is wrong with the depth or the keys of a body of JSON; None is nothing."""
        if is_deeper(body, self.depth):
            return f"its JSON is nested deeper than the limit of {self.depth} levels (Limits.depth)"
        if self.unique_keys and key_twice(body) is not None:
            return "an object of its JSON has a key twice (Limits.unique_keys)"
        return None

    def headers_problem(self, headers: Mapping[str, Any]) -> str | None:
        """Say what is wrong with the size or the depth of headers; None is nothing."""
        if not headers or _is_small(headers, self.headers):
            return None
        size = table_size(headers, self.headers)
        if size is None:
            return f"its headers are nested deeper than the limit of {MAX_HEADER_DEPTH} levels"
        if size <= self.headers:
            return None
        return (
            f"its {len(headers)} headers take more than the limit of {self.headers} bytes "
            "(Limits.headers)"
        )


DEFAULT_LIMITS = Limits()


def checked_limits(
    limits: object, what: str, *, error: type[ConfigurationError] = OptionError
) -> Limits:
    """Check that an option is `Limits`, and return it.

    :raises OptionError: it is none; or `error` instead
    """
    if not isinstance(limits, Limits):
        raise error(f"{what} takes Limits(body=..., headers=..., depth=...), not {shown(limits)}")
    return limits


def is_deeper(body: bytes, depth: int) -> bool:
    """Tell whether JSON has more than `depth` arrays and objects within each other.

    Exact for JSON; of what is no JSON it says anything. Nearly all bodies have no more brackets
    than `depth`, and are known to be fine by a count of those.
    """
    if body.count(b"[") + body.count(b"{") <= depth:
        return False
    level = 0
    steps = _brackets(body)
    for start in range(0, len(steps), _AT_A_TIME):
        piece = accumulate(steps[start : start + _AT_A_TIME].cast("b"), initial=level)
        levels = tuple(piece)
        if max(levels) > depth:
            return True
        level = levels[-1]
    return False


_AT_A_TIME = 4096
"""Brackets looked at before the first ones that are too deep end the search."""

_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
"""An opening bracket as the signed byte 1, a closing one as -1."""

_NOT_STRUCTURE = bytes(sorted(set(range(256)) - set(b'[]{}"')))


def _brackets(body: bytes) -> memoryview:
    """Return 1 for each opening bracket outside of strings, and -1 for each closing one."""
    structure = _unescaped(body).translate(_STEPS, _NOT_STRUCTURE).replace(b'""', b"")
    if b'"' in structure:
        structure = b"".join(structure.split(b'"')[::2])
    return memoryview(structure)


def key_twice(body: bytes) -> str | None:
    """Find a key that an object of JSON has twice, at any depth; None if there is none.

    Of what is no JSON it is None as well.
    """
    try:
        json.loads(body, object_pairs_hook=_see_once, parse_int=str, parse_float=str)
    except _KeyTwiceError as error:
        return error.key
    except (ValueError, RecursionError):  # what reads it refuses it, too
        return None
    return None


class _KeyTwiceError(Exception):
    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


def _see_once(pairs: list[tuple[str, Any]]) -> None:
    if len(dict(pairs)) == len(pairs):
        return
    seen = set()
    for key, _ in pairs:
        if key in seen:
            raise _KeyTwiceError(key)
        seen.add(key)


def outside_strings(body: bytes) -> list[bytes]:
    """Return the pieces of JSON that are between its strings; of what is no JSON, anything."""
    return _unescaped(body).split(b'"')[::2]


def _unescaped(body: bytes) -> bytes:
    """Drop the escaped quotes of JSON, so that every quote begins or ends a string."""
    if b"\\" not in body:
        return body
    # Pairs first: in '\\\\"' the quote is not escaped.
    return body.replace(b"\\\\", b"").replace(b'\\"', b"")


def _is_small(headers: Mapping[str, Any], limit: int) -> bool:
    """Tell whether headers are texts and integers that fit, whatever UTF-8 makes of them."""
    most = 4
    for name, value in headers.items():
        if name.__class__ is not str:
            return False
        if value.__class__ is str:
            most += 6 + 4 * (len(name) + len(value))
        elif value.__class__ is int:
            most += 10 + 4 * len(name)
        else:
            return False
    return most <= limit


def table_size(headers: Mapping[str, Any], limit: int) -> int | None:
    """Count the bytes of headers on the wire; None if they are nested too deeply.

    Sizes are those of AMQP 0-9-1, section 4.2.5.5, with RabbitMQ's types. Where the sum is over
    `limit` it may be less than the whole. What cannot be encoded counts little; the driver refuses
    it.
    """
    size = 0
    level: list[Any] = [headers]
    for _ in range(MAX_HEADER_DEPTH):
        below: list[Any] = []
        for container in level:
            size += 4
            values: Iterable[tuple[Any, Any]]
            values = (
                zip(repeat(None), container) if isinstance(container, list) else container.items()
            )
            for name, value in values:
                if name is not None:
                    size += 1 + _text_size(name, limit)
                size += _value_size(value, limit)
                if size > limit:
                    return size
                if isinstance(value, _NESTING):
                    below.append(value)
        if not below:
            return size
        level = below
    return None


_NESTING = (dict, list)
_TEXT = (str, bytes)


def _value_size(value: Any, limit: int) -> int:
    """Count the bytes of a value with the octet of its type; of a table, the octet alone."""
    if isinstance(value, _TEXT):
        return 5 + _text_size(value, limit)
    if type(value) is int:
        return 5 if -(2**31) <= value < 2**31 else 9
    if isinstance(value, bool):
        return 2
    if isinstance(value, Decimal):
        return 6
    if isinstance(value, int | float | datetime):
        return 9
    return 1


def _text_size(text: Any, limit: int) -> int:
    if isinstance(text, str):
        # Nothing that is over the limit in any case is encoded to find out by how much.
        if text.isascii() or len(text) > limit:
            return len(text)
        return len(text.encode("utf-8", "surrogatepass"))
    return len(text) if isinstance(text, bytes) else 0
