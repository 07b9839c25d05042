"""SQLAlchemy on SQLite's thread: one way there and back for a statement, and all that it gives."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from pathlib import Path
from typing import Any, cast

import pytest
from sqlalchemy import Column, Integer, MetaData, String, Table, insert, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError, MultipleResultsFound
from sqlalchemy.ext.asyncio import AsyncConnection

from mqkit.errors import StoreUnavailableError
from mqkit.store.database import engine
from mqkit.store.database.sqlite import driver as sqlite_driver
from mqkit.store.database.sqlite.thread import SqliteConnection
from tests.unit.store.support import opened

metadata = MetaData()
things = Table(
    "things", metadata, Column("id", Integer, primary_key=True), Column("name", String, unique=True)
)

NUMBERS = (
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {}) SELECT i FROM n"
)


async def driver_of(connection: AsyncConnection) -> SqliteConnection:
    """The connection below SQLAlchemy's."""
    driver = (await connection.get_raw_connection()).driver_connection
    assert isinstance(driver, SqliteConnection)
    return driver


async def test_a_statement_goes_to_the_thread_once(sqlite_database: str) -> None:
    """Whatever kind it is of and however many rows it has; so do a transaction's begin and end."""
    async with opened(sqlite_database) as db:
        async with db.transaction() as connection:
            await connection.run_sync(metadata.create_all)
            driver = await driver_of(connection)
        before = driver._submitted
        async with db.transaction() as connection:
            assert await driver_of(connection) is driver
            assert driver._submitted - before == 1
            cases: list[tuple[Any, Any]] = [
                (insert(things).inline(), {"name": "a"}),
                (insert(things).inline(), [{"name": f"{i}"} for i in range(100)]),
                (insert(things).returning(things.c.id), {"name": "b"}),
                (select(things), None),
            ]
            for statement, parameters in cases:
                before = driver._submitted
                await connection.execute(statement, parameters)
                assert driver._submitted - before == 1
            before = driver._submitted
        assert driver._submitted - before == 1


async def test_results_are_what_sqlite_gives(sqlite_database: str) -> None:
    """Ids, counts, names of columns and rows, in the ways that SQLAlchemy reads them."""
    async with opened(sqlite_database) as db, db.transaction() as connection:
        await connection.run_sync(metadata.create_all)
        inserted = await connection.execute(insert(things), {"name": "a"})
        assert inserted.inserted_primary_key == (1,)
        many = await connection.execute(insert(things), [{"name": c} for c in "bcd"])
        assert many.rowcount == 3
        found = await connection.execute(select(things).order_by(things.c.id))
        assert list(found.keys()) == ["id", "name"]
        assert found.fetchone() == (1, "a")
        assert found.fetchmany(2) == [(2, "b"), (3, "c")]
        assert found.all() == [(4, "d")]
        assert list(await connection.execute(select(things.c.id))) == [(1,), (2,), (3,), (4,)]
        with pytest.raises(MultipleResultsFound):
            (await connection.execute(select(things))).one()
        updated = await connection.execute(things.update().values(name=things.c.name + "x"))
        assert updated.rowcount == 4
        returned = await connection.execute(insert(things).returning(things.c.id), {"name": "e"})
        assert returned.scalar_one() == 5
        matched = select(things.c.id).where(things.c.name.regexp_match("^[ab]x$"))
        assert (await connection.execute(matched)).scalars().all() == [1, 2]


async def test_a_stream_reads_rows_as_they_are_asked_for(sqlite_database: str) -> None:
    """Of a million rows few are read for the first five; and all of them can be."""
    read = 0

    def note(i: int) -> int:
        nonlocal read
        read += 1
        return i

    async with opened(sqlite_database) as db, db.transaction() as connection:
        driver = await driver_of(connection)
        await driver.run(lambda database: database.create_function("note", 1, note))
        rows = await connection.stream(
            text(NUMBERS.format(1_000_000).replace("SELECT i FROM", "SELECT note(i) FROM"))
        )
        assert [(await rows.fetchone()) for _ in range(5)] == [(i,) for i in range(1, 6)]
        await rows.close()
        assert read < 1_000
        rows = await connection.stream(text(NUMBERS.format(3_000)))
        assert [i async for (i,) in rows] == list(range(1, 3_001))
        rows = await connection.stream(text(NUMBERS.format(50)))
        assert await rows.scalars().all() == list(range(1, 51))
        # What is not read to its end is in nobody's way.
        await connection.stream(text(NUMBERS.format(1_000_000)))
        await connection.run_sync(metadata.create_all)
    async with opened(sqlite_database) as db, db.transaction() as connection:
        await connection.execute(insert(things), {"name": "a"})


async def test_errors_are_sqlites_wrapped_by_sqlalchemy(sqlite_database: str) -> None:
    """With the code that tells what is the matter; the transaction is still good."""
    async with opened(sqlite_database) as db, db.transaction() as connection:
        await connection.run_sync(metadata.create_all)
        await connection.execute(insert(things), {"name": "a"})
        for parameters in ({"name": "a"}, [{"name": "b"}, {"name": "a"}]):
            with pytest.raises(IntegrityError) as raised:
                async with connection.begin_nested():
                    await connection.execute(insert(things).inline(), parameters)
            assert isinstance(raised.value.orig, sqlite3.IntegrityError)
            assert raised.value.orig.sqlite_errorname == "SQLITE_CONSTRAINT_UNIQUE"
        assert (await connection.execute(select(things.c.name))).all() == [("a",)]


async def test_the_write_lock_is_waited_for_in_the_thread(
    sqlite_database: str, tmp_path: Path
) -> None:
    """The loop goes on: it is what gives the lock back here."""
    async with opened(sqlite_database) as db:
        other = sqlite3.connect(tmp_path / "test.sqlite", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        asyncio.get_running_loop().call_later(0.05, other.execute, "COMMIT")
        async with db.transaction() as connection:
            await connection.run_sync(metadata.create_all)
        other.close()


async def test_a_transaction_that_is_cancelled_at_its_begin_keeps_no_lock(
    sqlite_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It began after all, in the thread, once the other process let it; and was rolled back."""
    async with opened(sqlite_database) as db:
        other = sqlite3.connect(tmp_path / "test.sqlite", isolation_level=None, timeout=0)
        other.execute("BEGIN IMMEDIATE")

        async def use() -> None:
            async with db.transaction():
                pytest.fail("it has not begun")

        loop, begins = asyncio.get_running_loop(), asyncio.Event()
        execute = sqlite_driver._execute

        def noted(statement: str, *rest: Any) -> Any:
            loop.call_soon_threadsafe(begins.set)
            return execute(statement, *rest)

        monkeypatch.setattr(sqlite_driver, "_execute", noted)
        task = asyncio.create_task(use())
        await begins.wait()
        task.cancel()
        asyncio.get_running_loop().call_later(0.05, other.execute, "COMMIT")
        with pytest.raises(asyncio.CancelledError):
            await task
        other.execute("BEGIN IMMEDIATE")
        other.close()


async def test_a_statement_that_is_cancelled_is_rolled_back(sqlite_database: str) -> None:
    """And its connection, which is as good as new, serves the next transaction."""
    async with opened(sqlite_database) as db:
        async with db.transaction() as connection:
            await connection.run_sync(metadata.create_all)
        used = []
        go_on = threading.Event()

        async def use() -> None:
            async with db.transaction() as connection:
                driver = await driver_of(connection)
                used.append(driver)
                await driver.run(
                    lambda database: database.create_function("wait", 0, lambda: go_on.wait(20))
                )
                await connection.execute(text("INSERT INTO things (name) SELECT wait()"))

        task = asyncio.create_task(use())
        while not used:
            await asyncio.sleep(0)
        await asyncio.sleep(0.02)
        task.cancel()
        asyncio.get_running_loop().call_later(0.02, go_on.set)
        with pytest.raises(asyncio.CancelledError):
            await task
        async with db.transaction() as connection:
            assert await driver_of(connection) is used[0]
            assert (await connection.execute(select(things))).all() == []


async def test_connections_are_set_up_for_messages_that_must_not_be_lost(
    sqlite_database: str,
) -> None:
    """A log beside the file, a wait for the disk, foreign keys, patience with other writers."""
    pragmas = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 30_000}
    assert engine.LOCK_TIMEOUT == 30
    async with opened(sqlite_database) as db, db.reading() as connection:
        found: dict[str, Any] = {
            name: (await connection.execute(text(f"PRAGMA {name}"))).scalar() for name in pragmas
        }
        assert found == pragmas


@pytest.mark.parametrize("how", ["dispose", "invalidate", "forget"])
async def test_a_connection_that_is_given_up_ends_its_thread(
    how: str, sqlite_database: str
) -> None:
    """In each of the ways in which SQLAlchemy gives one up."""
    async with opened(sqlite_database) as db:
        async with db.reading() as connection:
            driver = await driver_of(connection)  # kept, so that it is no garbage
            if how == "invalidate":
                await connection.invalidate()
        if how == "forget":
            assert db._engine is not None
            kept = await db._engine.raw_connection()
            kept.driver_connection  # noqa: B018
            kept.invalidate()  # without a greenlet: nothing can wait for it
        if how == "dispose":
            await db.close()
        await asyncio.to_thread(driver._worker.join, 20)
        assert not cast("threading.Thread", driver._worker).is_alive()


async def test_a_full_database_is_the_databases_fault(sqlite_database: str) -> None:
    """In statements of mqkit's own, too, which do not go through SQLAlchemy."""
    async with opened(sqlite_database) as db:
        rows = [{"name": "x" * 10_000}]

        async def fill() -> None:
            async with db.transaction() as connection:
                await connection.run_sync(metadata.create_all)
                driver = await driver_of(connection)
                await driver.run(lambda database: database.execute("PRAGMA max_page_count = 1"))
                await db.dialect.insert_locked(connection, things, rows, ())

        with pytest.raises(StoreUnavailableError, match="full") as raised:
            await fill()
        assert raised.value.lasting
        with pytest.raises(DBAPIError, match="no such table"):
            async with db.transaction() as connection:
                await db.dialect.insert_locked(connection, things, rows, ())
