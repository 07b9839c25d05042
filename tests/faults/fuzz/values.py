"""Odd values by name: what handlers return, what strategies and key functions answer."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from decimal import Decimal
from typing import Any


class Text(enum.StrEnum):
    """A text that is no plain text."""

    ONE = "one"


class Awaited:
    """Something to await that is neither a coroutine nor a future."""

    def __await__(self) -> Generator[Any, None, None]:
        yield


class HashRaises:
    """Has a hash, which cannot be had."""

    def __hash__(self) -> int:
        raise ValueError("no hash today")


class TextRaises:
    """A key that cannot be written."""

    def __str__(self) -> str:
        raise ValueError("no text")

    __repr__ = __str__


async def _work() -> int:
    return 1


def _generator() -> Iterator[int]:
    yield 1


async def _async_generator() -> AsyncIterator[int]:
    yield 1


def _future() -> Any:
    """A future of the running loop; in a thread, which has none, something like it."""
    try:
        return asyncio.get_running_loop().create_future()
    except RuntimeError:
        return Awaited()


def _in_itself() -> list[Any]:
    found: list[Any] = []
    found.append(found)
    return found


RESULTS: dict[str, Callable[[], Any]] = {
    "None": lambda: None,
    "a number": lambda: 2**70,
    "a text": lambda: "done",
    "bytes": lambda: b"\xff\xfe",
    "an error, returned": lambda: ValueError("returned"),
    "NaN": lambda: {"v": float("nan")},
    "an object": object,
    "a lambda": lambda: lambda: None,
    "a list in itself": _in_itself,
    "a surrogate": lambda: "\ud800",
    "odd keys": lambda: {(1, 2): 3, None: 4, b"\xff": 5},
    "3 MB": lambda: "x" * 3_000_000,
    "a coroutine": _work,
    "a generator": _generator,
    "an async generator": _async_generator,
    "a future": _future,
    "an awaitable": Awaited,
}

WAITS: dict[str, Any] = {
    "NaN": float("nan"),
    "infinity": float("inf"),
    "minus infinity": float("-inf"),
    "negative": -1.0,
    "None": None,
    "text": "soon",
    "huge": 10**400,
    "a list": [1],
    "True": True,
}

KEYS: dict[str, Callable[[], Any]] = {
    "NaN": lambda: float("nan"),
    "Decimal": lambda: Decimal("7.00"),
    "a list": lambda: [1],
    "None": lambda: None,
    "True": lambda: True,
    "bytes": lambda: b"\xff",
    "a surrogate": lambda: "\ud800",
    "a huge text": lambda: "k" * 1_000_000,
    "a tuple": lambda: (1, (2, float("nan"))),
    "a frozenset": lambda: frozenset({"a", "b"}),
    "no hash": dict,
    "a hash that raises": HashRaises,
    "text that raises": TextRaises,
    "an enum": lambda: Text.ONE,
    "an object": object,
}
