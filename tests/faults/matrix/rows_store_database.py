"""Rows 26 and 27: a database that is locked, deadlocked or down, and commits out of order."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Callable
from unittest import mock

from sqlalchemy import func, insert, select, text

from mqkit import Delivery
from mqkit.consuming import failures
from mqkit.outcome import Outcome, RetryAfter
from mqkit.store import Store
from mqkit.store.database import engine
from mqkit.store.schema import inbox
from tests.faults.ledger import Event, hold
from tests.faults.matrix.ledger import Ledger, ledger
from tests.faults.matrix.row import Bench, row
from tests.faults.store_services import EVENTS, posting, sharing_more
from tests.support import Client, Telling, eventually

LOCK_TIMEOUT = 1.5
"""Seconds that a statement waits for a lock, here."""

STORE_WAIT_MAX = 1.5
"""Seconds until a message that met it is tried again, at most."""

DEADLOCK_TIMEOUT = "1300ms"
"""After which who waits looks for a deadlock, once: less than for the lock."""

OUTAGE = 4.0
"""Seconds that the database is locked, down or paused: more than twice the lock's timeout, for
messages of a group meet it together first, and then each alone."""

TRIES = 5
"""Deadlocks that are made until one is found: where the machine is busy, who waits may look for it
before there is one, and give up by the lock's timeout."""

BACK_WITHIN = 10.0
"""Seconds from the end of an outage until a new order is posted, which may take some retries."""

HELD = "(7, 7)"
"""The advisory lock that holds commits up."""

HOLD_UP = (
    f"""
CREATE FUNCTION hold_up() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN PERFORM pg_advisory_xact_lock_shared{HELD}; RETURN NULL; END $$
""",
    """
CREATE CONSTRAINT TRIGGER hold_up AFTER INSERT ON hold DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW EXECUTE FUNCTION hold_up()
""",
)
"""Run in the commit itself, after all statements
(https://www.postgresql.org/docs/current/sql-createtrigger.html)."""

SHARED, SHARED_EVENTS = "shared", "shared.events"

WAITING = text("SELECT count(*) FROM pg_locks WHERE locktype = :kind AND NOT granted")

BLOCKED_BY = text("SELECT count(*) FROM pg_stat_activity WHERE :pid = ANY(pg_blocking_pids(pid))")

Outage = Callable[[Ledger, Client], contextlib.AbstractAsyncContextManager[None]]


@contextlib.asynccontextmanager
async def locked(kept: Ledger, _: Client) -> AsyncIterator[None]:
    """Nobody else can write a posting, at the end of the handler."""
    async with kept.engine.begin() as connection:
        await connection.execute(text("LOCK TABLE posting IN ACCESS EXCLUSIVE MODE"))
        yield


@contextlib.asynccontextmanager
async def inbox_locked(kept: Ledger, _: Client) -> AsyncIterator[None]:
    """Nobody can begin."""
    async with kept.engine.begin() as connection:
        await connection.execute(text(f"LOCK TABLE {inbox.name} IN ACCESS EXCLUSIVE MODE"))
        yield


@contextlib.asynccontextmanager
async def deadlocked(kept: Ledger, client: Client) -> AsyncIterator[None]:
    """Another takes the accounts in another order, and is never the victim."""
    async with kept.engine.begin() as connection:
        await connection.execute(text("SET LOCAL deadlock_timeout = '1min'"))
        lock = text("SELECT 1 FROM account WHERE name = :name FOR UPDATE")
        await connection.execute(lock, {"name": kept.accounts[-1]})
        own = (await connection.execute(text("SELECT pg_backend_pid()"))).scalar_one()
        await kept.send(client.publisher, between=kept.accounts[-2:])

        async def blocks() -> bool:
            ((count,),) = await kept.rows(BLOCKED_BY.bindparams(pid=own))
            return bool(count)

        await eventually(blocks, what="one who has the other account, and waits for this")
        await connection.execute(lock, {"name": kept.accounts[-2]})
        yield


@contextlib.asynccontextmanager
async def stopped(kept: Ledger, _: Client) -> AsyncIterator[None]:
    """Shut down in order."""
    await asyncio.to_thread(kept.server.stop)
    yield
    await asyncio.to_thread(kept.server.start)


@contextlib.asynccontextmanager
async def killed(kept: Ledger, _: Client) -> AsyncIterator[None]:
    """All its processes at once."""
    await asyncio.to_thread(kept.server.kill)
    yield
    await asyncio.to_thread(kept.server.start)


@contextlib.asynccontextmanager
async def paused(kept: Ledger, _: Client) -> AsyncIterator[None]:
    """It accepts connections, and says nothing."""
    await asyncio.to_thread(kept.server.pause)
    yield
    await asyncio.to_thread(kept.server.resume)


OUTAGES: dict[Outage, str] = {
    locked: "lock timeout",
    deadlocked: "deadlock detected",
    stopped: "",
    killed: "",
    paused: "",
    inbox_locked: "lock timeout",
}
"""Each with the reason of a retry that must be there."""


@row(26, "database locked, deadlocked, down", short=len(OUTAGES))
async def database_away(bench: Bench) -> None:
    """Messages that meet it are tried again, uncounted, and none is acked or dead-lettered."""
    reasons: list[str] = []

    def settled(_: Delivery, outcome: Outcome) -> None:
        if isinstance(outcome, RetryAfter):
            reasons.append(str(outcome.error))

    with (
        mock.patch.object(engine, "LOCK_TIMEOUT", LOCK_TIMEOUT),
        mock.patch.object(failures, "STORE_WAIT_MAX", STORE_WAIT_MAX),
        sharing_more(),
    ):
        async with ledger(bench) as kept, bench.client() as client:
            await client.declare(EVENTS)
            await kept.run(f"ALTER ROLE ledger SET deadlock_timeout = '{DEADLOCK_TIMEOUT}'")
            service = posting(bench.journal, Store(kept.url))
            async with bench.serving(service, observer=Telling(settled=settled)):
                for outage in itertools.islice(itertools.cycle(OUTAGES), bench.faults):
                    await _outage(bench, kept, client, outage, reasons)
                await kept.settled()
            await kept.collect(client)
            ((attempts,),) = await kept.rows(select(func.max(inbox.c.attempt)))
    bench.check(attempts == 1, f"a failure of the database counted: {attempts} attempts")


async def _outage(
    bench: Bench, kept: Ledger, client: Client, outage: Outage, failures: list[str]
) -> None:
    failures.clear()
    words = OUTAGES[outage]
    for _ in range(TRIES if outage is deadlocked else 1):
        await _meet(bench, kept, client, outage)
        if any(words in failure for failure in failures):
            break
    name = outage.__name__
    bench.figures.notes.append(f"{name}: {len(failures)} retries")
    # What hangs and goes on has not failed.
    bench.check(bool(failures) or outage is paused, f"{name}: nothing was retried")
    said = any(words in failure for failure in failures) or not words
    bench.check(said, f"{name}: no retry because of {words}: {failures[:1]}")


async def _meet(bench: Bench, kept: Ledger, client: Client, outage: Outage) -> None:
    """Send messages before, in and after an outage, and wait until all are applied."""
    between = kept.accounts[:-2]
    before = await kept.send_many(client.publisher, 5, seconds=0.1, between=between)
    async with outage(kept, client):
        bench.fault()
        began = time.monotonic()
        during = await kept.send_many(client.publisher, 10, between=between)
        await asyncio.sleep(max(OUTAGE - (time.monotonic() - began), 0))
    since = time.monotonic()
    await kept.applied([await kept.send(client.publisher)], within=60)
    bench.recovered(since, BACK_WITHIN)
    await kept.applied([*before, *during], within=60)


@row(27, "commits out of order", short=3)
async def out_of_order(bench: Bench) -> None:
    """A commit that is held up while later ones go by is not skipped, nor overtaken in its key."""
    async with ledger(bench) as kept, bench.client() as client:
        for queue in (EVENTS, SHARED_EVENTS):
            await client.declare(queue)
        for statement in HOLD_UP:
            await kept.run(statement)
        for _ in range(bench.faults):
            async with bench.serving(posting(bench.journal, Store(kept.url))):
                await _overtake(bench, kept, client)
            await _overtake_in_key(bench, kept, client)
        await kept.collect(client)


@contextlib.asynccontextmanager
async def _held(kept: Ledger) -> AsyncIterator[None]:
    """Commits of who has inserted into `hold` wait until the end of the block."""
    async with kept.engine.connect() as connection:
        await connection.execute(text(f"SELECT pg_advisory_lock{HELD}"))
        try:
            yield
        finally:
            await connection.execute(text(f"SELECT pg_advisory_unlock{HELD}"))


async def _overtake(bench: Bench, kept: Ledger, client: Client) -> None:
    """Orders of other accounts are committed and published meanwhile."""
    first, others = kept.accounts[:2], kept.accounts[2:]
    async with _held(kept):
        early = await kept.send(client.publisher, between=first, held=True)
        await eventually(lambda: _waiting(kept, "advisory"), what="the commit that is held up")
        later = [await kept.send(client.publisher, between=others) for _ in range(10)]
        await kept.applied(later)
        await eventually(kept.is_published, what="the publishing of those that came later")
        bench.fault()
        bench.check(early not in await kept.effects(), "it was not held up")
    since = time.monotonic()
    await kept.applied([early])
    await kept.settled()
    bench.recovered(since)


async def _overtake_in_key(bench: Bench, kept: Ledger, client: Client) -> None:
    """Another transaction of the same key, which shares no row with the one that is held up."""
    async with Store(kept.url, relay=False) as store:
        async with _held(kept):
            first = asyncio.create_task(_publish_shared(store, 1, held=True))
            await eventually(lambda: _waiting(kept, "advisory"), what="the commit that is held up")
            second = asyncio.create_task(_publish_shared(store, 2, held=False))

            async def decided() -> bool:
                return second.done() or await _waiting(kept, "advisory", 2)

            await eventually(decided, what="the second one's commit, or its waiting")
            commits = [2, 1] if second.done() else [1, 2]
        await asyncio.gather(first, second)
    async with Store(kept.url) as store:
        store.start(client.publisher.send)
        await eventually(kept.is_published, what="an empty outbox")
        await store.stop()
    found = await client.take_all(SHARED_EVENTS)
    numbers = [Event.model_validate_json(incoming.body).number for incoming in found]
    bench.check(
        list(dict.fromkeys(numbers)) == commits,
        f"messages of one key were committed as {commits}, and published as {numbers}",
    )


async def _publish_shared(store: Store, number: int, *, held: bool) -> None:
    async with store.transaction() as transaction:
        event = Event(key=SHARED, account=SHARED, number=number)
        await transaction.publish("", SHARED_EVENTS, event, key=SHARED)
        if held:
            await transaction.execute(insert(hold))


async def _waiting(kept: Ledger, kind: str, count: int = 1) -> bool:
    """Whether so many wait for locks of the kind."""
    ((waiting,),) = await kept.rows(WAITING.bindparams(kind=kind))
    return int(waiting) >= count
