"""A watcher whose broker may be away."""

from __future__ import annotations

import asyncio
from typing import Any, Self

import pytest

from mqkit.console import watching
from mqkit.console.watching import CONNECTING, PatientWatcher
from mqkit.errors import ConnectError
from mqkit.overview.values import Overview
from tests.support import eventually
from tests.unit.console.samples import shop


class Made:
    """A watcher that can be entered or not."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.is_left = False
        self.looks = 0
        self.now = shop()

    async def __aenter__(self) -> Self:
        if self.error is not None:
            raise self.error
        return self

    async def __aexit__(self, *_: object) -> None:
        self.is_left = True

    async def fresh(self) -> None:
        """Count it."""
        self.looks += 1

    def overview(self) -> Overview:
        """Return what there is."""
        return self.now


async def test_it_says_why_there_is_nothing_until_the_broker_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each attempt has a new watcher; the one that was entered is left at the end."""
    monkeypatch.setattr(watching, "AGAIN", 0.0)
    away, there = Made(ConnectError("no route to the broker")), Made()
    left: list[Any] = [away, away, there]
    one = PatientWatcher(lambda: left.pop(0))
    assert one.overview().problems == (CONNECTING,)
    async with one:
        await asyncio.sleep(0)
        assert one.overview().problems == (f"{CONNECTING}: no route to the broker",)
        await one.fresh()
        await eventually(lambda: one.overview() is there.now)
        await one.fresh()
        left_early = there.is_left
    assert [left_early, there.is_left] == [False, True]
    assert [away.looks, there.looks] == [0, 1]
    assert left == []


async def test_it_ends_while_it_still_waits() -> None:
    """The console need not have seen its broker to be stopped."""
    away: Any = Made(ConnectError("no route"))
    async with PatientWatcher(lambda: away):
        await asyncio.sleep(0)
    assert not away.is_left
