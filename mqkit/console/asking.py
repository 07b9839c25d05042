"""Asks all stores at once, each though another does not answer; takes a page of what they list."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from mqkit.console.rendering.paging import ROWS
from mqkit.console.sources import OpenedStore
from mqkit.errors import StoreError
from mqkit.logging.error_texts import error_text

if TYPE_CHECKING:
    from mqkit.store import Store

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Answers(Generic[T]):
    """What stores have answered."""

    given: tuple[tuple[str, T], ...]
    """Each answer, with the name of its store."""
    problems: tuple[str, ...]
    """Which stores did not answer, and why."""


async def ask_all(
    stores: Sequence[OpenedStore], question: Callable[[Store], Awaitable[T]]
) -> Answers[T]:
    """Ask each store the same."""

    async def ask(one: OpenedStore) -> T:
        return await question(await one.store())

    found = await asyncio.gather(*map(ask, stores), return_exceptions=True)
    given, problems = [], []
    for one, answer in zip(stores, found, strict=True):
        if isinstance(answer, StoreError):
            problems.append(f"{one.name}: {error_text(answer)}")
        elif isinstance(answer, BaseException):
            raise answer
        else:
            given.append((one.name, answer))
    return Answers(tuple(given), tuple(problems))


@dataclass(frozen=True, slots=True)
class Part(Generic[T]):
    """One page of a list whose end is not known."""

    rows: Sequence[T]
    number: int
    """From 1 on."""
    has_more: bool
    first: int
    """The number of its first row, from 1 on."""

    @property
    def last(self) -> int:
        """The number of its last row."""
        return self.first + len(self.rows) - 1


Listing = Callable[["Store", int, int], Awaitable[Sequence[T]]]
"""Lists rows of a store in their order; takes how many at most, and how many to pass over."""


async def listed(
    stores: Sequence[OpenedStore],
    question: Listing[T],
    number: int,
    *,
    order: Callable[[T], Any],
    size: int = ROWS,
) -> tuple[Part[tuple[str, T]], tuple[str, ...]]:
    """Return a page of what all stores list together, and which stores did not answer.

    :param number: of the page, from 1 on
    :param order: by what the stores list it, the largest first
    """
    before = (number - 1) * size
    # Of several stores nobody knows before how many of the earlier rows each of them has.
    offset = before if len(stores) == 1 else 0
    limit = before - offset + size + 1
    answers = await ask_all(stores, lambda store: question(store, limit, offset))
    rows = [(name, each) for name, some in answers.given for each in some]
    rows.sort(key=lambda row: order(row[1]), reverse=True)
    shown = rows[before - offset : before - offset + size]
    has_more = len(rows) > before - offset + size
    return Part(shown, number, has_more, before + 1), answers.problems
