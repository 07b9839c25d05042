"""Rows 17 to 20: workers and relays that are killed at the worst moments."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from tests.faults import failpoints
from tests.faults.matrix.ledger import Ledger, ledger
from tests.faults.matrix.row import Bench, row
from tests.faults.nurseries import Nursery
from tests.faults.store_services import EVENTS, QUEUE
from tests.support import Client, eventually

SERVICES = "tests.faults.store_services"

COMMITTED = "after:mqkit.store.store.Store.once"
"""The transaction is committed, its message not acked yet."""

WORKERS = 2

AHEAD = 40
"""Orders that are sent and not posted, at least, while processes die."""

LIFE = 0.1
"""Seconds after a death until the next may come, at most: some die at once, some while busy."""

ONE_KILL = 30.0
"""Seconds in which a process must come to its fail point, the first one's start included."""


@row(18, "worker killed between commit and ack", short=4)
async def after_commit(bench: Bench) -> None:
    """Its message comes again, and must have no second effect."""
    await _kill(bench, COMMITTED, {"worker_and_relay": WORKERS})


async def _kill(bench: Bench, point: str, targets: dict[str, int], **order: object) -> None:
    """Kill processes at the point under load, as often as the form says."""
    tickets = bench.directory / "tickets"
    failpoints.issue(tickets, 0)
    async with ledger(bench) as kept, bench.client() as client:
        await client.declare(EVENTS)
        with nursery(bench, kept, targets, {point: tickets}) as children:
            await consuming(children)
            async with feeding(kept, client, **order):
                await _bleed(bench, children, tickets)
            await kept.settled()
            await children.stop()
        book_deaths(bench, children)
        await kept.collect(client)


async def _bleed(bench: Bench, children: Nursery, tickets: Path) -> None:
    """Let one process after the other die."""
    began = time.monotonic()
    for count in range(1, bench.faults + 1):
        failpoints.issue(tickets, 1)
        await children.kills(count, ONE_KILL)
        bench.fault()
        await asyncio.sleep(random.uniform(0, LIFE))
    seconds = time.monotonic() - began
    bench.figures.notes.append(f"{bench.faults / seconds:.1f} kills per second")


def nursery(
    bench: Bench, kept: Ledger, targets: Mapping[str, int], arm: Mapping[str, Path]
) -> Nursery:
    """Services of the ledger in processes that are forked anew as they die."""
    return Nursery(
        {f"{SERVICES}:{name}": count for name, count in targets.items()},
        bench.url,
        bench.logs / "nursery.log",
        arm=arm,
        MQKIT_MATRIX_JOURNAL=str(bench.journal.path),
        MQKIT_STORE=kept.url,
    )


async def consuming(children: Nursery) -> None:
    """Wait until one of them consumes: the queue is then there."""
    await eventually(lambda: "consuming" in children.log.read_text(), ONE_KILL, "a consumer")


def book_deaths(bench: Bench, children: Nursery) -> None:
    """Their runs have ended with them."""
    for death in children.deaths():
        bench.journal.died(death.pid)


@contextlib.asynccontextmanager
async def feeding(kept: Ledger, client: Client, **order: object) -> AsyncIterator[None]:
    """Send orders in the background, as fast as they are posted."""

    async def feed() -> None:
        while True:
            if kept.bench.journal.count() - await kept.posted() < AHEAD:
                await kept.send_many(client.publisher, QUEUE, AHEAD // 2, **order)
            await asyncio.sleep(0.02)

    task = asyncio.create_task(feed())
    stopping = False
    try:
        yield
        stopping = True
    finally:
        task.cancel()
        await asyncio.wait([task])
        if stopping and not task.cancelled():
            task.result()
