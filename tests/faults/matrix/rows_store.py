"""Rows 17 to 20: workers and relays that are killed at the worst moments."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import statistics
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.faults import failpoints
from tests.faults.matrix.ledger import Kind, Ledger, ledger
from tests.faults.matrix.row import Bench, row
from tests.faults.nurseries import Nursery
from tests.faults.store_services import COMMITS, EVENTS
from tests.support import Client, eventually

SERVICES = "tests.faults.store_services"

UNCOMMITTED = {
    "alone": {
        "handled, outbox not written": "before:mqkit.store.outbox.write",
        "outbox written, not committed": "before:mqkit.store.inbox.keep_result",
    },
    "groups": {
        "in the middle of a group": "group-in-turn",
        "group handled, outbox not written": "shared-handled",
        "group's outbox written, not committed": "shared-written",
    },
    "batches": {
        "batch handled, outbox not written": "shared-handled",
        "batch's outbox written, not committed": "shared-written",
    },
}
"""Where a worker dies, by how messages are committed. A group of one message is as one alone:
processes die where there are at least two."""

COMMITTED = {
    "alone": "after:mqkit.store.store.Store.run_once",
    "groups": "group-committed",
    "batches": "batch-committed",
}

RETRIED = {
    "retry not published": "before:mqkit.consuming.republisher.Republisher._send",
    "retry confirmed, not acked": "retry-confirmed",
}

RELAYED = {
    "claimed, not published": "before:mqkit.store.relay.Relay._publish",
    "confirmed, not marked": "before:mqkit.store.outbox.Claim.mark",
    "marked, not committed": "after:mqkit.store.outbox.Claim.mark",
    "marked and committed": "after:mqkit.store.relay.Relay.round",
}

WORKERS = 2

AHEAD = 40
"""Orders that are sent and not posted, at least, while processes die."""

LIFE = 0.3
"""Seconds after a death until the next may come, at most: some die at once, some while busy."""

ONE_KILL = 30.0
"""Seconds in which a process must come to its fail point, the first one's start included."""

DEADLOCK_TIMEOUT = "50ms"
"""Groups of different processes often lock accounts in different orders, and one must give way."""

KILLS = 300
"""SIGKILLs at each fail point, in the long form."""

SQLITE = 6
"""So many times fewer on SQLite."""


def commits() -> str:
    """How the ledger's messages are committed in this run of the matrix."""
    return os.environ.get("MQKIT_MATRIX_COMMITS", COMMITS[0])


@row(17, "worker killed before commit", short=6, long=3 * KILLS)
async def before_commit(bench: Bench) -> None:
    """Nothing of its work is there; its message comes again, and is applied once."""
    await kill(bench, UNCOMMITTED[commits()], {"worker_and_relay": WORKERS})


@row(18, "worker killed between commit and ack", short=5, long=KILLS + KILLS // SQLITE)
async def after_commit(bench: Bench) -> None:
    """Its message comes again, and must have no second effect; on SQLite, too."""
    on_sqlite = max(bench.faults // (SQLITE + 1), 1)
    again = lost = 0
    counts: dict[Kind, int] = {"postgres": bench.faults - on_sqlite, "sqlite": on_sqlite}
    for kind, count in counts.items():
        points = {f"committed ({kind})": COMMITTED[commits()]}
        log = await kill(bench, points, {"worker_and_relay": WORKERS}, kind=kind, faults=count)
        again += log.count("was handled before")
        for name in points:
            lost += sum(failpoints.lost_by(_tickets(bench, name)) or [count])
    bench.figures.notes.append(f"{again} messages came again that were committed")
    bench.check(again >= lost, f"only {again} of {lost} committed messages came again")


@row(
    19,
    "worker killed between a retry's confirm and the ack",
    short=4,
    long=len(RETRIED) * KILLS,
)
async def around_retry(bench: Bench) -> None:
    """There are two of its message then, of which one must have no effect."""
    await kill(bench, RETRIED, {"worker_and_relay": WORKERS}, failures=1)


@row(20, "relay killed before and after marking", short=8, long=len(RELAYED) * KILLS)
async def relay_killed(bench: Bench) -> None:
    """What it published is published again under the same id; what it did not, by another."""
    await kill(bench, RELAYED, {"worker": 1, "relay": 2}, calm=True)


async def kill(
    bench: Bench,
    points: Mapping[str, str],
    targets: Mapping[str, int],
    *,
    kind: Kind = "postgres",
    faults: int | None = None,
    calm: bool = False,
    **order: Any,
) -> str:
    """Kill processes at the points under load, as often as the form says; returns their log."""
    each = (faults or bench.faults) // len(points)
    tickets = {name: _tickets(bench, name) for name in points}
    for directory in tickets.values():
        failpoints.issue(directory, 0)
    async with ledger(bench, kind) as kept, bench.client() as client:
        if kind == "postgres":
            await kept.run(f"ALTER ROLE ledger SET deadlock_timeout = '{DEADLOCK_TIMEOUT}'")
        await client.declare(EVENTS)
        arm = {point: tickets[name] for name, point in points.items()}
        with nursery(bench, kept, targets, arm) as children:
            await consuming(children)
            async with feeding(kept, client, **order):
                for name, directory in tickets.items():
                    await _bleed(bench, children, name, directory, each)
            await kept.settled()
            if calm:
                await _calm(bench, kept, client)
            await kept.at_rest(client)
            await children.stop()
        book_deaths(bench, children)
        await kept.collect(client)
        return children.log.read_text()


def _tickets(bench: Bench, name: str) -> Path:
    return bench.directory / f"tickets {name}"


async def _calm(bench: Bench, kept: Ledger, client: Client) -> None:
    """Where nobody dies, nothing is published twice, however many relays there are."""
    await kept.collect(client)
    before = len(kept.events)
    await kept.send_many(client.publisher, AHEAD)
    await kept.settled()
    await kept.collect(client)
    ids = [message_id for message_id, _ in kept.events[before:]]
    again = len(ids) - len(set(ids))
    bench.check(not again, f"{again} messages were published again, with nobody killed")


async def _bleed(bench: Bench, children: Nursery, name: str, tickets: Path, count: int) -> None:
    """Let one process after the other die."""
    began = time.monotonic()
    before = children.killed()
    for number in range(1, count + 1):
        failpoints.issue(tickets, 1)
        await children.kills(before + number, ONE_KILL)
        bench.fault()
        await asyncio.sleep(random.uniform(0, LIFE))
    seconds = time.monotonic() - began
    note = f"{name}: {count} kills, {count / seconds:.1f} per second"
    if sizes := failpoints.lost_by(tickets):
        note += f", each of {min(sizes)} to {max(sizes)} messages, {statistics.mean(sizes):.1f}"
    bench.figures.notes.append(note)


def nursery(
    bench: Bench, kept: Ledger, targets: Mapping[str, int], arm: Mapping[str, Path]
) -> Nursery:
    """Services of the ledger in processes that are forked anew as they die."""
    return Nursery(
        {f"{SERVICES}:{name}": count for name, count in targets.items()},
        bench.url,
        bench.logs / f"nursery-{kept.engine.dialect.name}.log",
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
async def feeding(kept: Ledger, client: Client, **order: Any) -> AsyncIterator[None]:
    """Send orders in the background, as fast as they are posted; `order` are fields of some."""
    stop = asyncio.Event()

    async def feed() -> None:
        while not stop.is_set():
            if len(kept.sent) - await kept.posted() < AHEAD:
                # Every other one is as `order` says: one that fails shares a commit with others.
                fields: Sequence[dict[str, Any]] = ({}, order)
                sending = (kept.send(client.publisher, **fields[n % 2]) for n in range(AHEAD // 2))
                await asyncio.gather(*sending)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), 0.02)

    async with asyncio.TaskGroup() as group:
        group.create_task(feed())
        try:
            yield
        finally:
            stop.set()
