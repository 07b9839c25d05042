"""Row 28: clocks that jump."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from unittest import mock

from sqlalchemy import func, insert, select

from mqkit.clock import utc_now
from mqkit.store import Store, relay
from mqkit.store.schema import inbox, outbox
from tests.faults.matrix.ledger import Kind, Ledger, ledger
from tests.faults.matrix.row import Bench, row
from tests.faults.store_services import EVENTS, posting
from tests.support import Client, delete, eventually

HOUR = 3600.0

WINDOW = 20.0
"""Seconds that the store is told of for retries and for replays each."""

PURGE_EVERY = 0.2
"""Seconds."""


class Clock:
    """A wall clock that is set by hand."""

    def __init__(self) -> None:
        self.offset = 0.0

    def __call__(self) -> datetime:
        """The time that it shows."""
        return utc_now() + timedelta(seconds=self.offset)


@row(28, "clock jumps an hour each way", short=4)
async def jump(bench: Bench) -> None:
    """No inbox row expires early, nothing waits for an hour, and nothing is taken for a replay.

    The inbox of SQLite goes by the clock that jumps; that of PostgreSQL by its server's.
    """
    on_sqlite = bench.faults // 2
    with mock.patch.object(relay, "PURGE_EVERY", PURGE_EVERY):
        await _jumps(bench, "postgres", bench.faults - on_sqlite)
        if on_sqlite:
            await _jumps(bench, "sqlite", on_sqlite)


async def _jumps(bench: Bench, kind: Kind, count: int) -> None:
    clock = Clock()
    async with ledger(bench, kind) as kept, bench.client() as client:
        await client.declare(EVENTS)
        store = Store(kept.url, clock=clock, longest_retry=WINDOW, replay_age=WINDOW, sweep=0.1)
        async with bench.serving(posting(bench.journal, store), clock=clock):
            for direction in itertools.islice(itertools.cycle((1, -1, -1, 1)), count):
                await _jump(bench, kept, client, clock, direction * HOUR)
            await kept.settled()
        await kept.collect(client)


async def _jump(bench: Bench, kept: Ledger, client: Client, clock: Clock, seconds: float) -> None:
    """With messages handled before, in retry, and refused by the broker at that time."""
    handled = await kept.send_many(client.publisher, 3)
    await kept.applied(handled)
    await kept.settled()
    await kept.collect(client)
    await delete(bench.url, queue=EVENTS)
    refused = await kept.send_many(client.publisher, 3)
    await eventually(lambda: _is_refused(kept), what="a refusal of the broker")
    retried = await kept.send_many(client.publisher, 3, failures=2)
    clock.offset += seconds
    bench.fault()
    await client.declare(EVENTS)
    new = await kept.send_many(client.publisher, 3)
    # Nothing that waited may wait for the hour, and none be refused as too old or too new.
    await kept.applied([*refused, *retried, *new], within=10)
    await kept.settled(within=10)
    await _purged(kept, clock)
    for key in handled:
        await kept.send(client.publisher, key=key)
    await _taken(bench, handled)


async def _is_refused(kept: Ledger) -> bool:
    ((attempts,),) = await kept.rows(select(func.max(outbox.c.attempts)))
    return bool(attempts)


async def _purged(kept: Ledger, clock: Clock) -> None:
    """Wait until the purge has run by the present time: until it has taken a row that is due."""
    row: dict[str, object] = dict.fromkeys(("handler", "message_id", "queue"), "due")
    # By the clock of the database's server, which does not jump, and of SQLite's only host.
    now = datetime.now(UTC) if kept.url.startswith("postgres") else clock()
    row |= {"attempt": 1, "handled_at": now, "keep_until": now - timedelta(seconds=1)}
    async with kept.engine.begin() as connection:
        await connection.execute(insert(inbox), row)

    async def gone() -> bool:
        return not await kept.rows(select(inbox).where(inbox.c.handler == "due"))

    await eventually(gone, what="a purge")


async def _taken(bench: Bench, keys: list[str]) -> None:
    """Wait until the second copy of each was seen."""

    def seen() -> bool:
        logged = bench.logged()
        runs = [key for key, *_ in bench.journal.runs()]
        return all(
            f"message {key} was handled before" in logged or runs.count(key) > 1 for key in keys
        )

    await eventually(seen, what="the second copies")
