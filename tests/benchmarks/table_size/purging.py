"""Lets days pass: each is purged by mqkit's own purge and filled again, while messages come in."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from mqkit.clock import utc_now
from mqkit.store import Store, inbox
from mqkit.store.database.pool import Database, store_url
from tests.benchmarks.table_size.measuring import latencies

T = TypeVar("T")

CALM = 3.0
"""Seconds for which claims are timed before a purge begins."""


@dataclass
class Day:
    """What became of one day: purged and filled again."""

    purged: int
    seconds: float
    longest: float
    """Milliseconds of the longest transaction of the purge."""
    calm: list[float]
    """Milliseconds of claims before the purge."""
    beside: list[float]
    """Milliseconds of claims while it went on."""
    sizes: dict[str, int]


def percentile(values: list[float], percent: int) -> float:
    """Return the nearest rank; 0 of nothing."""
    return sorted(values)[max(0, -(-len(values) * percent // 100) - 1)] if values else 0.0


async def purge_all(url: str, now: Callable[[], datetime]) -> tuple[int, float, float]:
    """Purge until nothing is left; return rows, seconds, and milliseconds of the longest batch."""
    database = Database(store_url(url))
    await database.open(create_tables=False)
    try:
        rows, longest = 0, 0.0
        began = time.perf_counter()
        while True:
            at = time.perf_counter()
            async with database.transaction(beside=True) as connection:
                deleted = await inbox.purge(connection, database.dialect, now())
            longest = max(longest, time.perf_counter() - at)
            if not deleted:
                return rows, time.perf_counter() - began, longest * 1000
            rows += deleted
    finally:
        await database.close()


async def pass_day(
    url: str,
    refill: Callable[[], Awaitable[object]],
    sizes: Callable[[], Awaitable[dict[str, int]]],
    *,
    now: Callable[[], datetime] = utc_now,
) -> Day:
    """Fill a new day, purge the one that is over while messages are claimed, and measure."""
    await refill()
    async with Store(url, relay=False, create_tables=False, clock=now) as store:
        _, calm = await _beside(asyncio.sleep(CALM), store)
        (purged, seconds, longest), beside = await _beside(purge_all(url, now), store)
    return Day(purged, seconds, longest, calm, beside, await sizes())


async def _beside(work: Awaitable[T], store: Store) -> tuple[T, list[float]]:
    """Wait for work while messages are claimed; return its result, and their milliseconds."""
    ended = asyncio.Event()
    timing = asyncio.ensure_future(latencies(store, ended))
    try:
        result = await work
    finally:
        ended.set()
    return result, await timing
