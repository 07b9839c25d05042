"""What a store has yet to do, as metrics tell it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import update

from mqkit.message import Message, Properties
from mqkit.middleware import StoreReading
from mqkit.registration.sagas import SagaEntry, SagaRow
from mqkit.store import backlog, outbox
from mqkit.store.database.pool import Database
from mqkit.store.sagas import StoredSagas
from mqkit.store.schema import outbox as table
from tests.unit.store.support import NOW, opened


async def write(database: Database, *ids: str, ago: float = 0.0) -> None:
    """Commit messages, so many seconds ago."""
    async with database.transaction() as connection:
        messages = [(None, Message("e", "k", b"", Properties(message_id=each))) for each in ids]
        moment = NOW - timedelta(seconds=ago)
        await outbox.write(connection, database.dialect, messages, moment)


async def test_the_outbox_is_counted_and_its_oldest_message_timed(database: str) -> None:
    """What is dead is counted for itself, and its age is nobody's"""
    async with opened(database) as db:
        assert await backlog.backlog(db, NOW) == StoreReading(0, 0, 0.0)
        await write(db, "dead", ago=500)
        async with db.transaction() as connection:
            await connection.execute(update(table).values(shard=-1))
        await write(db, "first", ago=60)
        await write(db, "second", "third", ago=5)
        assert await backlog.backlog(db, NOW) == StoreReading(3, 1, 60.0)


async def test_a_clock_that_is_behind_makes_no_negative_age(database: str) -> None:
    """The writer's clock may be ahead of the reader's"""
    async with opened(database) as db:
        await write(db, "first", ago=-60)
        assert (await backlog.backlog(db, NOW)).oldest == 0.0


async def test_a_large_outbox_is_counted_up_to_a_limit(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To count millions every few seconds would hold up those who publish them"""
    monkeypatch.setattr(backlog, "COUNTED", 5)
    async with opened(database) as db:
        await write(db, *(f"m{n}" for n in range(20)))
        assert (await backlog.backlog(db, NOW)).waiting == 5


async def test_sagas_that_go_on_are_counted_by_status(database: str) -> None:
    """Those that are completed are kept for a while, and are nobody's work any more"""

    def row(saga_id: str, status: str) -> SagaRow:
        return SagaRow("Payment", saga_id, 1, 1, status, "{}", "{}", NOW, NOW)

    def entry(saga_id: str) -> SagaEntry:
        return SagaEntry("Payment", saga_id, NOW, "h", "m", "t", "ran", "running", "{}", "[]")

    async with opened(database) as db:
        async with db.transaction() as connection:
            kept = StoredSagas(lambda: connection, db.dialect, lambda: NOW)
            for saga_id, status, keep in (
                ("1", "running", None),
                ("2", "running", None),
                ("3", "compensating", None),
                ("4", "completed", 60.0),
            ):
                await kept.insert(row(saga_id, status), entry(saga_id), keep=keep)
        found = await backlog.backlog(db, NOW)
    assert found.sagas == {("Payment", "running"): 2, ("Payment", "compensating"): 1}
