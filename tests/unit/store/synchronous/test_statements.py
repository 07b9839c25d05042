"""What a `def` handler does to its transaction or session is no concern of other messages."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import text

from mqkit.errors import StoreError
from mqkit.store import Store, SyncTransaction
from tests.unit.store.support import make_work, work_of
from tests.unit.store.synchronous.test_once import insert, messages_of, once


@pytest.mark.parametrize("statement", ["COMMIT", "ROLLBACK", "end", "/* done */ COMMIT", "BEGIN"])
async def test_a_statement_that_ends_the_transaction_is_not_sent(
    database: str, statement: str
) -> None:
    """The handler fails by it, and nothing of it stays; one that goes on has its effect."""

    def end(transaction: SyncTransaction) -> None:
        insert(transaction)
        transaction.execute(text(statement))

    def go_on(transaction: SyncTransaction) -> str:
        with pytest.raises(StoreError, match="not sent"):
            transaction.execute(text(statement))
        return insert(transaction)

    async with Store(database, relay=False) as store:
        await make_work(store)
        with pytest.raises(StoreError, match="not sent"):
            await once(store, "m", end)
        assert (await work_of(store), await messages_of(store)) == ([], [])
        assert await once(store, "m", go_on) == "a"
        assert await work_of(store) == ["a"]


@pytest.mark.parametrize(
    "statement",
    [
        "SET TIME ZONE 'Asia/Tokyo'",
        "SET search_path TO nowhere",
        "SET LOCAL search_path TO nowhere",
        "SET ROLE pg_monitor",
        "SET default_transaction_read_only = on",
        "SELECT pg_advisory_lock(7)",
        "CREATE TEMP TABLE work (id VARCHAR(80))",
    ],
)
async def test_what_a_handler_does_to_the_session_is_met_by_no_other_message(
    postgres_database: str, statement: str
) -> None:
    """Its own message is handled, and what it publishes is in the store's outbox."""

    def look(transaction: SyncTransaction) -> list[Any]:
        insert(transaction, f"w{next(numbers)}")
        return [
            transaction.connection.scalar(text(each))
            for each in (
                "SELECT current_setting('TimeZone') || current_user",
                "SELECT count(*) FROM pg_locks WHERE objid = 7 AND locktype = 'advisory'",
            )
        ]

    def change(transaction: SyncTransaction) -> None:
        insert(transaction, "changing")
        transaction.execute(text(statement))

    numbers = iter(range(10))
    async with Store(postgres_database, relay=False, pool=1) as store:
        await make_work(store)
        before = await once(store, "a", look)
        await once(store, "b", change)
        assert await once(store, "c", look) == before
        assert await work_of(store) == ["changing", "w0", "w1"]
        assert len(await messages_of(store)) == 3
