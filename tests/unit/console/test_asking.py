"""Asking all stores for a page of what they list together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from mqkit.console.asking import ask_all, listed
from mqkit.errors import StoreUnavailableError


class FakeStore:
    """Lists numbers, the largest first; or is away."""

    def __init__(self, name: str, numbers: Sequence[int] | None) -> None:
        self.name = name
        self.numbers = numbers
        self.asked: list[tuple[int, int]] = []

    async def store(self) -> FakeStore:
        """Return itself, open."""
        if self.numbers is None:
            raise StoreUnavailableError("the database is away")
        return self

    async def some(self, limit: int, offset: int) -> Sequence[int]:
        """List some."""
        self.asked.append((limit, offset))
        assert self.numbers is not None
        return self.numbers[offset : offset + limit]


async def question(store: Any, limit: int, offset: int) -> Sequence[int]:
    """Ask for some."""
    found: Sequence[int] = await store.some(limit, offset)
    return found


async def page(number: int, *stores: Any) -> tuple[list[int], bool, Sequence[str]]:
    """Return a page of three, whether there are more, and who did not answer."""
    part, problems = await listed(stores, question, number, order=lambda each: each, size=3)
    return [each for _, each in part.rows], part.has_more, problems


async def test_pages_of_several_stores_are_one_list() -> None:
    """Each row is on one page, whichever stores have them"""
    odd, even = FakeStore("odd", [9, 7, 5, 3, 1]), FakeStore("even", [8, 6])
    assert await page(1, odd, even) == ([9, 8, 7], True, ())
    assert await page(2, odd, even) == ([6, 5, 3], True, ())
    assert await page(3, odd, even) == ([1], False, ())
    assert await page(4, odd, even) == ([], False, ())


async def test_one_store_is_asked_for_its_page_alone() -> None:
    """And for one row more, which tells that there is a next page"""
    one = FakeStore("one", range(9, 0, -1))
    assert await page(2, one) == ([6, 5, 4], True, ())
    assert await page(3, one) == ([3, 2, 1], False, ())
    assert one.asked == [(4, 3), (4, 6)]


async def test_a_store_that_is_away_is_named_and_others_are_listed() -> None:
    """Another error is no answer at all"""
    there, away = FakeStore("there", [2, 1]), FakeStore("away", None)
    assert await page(1, away, there) == ([2, 1], False, ("away: the database is away",))

    async def fail(_: Any) -> None:
        raise LookupError("a bug")

    stores: Any = [there]
    with pytest.raises(LookupError):
        await ask_all(stores, fail)
