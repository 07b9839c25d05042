"""Statements on asyncpg's own connection: mqkit's, and those of handlers that ask for it."""

from __future__ import annotations

import asyncio
import contextlib
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import pytest
from sqlalchemy import text

from mqkit.errors import StatementError, StoreError, StoreUnavailableError
from mqkit.store import Store, Transaction
from tests.unit.store.support import delivery, make_work, publish, statements, work_of

Run = Callable[[Transaction], Awaitable[Any]]

INSERT = "INSERT INTO work VALUES ($1)"
SECRET = "s3cr3t"


async def insert(transaction: Transaction, *ids: str) -> None:
    """Work, by the driver's connection."""
    for each in ids:
        await transaction.driver_connection.execute(INSERT, each)


async def test_the_driver_s_connection_is_in_sqlalchemy_s_transaction(
    postgres_database: str,
) -> None:
    """It is begun before the first statement, and what SQLAlchemy sends is no savepoint of it."""
    async with Store(postgres_database, relay=False) as store:
        await make_work(store)
        with statements(store) as seen:
            async with store.transaction() as transaction:
                driver = transaction.driver_connection
                assert driver.is_in_transaction()
                await transaction.execute(text("INSERT INTO work VALUES ('a')"))
                await driver.execute(INSERT, "b")
                assert await driver.fetchval("SELECT count(*) FROM work") == 2
        assert not driver.is_in_transaction()
        assert seen[:3] == ["BEGIN", "INSERT INTO work", "INSERT INTO work"]
        assert seen[-1] == "COMMIT"

        async def fail(transaction: Transaction) -> None:
            await insert(transaction, "c")
            raise LookupError

        with pytest.raises(LookupError):
            await store.run_once("h", delivery("m"), fail)
        assert await work_of(store) == ["a", "b"]


async def test_sqlite_has_no_connection_of_asyncpg(sqlite_database: str) -> None:
    """The error says what to use."""
    async with Store(sqlite_database, relay=False) as store, store.transaction() as transaction:
        with pytest.raises(StoreError, match=r"use transaction\.execute"):
            _ = transaction.driver_connection


async def test_mqkit_s_statements_are_prepared_once_for_a_connection(
    postgres_database: str,
) -> None:
    """However many rows they are for."""
    async with Store(postgres_database, relay=False, pool=1) as store:
        for count in (1, 2, 7):
            await publish(store, *(f"{count}-{i}" for i in range(count)), key="k")
        async with store.transaction() as transaction:
            prepared = await transaction.driver_connection.fetchval(
                "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE $1",
                "%INSERT INTO mqkit_outbox%",
            )
        assert prepared == 1


@pytest.mark.parametrize(
    "ends",
    [
        ["execute:COMMIT"],
        ["execute:ROLLBACK"],
        ["fetch:COMMIT"],
        ["execute:COMMIT; BEGIN"],
        ["execute:commit and chain"],
        ["execute:ROLLBACK AND CHAIN"],
        ["execute:COMMIT", "execute:BEGIN"],
        ["fetch:COMMIT", "execute:BEGIN"],
        ["prepare:COMMIT"],
        ["fetchval:/* it is done */ end"],
        ["execute:INSERT INTO work VALUES ('b'); COMMIT; BEGIN"],
    ],
)
@pytest.mark.parametrize("publishes", [False, True])
async def test_an_end_of_the_transaction_by_the_driver_s_connection_is_not_sent(
    postgres_database: str, ends: list[str], *, publishes: bool
) -> None:
    """The handler fails, and nothing is published."""

    async def run(transaction: Transaction) -> None:
        await insert(transaction, "a")
        for end in ends:
            method, _, statement = end.partition(":")
            await getattr(transaction.driver_connection, method)(statement)
        if publishes:
            await transaction.publish("e", "k", b"")

    async with Store(postgres_database, relay=False) as store:
        await make_work(store)
        with pytest.raises(StoreError, match="not sent"):
            await store.run_once("h", delivery("m"), run)
        assert await store.pending() == 0
        assert await work_of(store) == []
        await store.run_once("h", delivery("n"), lambda t: insert(t, "n"))


async def test_savepoints_of_the_driver_s_connection_are_no_end(postgres_database: str) -> None:
    """Neither one that is kept, nor one that is taken back."""

    async def run(transaction: Transaction) -> None:
        driver = transaction.driver_connection
        async with driver.transaction():
            await insert(transaction, "a")
        with pytest.raises(asyncpg.UniqueViolationError):
            async with driver.transaction():
                await insert(transaction, "b", "b")
        await insert(transaction, "c")

    async with Store(postgres_database, relay=False) as store:
        await make_work(store)
        await store.run_once("h", delivery("m"), run)
        assert await work_of(store) == ["a", "c"]


async def test_an_error_of_the_driver_s_connection_that_was_swallowed_is_no_commit(
    postgres_database: str,
) -> None:
    """PostgreSQL would roll back at the COMMIT, and call that a success; by whatever method."""

    async def swallow(transaction: Transaction) -> None:
        with pytest.raises(asyncpg.UniqueViolationError):
            await insert(transaction, "a", "a")

    async def swallow_prepared(transaction: Transaction) -> None:
        statement = await transaction.driver_connection.prepare("SELECT 1 / $1::integer")
        with pytest.raises(asyncpg.DivisionByZeroError):
            await statement.fetch(0)

    async with Store(postgres_database, relay=False) as store:
        await make_work(store)
        for run in (swallow, swallow_prepared):
            with pytest.raises(StoreError, match="the handler went on"):
                await store.run_once("h", delivery("m"), run)
        assert await work_of(store) == []
        assert await store.status("m") == []


async def test_a_commit_that_was_a_rollback_is_an_error(postgres_database: str) -> None:
    """Even where nothing else has seen that a statement had failed."""

    async def run(transaction: Transaction) -> None:
        driver = transaction.driver_connection
        statement = await driver.prepare("SELECT 1 / $1::integer")
        with contextlib.suppress(asyncpg.DivisionByZeroError):
            await statement.fetch(0)
        driver.watch.driver_is_lent = False

    async with Store(postgres_database, relay=False) as store:
        with pytest.raises(StoreError, match="rolled the store's transaction back at its commit"):
            await store.run_once("h", delivery("m"), run)


@pytest.mark.parametrize("prepares", [False, True])
async def test_a_deadlock_s_victim_is_tried_again_uncounted(
    postgres_database: str, *, prepares: bool
) -> None:
    """As through SQLAlchemy: the one fails as unavailable, the other commits."""
    both = asyncio.Barrier(2)

    def run(first: str, second: str) -> Run:
        async def lock(transaction: Transaction) -> None:
            await insert(transaction, first)
            await both.wait()
            if prepares:
                statement = await transaction.driver_connection.prepare(INSERT)
                await statement.fetch(second)
            else:
                await insert(transaction, second)

        return lock

    async with Store(postgres_database, relay=False) as store:
        await make_work(store)
        results = await asyncio.gather(
            store.run_once("h", delivery("m"), run("a", "b")),
            store.run_once("h", delivery("n"), run("b", "a")),
            return_exceptions=True,
        )
        (error,) = (r for r in results if r is not None)
        assert isinstance(error, StoreUnavailableError)
        assert "deadlock detected" in str(error)
        assert await work_of(store) == ["a", "b"]


@pytest.mark.parametrize("swallows", [False, True])
async def test_a_lost_connection_is_the_database_s_fault(
    postgres_database: str, *, swallows: bool
) -> None:
    """In the handler's statement, or in ours after that one's error was swallowed."""

    async def run(transaction: Transaction) -> None:
        kill = "SELECT pg_terminate_backend(pg_backend_pid())"
        if swallows:
            with contextlib.suppress(asyncpg.PostgresError):
                await transaction.driver_connection.fetch(kill)
        else:
            await transaction.driver_connection.fetch(kill)

    async with Store(postgres_database, relay=False, pool=1) as store:
        await make_work(store)
        with pytest.raises(StoreUnavailableError):
            await store.run_once("h", delivery("m"), run)
        await store.run_once("h", delivery("m"), lambda t: insert(t, "again"))
        assert await work_of(store) == ["again"]


async def test_an_error_of_a_statement_stays_asyncpg_s(postgres_database: str) -> None:
    """It is the handler's own, for its policy."""
    async with Store(postgres_database, relay=False) as store:
        await make_work(store)
        with pytest.raises(asyncpg.UniqueViolationError):
            await store.run_once("h", delivery("m"), lambda t: insert(t, "a", "a"))
        with pytest.raises(asyncpg.DataError):
            await store.run_once("h", delivery("m"), lambda t: insert(t, 7))  # type: ignore[arg-type]


async def test_a_slow_statement_counts_where_the_database_is_well(postgres_database: str) -> None:
    """It fails after the store's time for one, as through SQLAlchemy."""

    async def slow(transaction: Transaction) -> None:
        await transaction.driver_connection.fetch("SELECT pg_sleep(20)")

    async with Store(postgres_database, relay=False, statement_timeout=0.3) as store:
        with pytest.raises(StatementError, match=r"longer than 0\.3 s.*statement_timeout"):
            await store.run_once("h", delivery("m"), slow)


async def test_errors_of_another_connection_of_asyncpg_are_the_handler_s_own(
    postgres_database: str,
) -> None:
    """A database beside is not the store."""

    async def run(_: Transaction) -> None:
        raise asyncpg.ConnectionDoesNotExistError("another")

    async with Store(postgres_database, relay=False) as store:
        with pytest.raises(asyncpg.ConnectionDoesNotExistError):
            await store.run_once("h", delivery("m"), run)


async def test_what_postgresql_refuses_mqkit_is_an_error_of_the_store_s(
    postgres_database: str,
) -> None:
    """Without what is in the row, wherever one looks, and without the driver's exception."""
    async with Store(postgres_database, relay=False) as store:
        async with store.transaction() as transaction:
            await transaction.execute(
                text("ALTER TABLE mqkit_outbox ADD CONSTRAINT mine CHECK (routing_key <> 'k')")
            )
        with pytest.raises(StoreError, match='violates check constraint "mine"') as caught:
            async with store.transaction() as transaction:
                await transaction.publish("e", "k", SECRET.encode(), message_id=SECRET)
        shown = "".join(traceback.format_exception(caught.value))
        assert SECRET not in shown
        assert "asyncpg.exceptions" not in shown
        assert type(caught.value) is StoreError


async def test_a_handler_that_is_cancelled_in_a_statement_leaves_no_connection_in_it(
    postgres_database: str,
) -> None:
    """It is closed, and not given to the next one."""
    began = asyncio.Event()
    used: list[asyncpg.Connection] = []

    async def run(transaction: Transaction) -> None:
        used.append(transaction.driver_connection)
        began.set()
        await used[0].fetch("SELECT pg_sleep(20)")

    async with Store(postgres_database, relay=False, pool=1) as store:
        await make_work(store)
        running = asyncio.create_task(store.run_once("h", delivery("m"), run))
        await began.wait()
        await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert used[0].is_closed()
        async with asyncio.timeout(10):
            await store.run_once("h", delivery("m"), lambda t: insert(t, "a"))
        assert await work_of(store) == ["a"]


async def test_a_migration_costs_no_message_an_attempt(postgres_database: str) -> None:
    """A statement that was prepared before it fails once, uncounted, and is prepared anew."""

    async def run(_: Transaction) -> None: ...

    async with (
        Store(postgres_database, relay=False, pool=1) as store,
        Store(postgres_database, relay=False) as other,
    ):
        await store.run_once("h", delivery("m"), run)
        async with other.transaction() as transaction:
            await transaction.execute(
                text("ALTER TABLE mqkit_inbox ALTER message_id TYPE VARCHAR(300)")
            )
        with pytest.raises(StoreUnavailableError, match="cached statement plan is invalid"):
            await store.run_once("h", delivery("n"), run)
        await store.run_once("h", delivery("n"), run)
