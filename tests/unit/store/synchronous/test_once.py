"""`def` handlers with a transaction of their thread: each message has its effect once, or none."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Column, MetaData, String, Table, event, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, IntegrityError

from mqkit.errors import (
    ConfigurationError,
    MessageIdReusedError,
    StatementError,
    StoreError,
    StoreUnavailableError,
)
from mqkit.message import Delivery
from mqkit.outcome import RetryLater
from mqkit.store import Store, SyncTransaction
from mqkit.store.synchronous.once import ThreadRun
from tests.postgres import PostgresServer
from tests.support import eventually
from tests.unit.store.support import delivery, is_sqlite, make_work, opened, work_of

Work = Callable[[SyncTransaction], Any]


def insert(transaction: SyncTransaction, id_: str = "a") -> str:
    """Write, and publish."""
    transaction.execute(text("INSERT INTO work VALUES (:id)"), {"id": id_})
    transaction.publish("e", "k", b"", key="acc", message_id=f"{id_}.done")
    return id_


async def once(store: Store, message: str | Delivery, work: Work, *, handler: str = "h") -> Any:
    """What a handler returned for a message, or the first time."""

    async def run(transaction: SyncTransaction, run: ThreadRun) -> Any:
        thread = asyncio.to_thread(run.carry_out, lambda _: work(transaction))
        try:
            return await thread
        except asyncio.CancelledError:
            assert run.give_up()
            raise

    given = delivery(message) if isinstance(message, str) else message
    return await store.run_once_in_thread(handler, given, run)


async def messages_of(store: Store) -> list[str]:
    """Ids of what is in the outbox."""
    return [each.message_id for each in await store.unpublished()]


async def test_work_messages_and_inbox_row_are_committed_together_and_once(database: str) -> None:
    """A message that comes again is not handled again, and gives what it gave the first time."""
    async with Store(database, relay=False) as store:
        await make_work(store)
        assert await once(store, "m", insert) == "a"
        assert await once(store, "m", lambda t: insert(t, "b")) == "a"
        assert await work_of(store) == ["a"]
        assert await messages_of(store) == ["a.done"]
        (status,) = await store.status("m")
        assert (status.state, status.result) == ("succeeded", "a")


async def test_a_message_that_async_def_has_handled_is_not_handled_in_a_thread(
    database: str,
) -> None:
    """The inbox is one: a handler that was rewritten knows what it has done before."""

    async def run(_: Any) -> str:
        return "before"

    async with Store(database, relay=False) as store:
        await make_work(store)
        await store.run_once("h", delivery("m"), run)
        assert await once(store, "m", insert) == "before"
        with pytest.raises(MessageIdReusedError):
            await once(store, replace(delivery("m"), body=b"another"), insert)
        assert await work_of(store) == []


async def test_what_a_handler_raises_rolls_all_of_it_back(database: str) -> None:
    """No work, no message, no inbox row: the message may be handled again."""

    def fail(transaction: SyncTransaction) -> None:
        insert(transaction)
        raise LookupError

    async with Store(database, relay=False) as store:
        await make_work(store)
        with pytest.raises(LookupError):
            await once(store, "m", fail)
        assert (await work_of(store), await messages_of(store)) == ([], [])
        assert await once(store, "m", insert) == "a"


async def test_a_session_is_flushed_before_the_commit(database: str) -> None:
    """An ORM session needs no commit of its own, and one by hand ends no transaction."""
    from tests.unit.store.test_transaction import Work as Row  # noqa: PLC0415

    def add(transaction: SyncTransaction) -> None:
        transaction.session.add(Row(id="a"))
        transaction.session.commit()
        transaction.session.add(Row(id="b"))

    def fail(transaction: SyncTransaction) -> None:
        transaction.session.add(Row(id="c"))
        transaction.session.commit()
        raise LookupError

    async with Store(database, relay=False) as store:
        await make_work(store)
        await once(store, "m", add)
        with pytest.raises(LookupError):
            await once(store, "n", fail)
        assert await work_of(store) == ["a", "b"]


async def test_an_insert_says_how_many_rows_it_wrote(database: str) -> None:
    """None where the key was there; on the loop it is the same, each time that it is executed."""
    table = Table("work", MetaData(), Column("id", String, primary_key=True))
    inserts = {
        text("INSERT INTO work VALUES (:id) ON CONFLICT DO NOTHING"): [1, 0, 0],
        insert_on(database)(table).on_conflict_do_nothing(): [1, 0, 0],
    }
    async with Store(database, relay=False) as store:
        await make_work(store)
        for number, (statement, expected) in enumerate(inserts.items()):
            values = {"id": f"thread-{number}"}

            def work(of: SyncTransaction, statement: Any = statement, values: Any = values) -> Any:
                return [of.execute(statement, values).rowcount for _ in range(3)]

            assert await once(store, f"m{number}", work) == expected
            values = {"id": f"loop-{number}"}
            async with store.transaction() as of:
                told = [(await of.execute(statement, values)).rowcount for _ in range(3)]
            assert told == expected


def insert_on(database: str) -> Callable[[Table], Any]:
    """Return what makes an INSERT of this database that may meet a row of its key."""
    return sqlite.insert if is_sqlite(database) else postgresql.insert


async def test_nothing_is_committed_by_hand(database: str) -> None:
    """A commit or a rollback by the handler is an error, and nothing of it stays."""

    def commit(transaction: SyncTransaction) -> None:
        insert(transaction)
        transaction.connection.commit()

    def roll_back(transaction: SyncTransaction) -> None:
        transaction.connection.rollback()
        insert(transaction)

    async with Store(database, relay=False) as store:
        await make_work(store)
        for work in (commit, roll_back):
            with pytest.raises(StoreError, match="by hand"):
                await once(store, "m", work)
        assert (await work_of(store), await messages_of(store)) == ([], [])


async def test_a_swallowed_failure_of_a_statement_commits_nothing(database: str) -> None:
    """PostgreSQL's transaction is aborted then; SQLite's goes on, as does one with a savepoint."""

    def swallow(transaction: SyncTransaction) -> str:
        insert(transaction)
        try:
            insert(transaction)
        except IntegrityError:
            return "went on"
        raise AssertionError

    def save(transaction: SyncTransaction) -> str:
        insert(transaction, "b")
        try:
            with transaction.connection.begin_nested():
                insert(transaction, "b")
        except IntegrityError:
            return "went on"
        raise AssertionError

    async with Store(database, relay=False) as store:
        await make_work(store)
        if is_sqlite(database):
            assert await once(store, "m", swallow) == "went on"
        else:
            with pytest.raises(StoreError, match=r"`with transaction.connection.begin_nested"):
                await once(store, "m", swallow)
            assert await work_of(store) == []
        assert await once(store, "n", save) == "went on"
        assert (await work_of(store))[-1] == "b"


async def test_a_run_that_was_given_up_is_rolled_back_however_long_its_thread_goes_on(
    database: str,
) -> None:
    """Its next statement is refused, it commits nothing, and the message is handled again."""
    began, goes_on, seen = threading.Event(), threading.Event(), list[BaseException]()

    def slow(transaction: SyncTransaction) -> str:
        insert(transaction)
        began.set()
        goes_on.wait(20)
        try:
            insert(transaction, "late")
        except StoreError as error:
            seen.append(error)
        return "late"

    async with Store(database, relay=False) as store:
        await make_work(store)
        run = asyncio.create_task(once(store, "m", slow))
        await asyncio.to_thread(began.wait, 10)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        again = asyncio.create_task(once(store, "m", lambda t: insert(t, "again")))
        goes_on.set()
        assert await again == "again"
        assert await work_of(store) == ["again"]
        assert await messages_of(store) == ["again.done"]
        assert "given up" in str(seen[0])


@pytest.mark.parametrize("raw", [False, True], ids=["", "raw"])
async def test_the_locks_of_a_given_up_run_are_free_while_its_thread_goes_on(
    database: str, *, raw: bool
) -> None:
    """Others write meanwhile, and the thread writes nothing more, by whatever road."""
    began, goes_on, refused = threading.Event(), threading.Event(), list[Exception]()

    def slow(transaction: SyncTransaction) -> None:
        insert(transaction)
        driver = transaction.connection.connection.driver_connection
        began.set()
        goes_on.wait(20)
        try:
            if raw:
                assert driver is not None
                driver.execute("INSERT INTO work VALUES ('late')")
                driver.commit()
            else:
                insert(transaction, "late")
        except Exception as error:  # noqa: BLE001 - a driver's
            refused.append(error)

    async with Store(database, relay=False, pool=1) as store:
        await make_work(store)
        run = asyncio.create_task(once(store, "m", slow))
        await asyncio.to_thread(began.wait, 10)
        run.cancel()
        await asyncio.wait([run])
        async with asyncio.timeout(10):
            assert await once(store, "m", lambda t: insert(t, "again")) == "again"
            assert await work_of(store) == ["again"]
        goes_on.set()
        await eventually(lambda: bool(refused))
        assert await once(store, "n", lambda t: insert(t, "next")) == "next"
        assert await work_of(store) == ["again", "next"]


async def test_a_statement_of_a_given_up_run_is_cancelled(postgres_database: str) -> None:
    """Its locks are free long before it would have ended by itself."""
    began = threading.Event()

    def slow(transaction: SyncTransaction) -> None:
        transaction.execute(text("LOCK TABLE work"))
        began.set()
        transaction.execute(text("SELECT pg_sleep(30)"))

    async with Store(postgres_database, relay=False) as store:
        await make_work(store)
        run = asyncio.create_task(once(store, "m", slow))
        await asyncio.to_thread(began.wait, 10)
        run.cancel()
        await asyncio.wait([run])
        async with asyncio.timeout(10):
            assert await once(store, "m", insert) == "a"


async def test_threads_and_tasks_of_one_store_take_turns(database: str) -> None:
    """Forty transactions of both kinds at the same time: each is done, and none fails."""

    async def beside(number: int) -> None:
        async with store.transaction() as transaction:
            await transaction.execute(text("INSERT INTO work VALUES (:id)"), {"id": f"t{number}"})

    async with Store(database, relay=False, pool=4) as store:
        await make_work(store)
        runs = [once(store, f"m{i}", lambda t, i=i: insert(t, f"m{i}")) for i in range(20)]  # type: ignore[misc]
        await asyncio.gather(*runs, *(beside(i) for i in range(20)))
        assert len(await work_of(store)) == 40
        assert len(await messages_of(store)) == 20


async def test_two_threads_with_one_message_make_one_effect(database: str) -> None:
    """The second waits for the first one's end, in whatever process, and finds it handled."""
    began, goes_on = threading.Event(), threading.Event()

    def first(transaction: SyncTransaction) -> str:
        began.set()
        goes_on.wait(20)
        return insert(transaction, "first")

    async with Store(database, relay=False) as here, Store(database, relay=False) as there:
        await make_work(here)
        one = asyncio.create_task(once(here, "m", first))
        await asyncio.to_thread(began.wait, 10)
        two = asyncio.create_task(once(there, "m", lambda t: insert(t, "second")))
        goes_on.set()
        assert [await one, await two] == ["first", "first"]
        assert await work_of(here) == ["first"]


async def test_a_transaction_is_of_no_use_outside_of_its_handler(database: str) -> None:
    """Before the thread has begun and after the handler's end it says so."""
    kept: list[SyncTransaction] = []

    async def run(transaction: SyncTransaction, run: ThreadRun) -> None:
        with pytest.raises(StoreError, match="while the handler runs"):
            transaction.execute(text("SELECT 1"))
        await asyncio.to_thread(run.carry_out, lambda _: kept.append(transaction))

    async with Store(database, relay=False) as store:
        await store.run_once_in_thread("h", delivery("m"), run)
        with pytest.raises(StoreError, match="while the handler runs"):
            _ = kept[0].session
        with pytest.raises(StoreError, match="not published: the transaction is over"):
            kept[0].publish("e", "k", b"")


async def test_a_longer_retry_than_the_store_knows_is_refused(database: str) -> None:
    """Its inbox might have forgotten the message then."""

    def later(_: SyncTransaction) -> None:
        raise RetryLater(3600)

    async with Store(database, relay=False, longest_retry=60) as store:
        with pytest.raises(ConfigurationError, match="longest_retry"):
            await once(store, "m", later)


async def test_a_batch_leaves_out_what_was_handled_and_keeps_no_row_of_what_failed(
    database: str,
) -> None:
    """One transaction for the rest; each message has its own result, in the order of the batch."""
    given: list[list[str]] = []

    def handle(transaction: SyncTransaction, deliveries: Sequence[Delivery]) -> list[Any]:
        ids = [each.message_id or "" for each in deliveries]
        given.append(ids)
        for each in ids:
            insert(transaction, f"{each}{len(given)}")
        return [LookupError(each) if each == "c" else each.upper() for each in ids]

    async def batch(store: Store, *ids: str) -> list[Any]:
        async def run(transaction: SyncTransaction, run: ThreadRun) -> None:
            await asyncio.to_thread(run.carry_out, lambda some: handle(transaction, some))

        many = [delivery(each) for each in ids]
        return await store.run_batch_once_in_thread("h", many, run)

    async with Store(database, relay=False) as store:
        await make_work(store)
        await once(store, "b", lambda _: "before")
        one, two, three = await batch(store, "a", "b", "c")
        assert (one, two, type(three)) == ("A", "before", LookupError)
        assert (await batch(store, "a", "b", "c"))[:2] == ["A", "before"]
        assert given == [["a", "c"], ["c"]]
        assert await work_of(store) == ["a1", "c1", "c2"]


async def test_a_deadlocks_victim_costs_no_attempt(postgres_database: str) -> None:
    """Two threads lock the same rows in different orders: one of them is to be tried again."""
    barrier = threading.Barrier(2)

    def lock(first: str, second: str) -> Work:
        def work(transaction: SyncTransaction) -> None:
            statement = text("UPDATE work SET id = id WHERE id = :id")
            transaction.execute(statement, {"id": first})
            barrier.wait(10)
            transaction.execute(statement, {"id": second})

        return work

    async with Store(postgres_database, relay=False) as store:
        await make_work(store)
        async with store.transaction() as transaction:
            await transaction.execute(text("INSERT INTO work VALUES ('a'), ('b')"))
        results = await asyncio.gather(
            once(store, "m", lock("a", "b")),
            once(store, "n", lock("b", "a")),
            return_exceptions=True,
        )
        (failed,) = [each for each in results if each is not None]
        assert isinstance(failed, StoreUnavailableError)
        assert failed.wait is not None


async def test_a_statement_that_takes_too_long_counts_where_the_database_is_well(
    postgres_database: str,
) -> None:
    """It fails after `statement_timeout`, and the connection that it was on is not used again."""
    async with Store(postgres_database, relay=False, statement_timeout=0.5) as store:
        await make_work(store)

        def slow(transaction: SyncTransaction) -> None:
            insert(transaction)
            transaction.execute(text("SELECT pg_sleep(30)"))

        with pytest.raises(StatementError, match=r"longer than 0.5 s"):
            await once(store, "m", slow)
        assert await once(store, "m", insert) == "a"


async def test_a_session_that_was_closed_between_two_messages_is_not_noticed(
    own_postgres: PostgresServer, name: str
) -> None:
    """A connection that was closed meanwhile is seen before it is used, without a question."""
    url = own_postgres.create_database(name)
    async with Store(url, relay=False) as store:
        await make_work(store)
        await once(store, "m", insert)
        async with store.transaction() as transaction:
            await transaction.execute(
                text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE pid <> pg_backend_pid() AND datname = current_database()"
                )
            )

        async def is_well() -> bool:
            return await store.pending() == 1

        await eventually(is_well)
        assert await once(store, "n", lambda t: insert(t, "b")) == "b"


async def test_a_lost_connection_is_the_databases_failure(postgres_database: str) -> None:
    """The message is tried again, and its handler is not to blame."""

    def lose(transaction: SyncTransaction) -> None:
        insert(transaction)
        transaction.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

    async with Store(postgres_database, relay=False) as store:
        await make_work(store)
        with pytest.raises(StoreUnavailableError):
            await once(store, "m", lose)
        assert await once(store, "m", insert) == "a"


async def test_sessions_are_set_up_as_those_of_the_loop(database: str) -> None:
    """Commits wait for the disk, and locks not for ever, whatever the database says."""

    def settings(transaction: SyncTransaction) -> list[Any]:
        if is_sqlite(database):
            names = ("journal_mode", "synchronous", "foreign_keys")
            return [transaction.execute(text(f"PRAGMA {each}")).scalar() for each in names]
        names = ("synchronous_commit", "lock_timeout", "transaction_isolation")
        return [transaction.execute(text(f"SHOW {each}")).scalar() for each in names]

    async with Store(database, relay=False) as store:
        expected = ["wal", 2, 1] if is_sqlite(database) else ["on", "30s", "read committed"]
        if not is_sqlite(database):
            async with store.transaction() as transaction:
                name = (await transaction.execute(text("SELECT current_database()"))).scalar()
                await transaction.execute(
                    text(f'ALTER DATABASE "{name}" SET synchronous_commit = off')
                )
        assert await once(store, "m", settings) == expected


async def test_a_commit_that_was_unpinned_by_hand_waits_for_the_disk(
    postgres_database: str,
) -> None:
    """`SET LOCAL synchronous_commit = off` is taken back right before the commit."""
    said: list[Any] = []

    def unpin(transaction: SyncTransaction) -> None:
        @event.listens_for(transaction.connection.engine, "commit")
        def look(connection: Any) -> None:
            cursor = connection.connection.cursor()
            said.append(cursor.execute("SHOW synchronous_commit").fetchone())

        transaction.execute(text("SET LOCAL synchronous_commit = off"))

    async with Store(postgres_database, relay=False) as store:
        await once(store, "m", unpin)
    assert said == [("on",)]


async def test_what_the_database_is_refused_is_the_statements_failure(database: str) -> None:
    """It goes to the handler's policy as it is."""
    async with Store(database, relay=False) as store:
        with pytest.raises(DBAPIError):
            await once(store, "m", lambda t: t.execute(text("SELECT nonsense")))


async def test_threads_leave_no_connection_in_a_transaction(database: str) -> None:
    """Each of many failures gives its connection back, and the next run gets one."""

    def fail(transaction: SyncTransaction) -> None:
        insert(transaction)
        raise LookupError

    async with Store(database, relay=False, pool=2) as store:
        await make_work(store)
        for number in range(10):
            with pytest.raises(LookupError):
                await once(store, f"m{number}", fail)
        assert await once(store, "m", insert) == "a"


async def test_a_busy_sqlite_is_the_databases_failure(sqlite_database: str) -> None:
    """Where another process holds the write lock for too long, no attempt is counted."""

    def be_impatient(connection: Any, _: Any) -> None:
        connection.execute("PRAGMA busy_timeout = 50")

    async with (
        opened(sqlite_database) as other,
        Store(sqlite_database, relay=False) as store,
        other.transaction(),
    ):
        event.listen(store._open().database.in_threads()._engine, "connect", be_impatient)
        with pytest.raises(StoreUnavailableError):
            await once(store, "m", insert)
