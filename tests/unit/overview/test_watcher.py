"""How often a watcher looks, and asks the broker for its queues."""

from __future__ import annotations

import asyncio
import logging

import pytest

from mqkit.management.api import ManagementApi
from mqkit.overview import watcher as watching
from mqkit.overview.queues import Listed
from mqkit.overview.watcher import (
    EVERY,
    FRESH,
    Watcher,
    seconds_between_listings,
    seconds_between_looks,
)
from tests.support import eventually

NOBODY = "amqp://guest:guest@127.0.0.1:1/"
MANAGEMENT = "http://guest:guest@127.0.0.1:1"


@pytest.mark.parametrize(("took", "seconds"), [(0.1, 10.0), (0.25, 25.0), (5.0, 30.0)])
def test_a_broker_lists_its_queues_for_a_hundredth_of_the_time(took: float, seconds: float) -> None:
    """And twice a minute all the same, however long that takes."""
    assert seconds_between_listings(took) == pytest.approx(seconds)


def test_few_queues_are_listed_at_each_look() -> None:
    """What takes the broker 20 ms is no burden."""
    assert seconds_between_listings(0.02) <= EVERY


async def test_an_overview_is_looked_at_anew_where_it_is_not_fresh(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Pages that are loaded at the same time, or one after another at once, share one look."""
    now = 1000.0
    monkeypatch.setattr(watching, "monotonic", lambda: now)
    watcher = Watcher(NOBODY)
    first, beside = await asyncio.gather(watcher.fresh(), watcher.fresh())
    now += FRESH - 0.1
    assert first is beside is await watcher.fresh() is watcher.overview()
    now += 0.1
    assert await watcher.fresh() is not first


@pytest.mark.parametrize(("took", "seconds"), [(0.0, 2.0), (0.02, 2.0), (0.05, 5.0), (3.0, 10.0)])
def test_looks_take_a_hundredth_of_the_time(took: float, seconds: float) -> None:
    """And a page is not older than ten seconds all the same, whatever the system's size."""
    assert seconds_between_looks(took) == pytest.approx(seconds)


async def test_a_system_that_takes_long_to_be_looked_at_is_looked_at_less_often(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By what its last look took."""
    now = 1000.0
    monkeypatch.setattr(watching, "monotonic", lambda: now)

    def joined(_: object) -> tuple[()]:
        nonlocal now
        now += 0.04
        return ()

    monkeypatch.setattr(watching, "services_of", joined)
    watcher = Watcher(NOBODY)
    first = await watcher.fresh()
    now += 3.9
    assert await watcher.fresh() is first
    now += 0.1
    assert await watcher.fresh() is not first


class Slow:
    """A management API that lists queues when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked = 0
        self.goes_on = asyncio.Event()
        self.fails = False
        monkeypatch.setattr(watching, "listed_by_management", self.listed)

    async def listed(self, api: ManagementApi) -> list[Listed]:
        """List one queue, as soon as it may."""
        self.asked += 1
        await self.goes_on.wait()
        if self.fails:
            raise ValueError(api.name)
        return [Listed("orders", 3, 1)]


async def test_a_look_does_not_wait_for_a_broker_that_lists_its_queues_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It shows what is known, asks for no second listing, and the next look shows what came."""
    slow = Slow(monkeypatch)
    watcher = Watcher(NOBODY, MANAGEMENT)
    for _ in range(2):
        assert (await watcher._not_older_than(0.0)).queues == ()
    assert slow.asked == 1
    slow.goes_on.set()
    await eventually(lambda: watcher._listing is None)
    (queue,) = (await watcher._not_older_than(0.0)).queues
    assert (queue.name, queue.ready) == ("orders", 3)


async def test_a_look_that_is_asked_for_waits_for_the_queues(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And for those that were listed after it was asked for."""
    slow = Slow(monkeypatch)
    watcher = Watcher(NOBODY, MANAGEMENT)
    await watcher._not_older_than(0.0)
    looking = asyncio.create_task(watcher.look())
    slow.goes_on.set()
    assert len((await looking).queues) == 1
    assert slow.asked == 2


async def test_a_listing_that_fails_by_a_defect_is_told_and_logged_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing dies unseen, and the page goes on."""
    slow = Slow(monkeypatch)
    slow.fails = True
    slow.goes_on.set()
    watcher = Watcher(NOBODY, MANAGEMENT)
    for _ in range(3):
        assert "the queues could not be listed: see the log" in (await watcher.look()).problems
    assert [each.levelno for each in caplog.records] == [logging.ERROR]
    slow.fails = False
    assert not [each for each in (await watcher.look()).problems if "listed" in each]
