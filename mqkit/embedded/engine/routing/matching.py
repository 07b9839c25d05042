"""Decides if a message matches one binding: topic patterns and header tables.

Many at once are `topics` and `header_index`. AMQP 0-9-1, section 3.1.3, and
https://www.rabbitmq.com/docs/exchanges for the `x-` forms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

HEADER_MATCHES = ("all", "any", "all-with-x", "any-with-x")
"""The values that `x-match` takes; all is the default."""


def topic_matches(pattern: Sequence[str], words: Sequence[str]) -> bool:
    """Match a routing key with a pattern: `*` is exactly one word, `#` is none or more.

    The two rows of a table are enough, so a pattern of many `#` costs its length times the key's.
    """
    reached = [True] + [False] * len(words)
    for part in pattern:
        if part == "#":
            first = reached.index(True) if True in reached else len(words) + 1
            reached = [index >= first for index in range(len(words) + 1)]
        else:
            reached = [False] + [
                before and part in ("*", word) for before, word in zip(reached, words, strict=False)
            ]
    return reached[len(words)]


def headers_match(wanted: Mapping[str, Any], headers: Mapping[str, Any]) -> bool:
    """Return True if all (or any) of the binding's arguments are among the headers.

    Arguments that begin with `x-` are left out unless `x-match` ends in `-with-x`; an argument
    without a value (void) asks only for the header to be there.
    """
    found = (
        name in headers and (value is None or _same(value, headers[name]))
        for name, value in header_pairs(wanted)
    )
    return any(found) if is_any(wanted) else all(found)


def header_pairs(wanted: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return the pairs that a header binding asks for."""
    with_x = wanted.get("x-match", "all") in ("all-with-x", "any-with-x")
    return [
        (name, value)
        for name, value in wanted.items()
        if name != "x-match" and (with_x or not name.startswith("x-"))
    ]


def is_any(wanted: Mapping[str, Any]) -> bool:
    """Return True if one of the pairs is enough for a header binding."""
    return wanted.get("x-match") in ("any", "any-with-x")


def _same(wanted: Any, value: Any) -> bool:
    """Return True for values of one kind that are equal: True is not 1, and "1" is neither."""
    numbers = (int, float)
    if isinstance(wanted, bool) or isinstance(value, bool):
        return wanted is value
    if isinstance(wanted, numbers) and isinstance(value, numbers):
        return wanted == value
    return type(wanted) is type(value) and bool(wanted == value)
