"""Measures what tables weigh, and how fast a store is on a small and on a large one, in turn."""

from __future__ import annotations

import asyncio
import statistics
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mqkit import Exchange
from mqkit.message import Delivery, Properties
from mqkit.store import Store, Transaction
from tests.benchmarks.table_size.filling import BODY, HANDLERS, QUEUES

BATCH = 20
"""Messages of one `claim_many`."""

AT_ONCE = 8
"""Transactions at a time."""

EVENTS = Exchange("ledger", mandatory=False)

TABLES = ("mqkit_inbox", "mqkit_outbox", "mqkit_state")

Step = Callable[[Store], Awaitable[int]]
"""Runs one transaction, and returns how many messages it was for."""


def delivery() -> Delivery:
    """Return a delivery that was never there."""
    return Delivery(
        body=uuid.uuid4().bytes,
        properties=Properties(message_id=str(uuid.uuid4())),
        queue=QUEUES[0],
    )


async def _handle(_: Transaction) -> None:
    return None


async def claim_one(store: Store) -> int:
    """Claim one message, and commit."""
    await store.run_once(HANDLERS[0], delivery(), _handle)
    return 1


def claiming_many(result: Any = None) -> Step:
    """Return a step that claims `BATCH` messages, keeps a result for each, and commits."""

    async def handle(_: Transaction, deliveries: Any) -> list[Any]:
        return [result] * len(deliveries)

    async def step(store: Store) -> int:
        deliveries = [delivery() for _ in range(BATCH)]
        await store.run_batch_once(HANDLERS[0], deliveries, handle)
        return BATCH

    return step


async def write_outbox(store: Store) -> int:
    """Publish one message in a transaction of its own."""
    async with store.transaction() as transaction:
        await transaction.publish(
            EVENTS, "order.posted", b"x" * BODY, key=f"account-{uuid.uuid4().int % 100_000}"
        )
    return 1


STEPS: Mapping[str, Step] = {
    "claim of 1": claim_one,
    f"claim of {BATCH}": claiming_many(),
    "outbox write": write_outbox,
}


@dataclass
class Rates:
    """Messages a second and, on PostgreSQL, bytes of its log a message: one for each round."""

    per_s: list[float] = field(default_factory=list)
    wal: list[float] = field(default_factory=list)


async def rate(store: Store, step: Step, seconds: float) -> tuple[int, float]:
    """Run a step again and again, `AT_ONCE` at a time; return messages and seconds."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    done = 0

    async def work() -> None:
        nonlocal done
        while loop.time() < began + seconds:
            many = await step(store)
            done += many  # not in one line: it would add to what `done` was before the step

    await asyncio.gather(*(work() for _ in range(AT_ONCE)))
    return done, loop.time() - began


async def compare(
    stores: Mapping[int, Store],
    *,
    rounds: int,
    seconds: float,
    wal: Callable[[], Awaitable[int]] | None,
) -> dict[str, dict[int, Rates]]:
    """Measure each step on each store in turn, by rows; the first round warms up."""
    found = {name: {rows: Rates() for rows in stores} for name in STEPS}
    for number in range(rounds + 1):
        for name, step in STEPS.items():
            # Who comes first changes.
            for rows in sorted(stores, reverse=bool(number % 2)):
                before = await wal() if wal else 0
                done, took = await rate(stores[rows], step, seconds)
                if number:
                    found[name][rows].per_s.append(done / took)
                    written = (await wal() if wal else 0) - before
                    found[name][rows].wal.append(written / max(done, 1))
    return found


def ratio(one: Rates, other: Rates) -> float:
    """Return the median of the rounds' ratios."""
    return statistics.median(a / b for a, b in zip(one.per_s, other.per_s, strict=True))


async def postgres_sizes(driver: Any) -> dict[str, int]:
    """Return the bytes of each table and index of the store."""
    found = await driver.fetch(
        "SELECT relname, pg_relation_size(oid) AS bytes FROM pg_class "
        "WHERE relname LIKE '%mqkit%' AND relkind IN ('r', 'i') ORDER BY relname"
    )
    return {row["relname"]: row["bytes"] for row in found}


def sqlite_sizes(connection: Any) -> dict[str, int]:
    """Return the bytes of each table and index of the store, and of the pages that are free."""
    sizes = dict(
        connection.execute(
            "SELECT name, sum(pgsize) FROM dbstat WHERE name LIKE '%mqkit%' GROUP BY name"
        )
    )
    ((free,),) = connection.execute("PRAGMA freelist_count")
    ((size,),) = connection.execute("PRAGMA page_size")
    return sizes | {"(free pages)": free * size}


async def latencies(store: Store, until: asyncio.Event, step: Step = claim_one) -> list[float]:
    """Run a step at an even pace until the event, and return the milliseconds of each."""
    took = []
    loop = asyncio.get_running_loop()
    due = loop.time()
    while not until.is_set():
        began = time.perf_counter()
        await step(store)
        took.append((time.perf_counter() - began) * 1000)
        due = max(due + 0.02, loop.time() - 0.02)
        await asyncio.sleep(max(0.0, due - loop.time()))
    return took
