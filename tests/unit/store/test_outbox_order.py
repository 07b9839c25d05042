"""The outbox under writers that commit in any order, and relays that fail in any way."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from mqkit.errors import ConnectionLostError, NackedError
from mqkit.message import Message, Properties
from mqkit.store import outbox
from mqkit.store.database.pool import Database
from mqkit.store.outbox import Claim, Outbox
from mqkit.store.relay import Relay
from tests.postgres import find_postgres, start
from tests.support import eventually
from tests.unit.store.support import is_sqlite, opened, refusal

IS_LONG = bool(os.environ.get("MQKIT_TEST_LONG"))
"""Whether `MQKIT_TEST_LONG=1` asks for the long form."""

KEYS = ("a", "b", "c", "")


@dataclass(frozen=True)
class Work:
    """One transaction of a writer: what it publishes, how long it dawdles, and how it ends."""

    keys: Sequence[str | None]
    before: float
    after: float
    """Seconds between the writing of its messages and its commit."""
    commits: bool


moments = st.sampled_from([0.0, 0.0, 0.001, 0.003, 0.008])
works = st.builds(
    Work,
    keys=st.lists(st.sampled_from([*KEYS, None]), min_size=1, max_size=3),
    before=moments,
    after=moments,
    commits=st.sampled_from([True, True, True, False]),
)
fates = st.lists(
    st.sampled_from(["ok"] * 12 + ["confirm lost", "refused", "cancelled"]), max_size=60
)
"""Of the publishes, in turn; "ok" for all that follow."""


@pytest.fixture(scope="module")
def timed_postgres() -> Iterator[str]:
    """A database that remembers when each transaction was committed."""
    env = {k: v for k, v in os.environ.items() if k != "MQKIT_TEST_POSTGRES"}
    with start(find_postgres(env)) as server:
        server._execute("ALTER SYSTEM SET track_commit_timestamp = on")
        server.stop()
        server.start()
        yield server.create_database("order")


@dataclass
class Wire:
    """The broker of one example: what was written, in order, and what may be written again."""

    fates: Iterator[str]
    written: list[str] = field(default_factory=list)
    again: Counter[str] = field(default_factory=Counter)
    """How often a message may have been written to no avail: its confirm, or its mark, was lost."""


class WatchedOutbox(Outbox):
    """Knows what its relay wrote and has not marked yet."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.unmarked: list[str] = []

    @contextlib.asynccontextmanager
    async def claim(self, shards: Sequence[int], limit: int, now: datetime) -> AsyncIterator[Claim]:
        """As its base."""
        async with super().claim(shards, limit, now) as claim:
            yield claim
        # Not those of another claim: a relay has several rounds at a time.
        mine = {entry.message_id for entry in claim.entries}
        self.unmarked = [message_id for message_id in self.unmarked if message_id not in mine]


async def relay_until(wire: Wire, database: Database, done: asyncio.Event) -> None:
    """Relay; where a publish is fated to, cancel the relay in the middle of it and start anew."""
    while not done.is_set():
        box = WatchedOutbox(database)
        cancelling = asyncio.Event()

        async def send(
            message: Message,
            *,
            timeout: float | None = None,  # noqa: ASYNC109 - `SendWithin`
            declare: object = None,
            box: WatchedOutbox = box,
            cancelling: asyncio.Event = cancelling,
        ) -> None:
            message_id = message.properties.message_id or ""
            fate = next(wire.fates, "ok")
            await asyncio.sleep(0)
            if fate == "refused":
                raise refusal(NackedError)
            wire.written.append(message_id)
            if fate == "confirm lost":
                wire.again[message_id] += 1
                raise refusal(ConnectionLostError)
            box.unmarked.append(message_id)
            if fate == "cancelled":
                cancelling.set()
                await asyncio.Event().wait()
            await asyncio.sleep(0.001)

        async def purge() -> int:
            return 0

        relay = Relay(box, send, clock=now, purge=purge, sweep=0.005, batch=7)
        running = asyncio.create_task(relay.run())
        ends = [asyncio.create_task(event.wait()) for event in (done, cancelling)]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if cancelling.is_set():
            running.cancel()
            wire.again.update(box.unmarked)
        relay.stop()
        await asyncio.wait([running])
        if not running.cancelled():
            running.result()
        for end in ends:
            end.cancel()


def now() -> datetime:
    """The real time, after which a refused message is tried again."""
    return datetime.now(UTC)


async def write(database: Database, name: str, works_: Sequence[Work]) -> list[str]:
    """One writer: its transactions one after the other; ids of what it rolled back."""
    undone = []
    for number, work in enumerate(works_):
        await asyncio.sleep(work.before)
        messages = [
            (key, Message("e", key or "", b"", Properties(message_id=f"{name}.{number}.{i}")))
            for i, key in enumerate(work.keys)
        ]
        with contextlib.suppress(LookupError):
            async with database.transaction() as connection:
                for i, (key, message) in enumerate(messages):
                    await connection.execute(
                        text("INSERT INTO work (id, key, place) VALUES (:id, :key, :place)"),
                        {"id": message.properties.message_id, "key": key, "place": i},
                    )
                await outbox.write(connection, database.dialect, messages, now())
                await asyncio.sleep(work.after)
                if not work.commits:
                    undone += [message.properties.message_id or "" for _, message in messages]
                    raise LookupError
    return undone


async def committed(database: Database, url: str) -> list[tuple[str, str | None]]:
    """Ids and keys in the order of the commits, as the database itself tells it."""
    # SQLite's transactions come one after the other. PostgreSQL notes the time of each commit, and
    # those of one key are never at the same time if that key is locked until the commit.
    when = "number" if is_sqlite(url) else "pg_xact_commit_timestamp(xmin), place"
    async with database.reading() as connection:
        rows = await connection.execute(text(f"SELECT id, key FROM work ORDER BY {when}"))  # noqa: S608
        return [(row.id, row.key) for row in rows]


async def check(
    url: str, writers: Sequence[Sequence[Work]], fates_: list[str], relays: int
) -> None:
    """Run the example, and compare what was written with what was committed."""
    number = "INTEGER PRIMARY KEY AUTOINCREMENT" if is_sqlite(url) else "BIGSERIAL PRIMARY KEY"
    wire, done = Wire(iter(fates_)), asyncio.Event()
    async with opened(url, pool=10) as database:
        async with database.transaction() as connection:
            await connection.execute(text("DROP TABLE IF EXISTS work"))
            await connection.execute(
                text(f"CREATE TABLE work (number {number}, id TEXT, key TEXT, place INT)")
            )
        relaying = [asyncio.create_task(relay_until(wire, database, done)) for _ in range(relays)]
        undone = await asyncio.gather(
            *(write(database, f"w{i}", works_) for i, works_ in enumerate(writers))
        )
        box = Outbox(database)

        async def is_empty() -> bool:
            return await box.count() == 0

        await eventually(is_empty, within=30, what="an empty outbox")
        done.set()
        await asyncio.gather(*relaying)
        told = await committed(database, url)

    assert set(wire.written) == {message_id for message_id, _ in told}
    assert not set(wire.written) & {message_id for ids in undone for message_id in ids}
    times = Counter(wire.written)
    too_often = {i: n for i, n in times.items() if n - 1 > wire.again[i]}
    assert not too_often, "written again though its confirm was marked"
    first = list(dict.fromkeys(wire.written))
    keys = dict(told)
    for key in KEYS:
        assert [i for i in first if keys[i] == key] == [i for i, k in told if k == key]


@settings(
    max_examples=15 if IS_LONG else 8,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(
    writers=st.lists(st.lists(works, min_size=1, max_size=5), min_size=8, max_size=8),
    fates_=fates,
    relays=st.integers(2, 3),
)
async def test_eight_writers_on_postgresql(
    timed_postgres: str, writers: list[list[Work]], fates_: list[str], relays: int
) -> None:
    """All that was committed is published, once a confirm, and each key in its commits' order."""
    await check(timed_postgres, writers, fates_, relays)


@settings(
    max_examples=10 if IS_LONG else 6,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(
    writers=st.lists(st.lists(works, min_size=1, max_size=4), min_size=3, max_size=3),
    fates_=fates,
    relays=st.integers(1, 2),
)
async def test_three_writers_on_sqlite(
    tmp_path: Path, writers: list[list[Work]], fates_: list[str], relays: int
) -> None:
    """The same, with a relay of which there is one at a time."""
    await check(f"sqlite:///{tmp_path / 'order.sqlite'}", writers, fates_, relays)
