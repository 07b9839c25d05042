"""What a handler does to its transaction or session is no concern of others that share a commit."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import text

from mqkit.errors import StoreError, StoreUnavailableError
from mqkit.store import Store, Transaction
from tests.unit.store.running.test_groups import Fixed, grouping, published, together
from tests.unit.store.support import delivery, work_of


@pytest.mark.parametrize("statement", ["COMMIT", "ROLLBACK", "END", "-- done\nCOMMIT", "BEGIN"])
async def test_a_statement_that_ends_the_transaction_costs_no_other_message(
    database: str, statement: str
) -> None:
    """It is not sent; what others did, and what they publish, is committed together."""

    async def end(transaction: Transaction) -> None:
        await transaction.execute(text(statement))

    async with grouping(database) as (store, groups, work):
        work.fails = {"b": [end]}
        results = await together(groups, work, "a", "b", "c")
        assert [type(each) for each in results] == [type(None), StoreError, type(None)]
        assert "not sent" in str(results[1])
        assert work.ran == ["a", "b", "a", "c"]
        assert await published(store) == await work_of(store) == ["a", "c"]


async def test_a_handler_may_go_on_after_an_end_that_was_not_sent(database: str) -> None:
    """Its transaction is still good."""

    async def end(transaction: Transaction) -> None:
        with pytest.raises(StoreError, match="not sent"):
            await transaction.execute(text("COMMIT"))

    async with grouping(database) as (store, groups, work):
        work.fails = {"b": [end]}
        assert await together(groups, work, "a", "b", "c") == [None, None, None]
        assert work.ran == ["a", "b", "c"]
        assert await published(store) == await work_of(store) == ["a", "b", "c"]


async def test_a_rollback_of_the_connection_costs_no_other_message(database: str) -> None:
    """Those that come after it in the transaction do not run in what follows."""

    async def roll_back(transaction: Transaction) -> None:
        await transaction.connection.rollback()

    async with grouping(database) as (store, groups, work):
        work.fails = {"b": [roll_back]}
        results = await together(groups, work, "a", "b", "c")
        assert [type(each) for each in results] == [type(None), StoreError, type(None)]
        assert work.ran == ["a", "b", "a", "c"]
        assert await published(store) == await work_of(store) == ["a", "c"]


class Late:
    """A task of a handler's that writes when the handler has returned, and its group goes on."""

    def __init__(self, lend: Callable[[Transaction], Any]) -> None:
        self._lend = lend
        self._may = asyncio.Event()
        self._task: asyncio.Task[Any] | None = None

    async def start(self, transaction: Transaction) -> None:
        """The handler that leaves the task behind."""
        lent = self._lend(transaction)

        async def write() -> None:
            await self._may.wait()
            await lent.execute(text("INSERT INTO work VALUES ('late')"))

        self._task = asyncio.create_task(write())

    async def let(self, _: Transaction) -> None:
        """The next handler of the group, while which the task goes on."""
        self._may.set()
        assert self._task is not None
        await asyncio.wait([self._task])

    def error(self) -> BaseException | None:
        """What the task ended with."""
        assert self._task is not None
        return self._task.exception()


@pytest.mark.parametrize("name", ["connection", "session"])
@pytest.mark.parametrize("fails", [False, True])
async def test_what_a_handler_has_kept_of_its_transaction_is_over_with_it(
    database: str, name: str, *, fails: bool
) -> None:
    """A late task writes nothing into the transaction that goes on, for a failed message least."""
    late = Late(lambda transaction: getattr(transaction, name))

    async def start(transaction: Transaction) -> None:
        await late.start(transaction)
        if fails:
            raise LookupError

    size = Fixed()
    size.failed()  # with savepoints: the transaction goes on after a failure
    async with grouping(database, size) as (store, groups, work):
        work.fails = {"a": [start], "b": [late.let]}
        results = await together(groups, work, "a", "b")
        assert results[1] is None
        assert work.ran == ["a", "b"]
        assert isinstance(late.error(), StoreError)
        assert "over" in str(late.error())
        assert await work_of(store) == (["b"] if fails else ["a", "b"])


TENANT = "SELECT coalesce(current_setting('app.tenant', true), '') || current_setting('TimeZone')"


def doing(statement: str, *, directly: bool = False) -> Callable[[Transaction], Awaitable[None]]:
    """Return what runs a statement, by SQLAlchemy's connection or by asyncpg's."""

    async def run(transaction: Transaction) -> None:
        if directly:
            await transaction.driver_connection.execute(statement)
        else:
            await transaction.execute(text(statement))

    return run


@pytest.mark.parametrize("directly", [False, True])
@pytest.mark.parametrize(
    "statement",
    [
        "SET TIME ZONE 'Asia/Tokyo'",
        "SET LOCAL TIME ZONE 'Asia/Tokyo'",
        "SELECT set_config('app.tenant', 'x', false)",
        "SELECT set_config('app.tenant', 'x', true)",
        "SET search_path TO nowhere",
        "SET LOCAL search_path TO nowhere",
        "SET ROLE pg_monitor",
        "SET default_transaction_read_only = on",
        "SELECT pg_advisory_lock(7)",
        "CREATE TEMP TABLE work (id VARCHAR(80))",
        "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
    ],
)
async def test_what_a_handler_does_to_the_session_is_met_by_no_other_message(
    postgres_database: str, statement: str, *, directly: bool
) -> None:
    """Neither by those of its group nor by later ones; and its own message is handled."""
    found: list[Any] = []

    async def look(transaction: Transaction) -> None:
        found.append(await transaction.connection.scalar(text(TENANT)))
        for each in ("pg_locks WHERE objid = 7 AND locktype = 'advisory'", "pg_cursors"):
            counted = await transaction.connection.scalar(text(f"SELECT count(*) FROM {each}"))  # noqa: S608
            found.append(counted)

    async with grouping(postgres_database) as (store, groups, work):
        work.fails = {"a": [look], "c": [look], "d": [look]}
        work.fails |= {"b": [doing(statement, directly=directly)] * 2}
        assert await together(groups, work, "a", "b", "c") == [None, None, None]
        assert await together(groups, work, "d") == [None]
        assert found == found[:3] * (len(found) // 3)
        assert await work_of(store) == ["a", "b", "c", "d"]
        assert sorted(await published(store)) == ["a", "b", "c", "d"]


async def test_a_handler_that_changes_settings_has_a_transaction_for_each_message(
    postgres_database: str,
) -> None:
    """Once it is known, no message is run again for it; what is local costs no connection."""
    async with Store(postgres_database, relay=False, pool=1) as store:
        sessions: list[int] = []

        async def run(transaction: Transaction) -> None:
            sessions.append(transaction.driver_connection.get_server_pid())
            await transaction.execute(text("SELECT set_config('app.tenant', 'x', true)"))

        for first in range(0, 60, 20):
            ids = [f"m{number}" for number in range(first, first + 20)]
            runs = (store.run_once("h", delivery(each), run, at_once=1) for each in ids)
            await asyncio.gather(*runs)
        assert len(sessions) < 60 + 20
        assert len(set(sessions)) == 1


@pytest.mark.parametrize("name", ["driver_connection", "session"])
async def test_a_connection_that_two_tasks_used_at_once_is_not_used_again(
    postgres_database: str, name: str
) -> None:
    """It may still be in a transaction, with its locks; only the message that did it fails."""

    async def use_twice(transaction: Transaction) -> None:
        used = getattr(transaction, name)
        statement = "SELECT pg_sleep(0.01)" if name == "driver_connection" else text("SELECT 1")
        await asyncio.gather(*(used.execute(statement) for _ in range(3)))

    async with grouping(postgres_database) as (store, groups, work):
        work.fails = {"b": [use_twice]}
        results = await together(groups, work, "a", "b", "c")
        assert (results[0], results[2]) == (None, None)
        assert isinstance(results[1], Exception)
        for number in range(30):  # whichever connection of the pool
            assert await together(groups, work, f"d{number}") == [None]
        await store.run_once("h", delivery("b"), work.of("b"))
        assert len(await work_of(store)) == 33


async def test_a_connection_that_is_busy_at_the_begin_costs_no_attempt_and_is_replaced(
    postgres_database: str,
) -> None:
    """A task that goes on with asyncpg's connection after its handler has returned had it."""
    tasks: list[asyncio.Task[Any]] = []
    began = asyncio.Event()

    async def keep(transaction: Transaction) -> None:
        driver = transaction.driver_connection

        async def sleep() -> None:
            while driver.is_in_transaction():
                await asyncio.sleep(0)
            began.set()
            await driver.execute("SELECT pg_sleep(30)")

        tasks.append(asyncio.create_task(sleep()))

    async with Store(postgres_database, relay=False, pool=1) as store:
        await store.run_once("h", delivery("a"), keep)
        await began.wait()
        with pytest.raises(StoreUnavailableError):
            await store.run_once("h", delivery("b"), nothing)
        for number in range(10):
            await store.run_once("h", delivery(f"c{number}"), nothing)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def nothing(_: Transaction) -> None:
    """Handle nothing."""
