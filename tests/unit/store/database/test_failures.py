"""Whose fault an error is: real errors of real databases."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Awaitable, Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url, text
from sqlalchemy.exc import DBAPIError, IntegrityError

from mqkit.errors import (
    ConfigurationError,
    StatementError,
    StoreError,
    StoreUnavailableError,
)
from mqkit.store import Store, Transaction
from mqkit.store.database import engine
from mqkit.store.database.engine import BESIDE
from mqkit.store.running.transient import MAX_UNCOUNTED
from tests.postgres import PostgresServer
from tests.support import eventually
from tests.unit.store.support import FakeBroker, delivery, make_work, work_of

Run = Callable[[Transaction], Awaitable[Any]]


async def insert(transaction: Transaction, *ids: str) -> None:
    """Work."""
    for id_ in ids:
        await transaction.execute(text("INSERT INTO work VALUES (:id)"), {"id": id_})


async def test_a_deadlock_s_victim_is_tried_again_uncounted(postgres_database: str) -> None:
    """Of two that wait for each other one fails as unavailable, and the other commits."""
    both = asyncio.Barrier(2)

    def run(first: str, second: str) -> Run:
        async def lock(transaction: Transaction) -> None:
            await insert(transaction, first)
            await both.wait()
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


async def test_a_lock_that_is_not_given_is_tried_again_uncounted(
    postgres_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the store's own time, whatever the database's default is."""
    monkeypatch.setattr(engine, "LOCK_TIMEOUT", 0.2)
    began, end = asyncio.Event(), asyncio.Event()

    async def hold(_: Transaction) -> None:
        began.set()
        await end.wait()

    async with Store(postgres_database, relay=False) as store:
        first = asyncio.create_task(store.run_once("h", delivery("m"), hold))
        await began.wait()
        with pytest.raises(StoreUnavailableError, match="lock timeout"):
            await store.run_once("h", delivery("m"), hold)
        end.set()
        await first


async def test_a_transaction_that_cannot_be_serialized_is_tried_again_uncounted(
    postgres_database: str,
) -> None:
    """Where a handler asked for that isolation."""

    async def run(transaction: Transaction) -> None:
        await transaction.execute(text("UPDATE work SET id = 'mine'"))

    async with Store(postgres_database, relay=False) as store:
        await make_work(store)
        async with store.transaction() as transaction:
            await insert(transaction, "a")

        async def stale() -> None:
            async with store.transaction() as transaction:
                await transaction.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
                await transaction.execute(text("SELECT * FROM work"))
                async with store.transaction() as other:
                    await run(other)
                await run(transaction)

        with pytest.raises(StoreUnavailableError, match="could not serialize"):
            await stale()


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        ("INSERT INTO work VALUES ('a'), ('a')", IntegrityError),
        ("SELECT * FROM nowhere", DBAPIError),
        ("SELEKT", DBAPIError),
    ],
)
async def test_an_error_of_the_statement_stays_what_it_is(
    database: str, statement: str, kind: type[Exception]
) -> None:
    """It is for the handler's policy, and is not tried again for ever."""

    async def run(transaction: Transaction) -> None:
        await transaction.execute(text(statement))

    async with Store(database, relay=False) as store:
        await make_work(store)
        with pytest.raises(kind) as caught:
            await store.run_once("h", delivery("m"), run)
        assert not isinstance(caught.value, StoreError)


async def test_a_wrong_argument_is_the_handler_s_fault(postgres_database: str) -> None:
    """Though it is the driver that refuses it, and not the server."""

    async def run(transaction: Transaction) -> None:
        await transaction.execute(text("SELECT CAST(:n AS integer)"), {"n": "seven"})

    async with Store(postgres_database, relay=False) as store:
        with pytest.raises(DBAPIError, match="seven"):
            await store.run_once("h", delivery("m"), run)


async def test_errors_of_a_handler_s_own_connections_are_its_own(database: str) -> None:
    """A socket that it opened, a database beside: the store is not what failed."""

    async def run(_: Transaction) -> None:
        raise ConnectionResetError

    async def run_sql(_: Transaction) -> None:
        raise DBAPIError("SELECT", {}, sqlite3.OperationalError("x"), connection_invalidated=True)

    async with Store(database, relay=False) as store:
        with pytest.raises(ConnectionResetError):
            await store.run_once("h", delivery("m"), run)
        with pytest.raises(DBAPIError):
            await store.run_once("h", delivery("m"), run_sql)


@pytest.mark.parametrize("swallows", [False, True])
@pytest.mark.parametrize("how", ["kill", "terminate"])
async def test_a_connection_that_is_lost_is_the_database_s_fault(
    own_postgres: PostgresServer, name: str, how: str, *, swallows: bool
) -> None:
    """In the handler's statement, or in ours after the handler swallowed that."""
    ready, go_on = asyncio.Event(), asyncio.Event()

    async def run(transaction: Transaction) -> None:
        await insert(transaction, "a")
        ready.set()
        await go_on.wait()
        if swallows:
            with contextlib.suppress(Exception):
                await insert(transaction, "b")
        else:
            await insert(transaction, "b")

    async with Store(own_postgres.create_database(name), relay=False) as store:
        await make_work(store)
        running = asyncio.create_task(store.run_once("h", delivery("m"), run))
        await ready.wait()
        if how == "kill":
            await asyncio.to_thread(own_postgres.kill)
            await asyncio.to_thread(own_postgres.start)
        else:
            async with store.transaction() as transaction:
                await transaction.execute(
                    text(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                        "WHERE pid <> pg_backend_pid() AND datname = current_database()"
                    )
                )
        go_on.set()
        with pytest.raises(StoreUnavailableError):
            await running
        assert await work_of(store) == []
        go_on.set()
        await store.run_once("h", delivery("m"), lambda t: insert(t, "again"))
        assert await work_of(store) == ["again"]


async def test_a_connection_that_is_lost_in_a_group_of_tasks_is_the_database_s_fault(
    postgres_database: str,
) -> None:
    """Whatever else the group raised."""

    async def run(transaction: Transaction) -> None:
        async with asyncio.TaskGroup() as group:
            kill = text("SELECT pg_terminate_backend(pg_backend_pid())")
            group.create_task(transaction.execute(kill))

    async with Store(postgres_database, relay=False) as store:
        with pytest.raises(StoreUnavailableError):
            await store.run_once("h", delivery("m"), run)


async def test_a_restart_costs_idle_connections_no_message(
    own_postgres: PostgresServer, name: str
) -> None:
    """Each that was in the pool is replaced when it is taken from there, without an error."""
    async with Store(own_postgres.create_database(name), relay=False, pool=5) as store:
        all_at_once = asyncio.Barrier(5)

        async def run(transaction: Transaction) -> None:
            await transaction.execute(text("SELECT 1"))
            await all_at_once.wait()

        for i in range(2):
            await asyncio.gather(*(store.run_once("h", delivery(f"{i}{j}"), run) for j in range(5)))
            await asyncio.to_thread(own_postgres.stop)
            with pytest.raises(StoreUnavailableError):
                await store.ping()
            await asyncio.to_thread(own_postgres.start)


async def test_a_server_that_is_not_there_is_said_as_such(
    own_postgres: PostgresServer, name: str
) -> None:
    """On opening, and in every use; it comes back by itself."""
    url = own_postgres.create_database(name)
    async with Store(url, relay=False) as store:
        await asyncio.to_thread(own_postgres.stop)
        for use in (store.ping, lambda: store.status("m"), store.pending):
            with pytest.raises(StoreUnavailableError):
                await use()
        with pytest.raises(StoreUnavailableError, match="Connect call failed"):
            await Store(url).open()
        await asyncio.to_thread(own_postgres.start)
        await store.ping()


async def test_a_server_that_hangs_holds_nobody_for_ever(
    own_postgres: PostgresServer, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A statement ends after its time, and its connection is thrown away after another."""
    monkeypatch.setattr(engine, "STATEMENT_TIMEOUT", 0.5)
    monkeypatch.setattr("mqkit.store.database.pool.CLOSE_TIMEOUT", 0.2)
    async with Store(own_postgres.create_database(name), relay=False) as store:
        ready = asyncio.Event()

        async def run(transaction: Transaction) -> None:
            await insert(transaction, "a")
            ready.set()
            await transaction.execute(text("SELECT pg_sleep(30)"))

        await make_work(store)
        running = asyncio.create_task(store.run_once("h", delivery("m"), run))
        await ready.wait()
        await asyncio.to_thread(own_postgres.pause)
        try:
            async with asyncio.timeout(10):
                with pytest.raises(StoreUnavailableError):
                    await running
        finally:
            await asyncio.to_thread(own_postgres.resume)

        async def alone() -> bool:
            async with store.transaction() as transaction:
                found = await transaction.execute(
                    text("SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in%'")
                )
                return bool(found.scalar_one() == 0)

        await eventually(alone)
        assert await work_of(store) == []


async def test_too_many_connections_are_the_database_s_fault(
    postgres_database: str, name: str
) -> None:
    """What the server answers while it has no room is not for the handler's policy."""
    async with Store(postgres_database, relay=False, pool=3) as store:
        async with store.transaction() as transaction:
            await transaction.execute(text(f'ALTER DATABASE "{name}" CONNECTION LIMIT 1'))
            await transaction.execute(text(f"CREATE ROLE \"{name}\" LOGIN PASSWORD 'secret'"))
        try:
            url = make_url(postgres_database).set(username=name, password="secret")
            other = Store(url.render_as_string(hide_password=False), create_tables=False)
            with pytest.raises(StoreUnavailableError, match="too many connections"):
                await other.open()
        finally:
            async with store.transaction() as transaction:
                await transaction.execute(text(f'DROP ROLE "{name}"'))


async def test_a_locked_sqlite_is_tried_again_uncounted(
    sqlite_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where another process has its write lock for longer than our patience."""
    monkeypatch.setattr(engine, "LOCK_TIMEOUT", 0.2)
    async with Store(sqlite_database, relay=False) as store:
        other = sqlite3.connect(tmp_path / "test.sqlite", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        try:
            with pytest.raises(StoreUnavailableError, match="locked"):
                await store.run_once("h", delivery("m"), insert)
        finally:
            other.close()
        await store.ping()


async def test_one_of_this_process_s_transactions_waits_for_another_no_longer_than_for_a_lock(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error says what takes the place, and how to have more."""
    monkeypatch.setattr("mqkit.store.database.pool.LOCK_TIMEOUT", 0.2)
    async with Store(database, relay=False, pool=1) as store:

        async def nested(_: Transaction) -> None:
            async with store.transaction():
                pass

        with pytest.raises(StoreUnavailableError, match="all of its 1 transactions at a time"):
            await store.run_once("h", delivery("m"), nested)


async def test_handlers_that_use_up_the_pool_hold_up_neither_relay_nor_probe(
    postgres_database: str,
) -> None:
    """They have connections of their own beside it."""
    published = asyncio.Event()

    async def send(*_: Any, **__: Any) -> None:
        published.set()

    began, end = asyncio.Event(), asyncio.Event()

    async def hold(_: Transaction) -> None:
        began.set()
        await end.wait()

    async with Store(postgres_database, pool=1) as store:
        async with store.transaction() as transaction:
            await transaction.publish("e", "k", b"")
        running = asyncio.create_task(store.run_once("h", delivery("m"), hold))
        await began.wait()
        store.start(send)
        await asyncio.gather(*(store.ping() for _ in range(BESIDE * 3)))
        store.received("h", delivery("n"))
        async with asyncio.timeout(10):
            await published.wait()
            while not await store.status("n"):
                await asyncio.sleep(0.05)
        end.set()
        await running


async def slow(transaction: Transaction) -> None:
    """A statement of its own that takes its time."""
    await transaction.execute(text("SELECT pg_sleep(20)"))


async def test_a_slow_statement_counts_where_the_database_is_well(postgres_database: str) -> None:
    """It fails after the store's time for one, and says how to have more."""
    async with Store(postgres_database, relay=False, statement_timeout=0.3) as store:
        for _ in range(2):
            with pytest.raises(StatementError, match=r"longer than 0\.3 s.*statement_timeout"):
                await store.run_once("h", delivery("m"), slow)
            with pytest.raises(StatementError, match=r"longer than 0\.3 s"):
                async with store.transaction() as transaction:
                    await slow(transaction)
        await store.run_once("h", delivery("m"), lambda t: t.execute(text("SELECT 1")))


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
def test_a_statement_s_time_is_seconds(seconds: float) -> None:
    """What is none is refused where it is given."""
    with pytest.raises(ConfigurationError, match=r"Store\(statement_timeout=\.\.\.\)"):
        Store("sqlite:///x", statement_timeout=seconds)


@pytest.mark.parametrize(
    ("setting", "statement", "problem"),
    [
        ("statement_timeout = 100", "SELECT pg_sleep(20)", "statement timeout"),
        ("lock_timeout = 100", "LOCK TABLE work", "lock timeout"),
        (
            "temp_file_limit = '64kB'",
            "SELECT n FROM generate_series(1, 1000000) n ORDER BY random()",
            "temp_file_limit",
        ),
        ("work_mem = '64kB'", "SELECT pg_cancel_backend(pg_backend_pid())", "user request"),
        ("default_transaction_read_only = on", "SELECT 1/0", "division by zero"),
        ("transaction_read_only = on", "INSERT INTO work VALUES ('a')", "read-only"),
    ],
)
async def test_what_the_database_does_to_a_handler_s_statement_counts(
    postgres_database: str, setting: str, statement: str, problem: str
) -> None:
    """Whoever set the limit: the database is well, and a policy that never retries is obeyed."""

    async def run(transaction: Transaction) -> None:
        await transaction.execute(text(f"SET LOCAL {setting}"))
        await transaction.execute(text(statement))

    async with Store(postgres_database, relay=False) as store:
        await make_work(store)
        async with store.transaction() as locking:
            await locking.execute(text("LOCK TABLE work IN ACCESS SHARE MODE"))
            attempts, counted = 0, False
            while not counted:
                attempts += 1
                with pytest.raises((DBAPIError, StoreError), match=problem) as caught:
                    await store.run_once("h", delivery("m"), run)
                counted = not isinstance(caught.value, StoreUnavailableError)
        # Reading only may be the server's state, and a lock is another transaction's: for a while
        # neither is the statement's fault.
        is_borne = problem in ("read-only", "lock timeout")
        assert attempts == (MAX_UNCOUNTED + 1 if is_borne else 1)


async def test_a_transaction_that_idles_for_longer_than_the_server_allows_counts(
    postgres_database: str, name: str
) -> None:
    """Though the client sees a closed connection only."""

    async def run(transaction: Transaction) -> None:
        await transaction.execute(text("SELECT 1"))
        await asyncio.sleep(3)
        await transaction.execute(text("SELECT 1"))

    # Long enough that a busy machine does not have the store's own first transaction ended.
    limit = "SET idle_in_transaction_session_timeout = 2000"
    async with Store(postgres_database, relay=False) as store, store.transaction() as transaction:
        await transaction.execute(text(f'ALTER DATABASE "{name}" {limit}'))
    async with Store(postgres_database, relay=False) as store:
        with pytest.raises(StatementError, match="closes one that idles"):
            await store.run_once("h", delivery("m"), run)


async def test_mqkit_s_own_statements_wait_for_others_at_no_message_s_cost(
    postgres_database: str, name: str
) -> None:
    """Where an administrator's statement_timeout ends the wait for another run of the message."""
    began, end = asyncio.Event(), asyncio.Event()

    async def hold(_: Transaction) -> None:
        began.set()
        await end.wait()

    async with Store(postgres_database, relay=False) as store, store.transaction() as transaction:
        await transaction.execute(text(f'ALTER DATABASE "{name}" SET statement_timeout = 300'))
    async with Store(postgres_database, relay=False) as store:
        first = asyncio.create_task(store.run_once("h", delivery("m"), hold))
        await began.wait()
        with pytest.raises(StoreUnavailableError, match="statement timeout") as caught:
            await store.run_once("h", delivery("m"), hold)
        assert caught.value.wait is not None
        end.set()
        await first


async def test_failures_that_do_not_count_wait_longer_each_time_and_have_an_end(
    postgres_database: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Such as those of a message whose transactions lose their connection, while others do not."""

    async def run(transaction: Transaction) -> None:
        await transaction.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

    waits: list[float] = []
    async with Store(postgres_database, relay=False) as store:
        for _ in range(MAX_UNCOUNTED):
            with pytest.raises(StoreUnavailableError) as caught:
                await store.run_once("h", delivery("m"), run)
            assert caught.value.wait is not None
            waits.append(caught.value.wait)
        with pytest.raises(StatementError, match=rf"{MAX_UNCOUNTED + 1} times while the database"):
            await store.run_once("h", delivery("m"), run)
        with pytest.raises(StoreUnavailableError):
            await store.run_once("h", delivery("m"), run)
    assert all(a < b for a, b in pairwise(waits[:7]))
    assert all(30 <= wait <= 60 for wait in waits[7:])
    assert 60 < sum(waits) < 600
    assert "h: 1 failures of the store's that cost no attempt; message m (failure 1" in caplog.text


async def test_a_message_that_succeeds_is_forgotten_by_what_counts_failures(
    postgres_database: str,
) -> None:
    """The next one of its id begins anew."""
    kill = True

    async def run(transaction: Transaction) -> None:
        if kill:
            await transaction.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

    async with Store(postgres_database, relay=False) as store:
        with pytest.raises(StoreUnavailableError):
            await store.run_once("h", delivery("m"), run)
        kill = False
        await store.run_once("h", delivery("m"), run)
        assert not store._open().transient._failures


async def test_a_database_that_lets_nobody_write_is_away(postgres_database: str, name: str) -> None:
    """However long it does: no message fails for it, and the probe of the pause says so."""

    async def run(transaction: Transaction) -> None:
        await insert(transaction, "a")

    async with Store(postgres_database, relay=False) as store:
        await make_work(store)
        async with store.transaction() as transaction:
            read_only = "SET default_transaction_read_only = on"
            await transaction.execute(text(f'ALTER DATABASE "{name}" {read_only}'))
    async with Store(postgres_database, relay=False, create_tables=False) as store:
        with pytest.raises(StoreUnavailableError, match="read-only at the moment"):
            await store.ping()
        for _ in range(MAX_UNCOUNTED + 2):
            with pytest.raises(StoreUnavailableError):
                await store.run_once("h", delivery("m"), run)


async def test_handlers_that_wait_for_the_only_writer_are_no_failure(
    sqlite_database: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Twenty of them wait for longer than for a lock, and the relay publishes each message once."""
    monkeypatch.setattr("mqkit.store.database.pool.LOCK_TIMEOUT", 0.05)
    monkeypatch.setattr(engine, "LOCK_TIMEOUT", 0.05)
    broker = FakeBroker()

    async def run(transaction: Transaction) -> None:
        await asyncio.sleep(0.02)
        await transaction.publish("e", "k", b"")

    async with Store(sqlite_database, sweep=0.01) as store:
        store.start(broker.send)
        await asyncio.gather(*(store.run_once("h", delivery(str(i)), run) for i in range(20)))

        async def is_done() -> bool:
            return len(broker.confirmed) >= 20 and await store.pending() == 0

        await eventually(is_done)
    assert len(set(broker.confirmed)) == len(broker.confirmed) == 20
    assert "nothing is published" not in caplog.text
