"""mqkit's own statements on SQLite: many rows at once, as SQLAlchemy writes them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from sqlalchemy import insert, select

from mqkit.store.schema import inbox, outbox
from tests.unit.store.support import opened

MOMENT = datetime(2026, 3, 1, 12, 30, 0, 123, tzinfo=timezone(timedelta(hours=2)))


def inbox_row(message_id: str) -> dict[str, Any]:
    """A row of the inbox."""
    return {
        "message_id": message_id,
        "handler": "h",
        "queue": "q",
        "attempt": 1,
        "body_hash": -(2**63),
        "keep_until": MOMENT + timedelta(days=1),
        "handled_at": MOMENT,
    }


def outbox_row(i: int) -> dict[str, Any]:
    """A row of the outbox."""
    return {
        "shard": 0,
        "order_key": None if i % 2 else "k",
        "message_id": f"m{i}",
        "exchange": "",
        "routing_key": "r",
        "mandatory": i % 3 == 0,
        "properties": "{}",
        "body": b"\0\xff" * i,
        "written_at": MOMENT,
        "attempts": 0,
    }


@pytest.mark.parametrize("count", [1, 7, 64, 150])
async def test_rows_are_inserted_in_their_order(sqlite_database: str, count: int) -> None:
    """However many they are, each is what SQLAlchemy would have written."""
    rows = [outbox_row(i) for i in range(count)]
    async with opened(sqlite_database) as db:
        async with db.transaction() as connection:
            await connection.execute(insert(outbox), rows)
            await db.dialect.insert_locked(connection, outbox, rows, ["k"])
        async with db.reading() as connection:
            found = (await connection.execute(select(outbox).order_by(outbox.c.id))).all()
    assert [row.id for row in found] == list(range(1, 2 * count + 1))
    assert [row[1:] for row in found[:count]] == [row[1:] for row in found[count:]]
    assert [row.body for row in found[count:]] == [row["body"] for row in rows]
    assert {row.written_at for row in found} == {MOMENT.astimezone(UTC)}


async def test_of_many_messages_those_are_told_that_were_not_in_the_inbox(
    sqlite_database: str,
) -> None:
    """Those of this handler and queue; the others' rows stay as they are."""
    ids = [f"m{i}é'\"" for i in range(150)]
    async with opened(sqlite_database) as db:
        async with db.transaction() as connection:
            others = [inbox_row(ids[5]) | {"queue": "another"}]
            assert await db.dialect.insert_inbox(connection, others) == {ids[5]}
            before = [inbox_row(each) for each in ids[::7]]
            assert await db.dialect.insert_inbox(connection, before) == set(ids[::7])
            await db.dialect.set_results(connection, {ids[7]: '"kept"'}, ("h", "q"))
        async with db.transaction() as connection:
            inserted = await db.dialect.insert_inbox(connection, [inbox_row(each) for each in ids])
            assert inserted == set(ids) - set(ids[::7])
            assert await db.dialect.insert_inbox(connection, before) == set()
        async with db.reading() as connection:
            found = (await connection.execute(select(inbox).where(inbox.c.queue == "q"))).all()
            assert sorted(row.message_id for row in found) == sorted(ids)
            assert {row.handled_at for row in found} == {MOMENT.astimezone(UTC)}
            assert {row.body_hash for row in found} == {-(2**63)}
            assert [row.message_id for row in found if row.result is not None] == [ids[7]]
