"""Rows that a handler adds: checked at once, written later, many at a time, and all or none."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    Enum,
    ForeignKey,
    Integer,
    MetaData,
    Numeric,
    String,
    Table,
    func,
    insert,
    select,
    text,
)
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from mqkit.errors import RowError, StoreError
from mqkit.store import Store, SyncTransaction, Transaction
from mqkit.store.running.groups import Groups
from tests.unit.store.running.test_groups import Fixed
from tests.unit.store.support import delivery, statements
from tests.unit.store.synchronous.test_once import once

tables = MetaData()

account = Table("account", tables, Column("id", String(20), primary_key=True))

posting = Table(
    "posting",
    tables,
    Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("id", String(20), nullable=False, unique=True),
    Column("account", ForeignKey("account.id")),
    Column("cents", BigInteger, CheckConstraint("cents > 0"), default=1, nullable=False),
    Column("note", String(10), server_default="none"),
    sqlite_autoincrement=True,
)

odd = Table(
    "odd",
    tables,
    Column("id", Integer, primary_key=True),
    Column("kind", Enum("in", "out", name="kind", validate_strings=True), nullable=False),
    Column("more", JSON),
    Column("amount", Numeric(12, 2), default=lambda: Decimal("1.25")),
    Column("at", DateTime(timezone=True), default=lambda: datetime(2026, 3, 1, tzinfo=UTC)),
    Column("made", DateTime, default=func.now()),
    Column("of", String, default=lambda context: context.get_current_parameters()["kind"]),
)

Run = Callable[[Transaction], Awaitable[Any]]


class Base(DeclarativeBase):
    """Of the one class below."""


class Account(Base):
    """A row of `account`."""

    __tablename__ = "account"
    id: Mapped[str] = mapped_column(String(20), primary_key=True)


@contextlib.asynccontextmanager
async def opened(database: str) -> AsyncIterator[Store]:
    """An open store with the tables above, empty."""
    async with Store(database, relay=False) as store:
        async with store.transaction() as transaction:
            await transaction.connection.run_sync(tables.create_all)
        yield store


async def ids(store: Store, table: Table = posting) -> list[Any]:
    """What is in a table, in the order in which the database numbered it."""
    order = table.c.number if "number" in table.c else table.c.id
    async with store.transaction() as transaction:
        return list((await transaction.execute(select(table.c.id).order_by(order))).scalars())


async def grouped(store: Store, runs: Mapping[str, Run]) -> dict[str, Any]:
    """Let messages come at the same time; what each came to."""
    groups = Groups(store._open(), "h", store._once, Fixed())
    found = await asyncio.gather(
        *(groups.run(delivery(name), run) for name, run in runs.items()), return_exceptions=True
    )
    return dict(zip(runs, found, strict=True))


def adding(*names: str, **more: Any) -> Run:
    """A handler that adds postings."""

    async def run(transaction: Transaction) -> None:
        for name in names:
            transaction.add(posting, {"id": name, **more})

    return run


async def test_rows_of_a_group_are_written_by_one_statement(postgres_database: str) -> None:
    """However many members there are, and in their order."""
    async with opened(postgres_database) as store:
        with statements(store) as seen:
            runs = {name: adding(f"{name}-2", f"{name}-1") for name in ("b", "a", "c")}
            assert await grouped(store, runs) == dict.fromkeys(runs)
        assert seen.count("INSERT INTO posting") == 1
        assert await ids(store) == ["b-2", "b-1", "a-2", "a-1", "c-2", "c-1"]


async def test_rows_of_different_columns_keep_their_order_and_get_their_defaults(
    database: str,
) -> None:
    """Python's and the database's, in one group."""
    async with opened(database) as store:
        runs = {
            "a": adding("1"),
            "b": adding("2", cents=5, note="said"),
            "c": adding("3"),
            "d": adding("4", note=None),
        }
        assert await grouped(store, runs) == dict.fromkeys(runs)
        async with store.transaction() as transaction:
            columns = (posting.c.id, posting.c.cents, posting.c.note)
            rows = await transaction.execute(select(*columns).order_by(posting.c.number))
            assert [tuple(row) for row in rows] == [
                ("1", 1, "none"),
                ("2", 5, "said"),
                ("3", 1, "none"),
                ("4", 1, None),
            ]


async def test_types_are_written_as_insert_writes_them(database: str) -> None:
    """Also those that no array holds, and defaults that are SQL or look at their row."""
    async with opened(database) as store:
        row = {"kind": "in", "more": {"a": [1, None]}}
        async with store.transaction() as transaction:
            transaction.add(odd, {"id": 1, **row}, {"id": 2, "amount": Decimal("3.10"), **row})
            await transaction.execute(insert(odd), {"id": 3, **row})
            transaction.add(odd, {"id": 4, "kind": "out"})
            found = (await transaction.execute(select(odd).order_by(odd.c.id))).all()
        without_id = [tuple(row)[1:] for row in found]
        assert without_id[0] == without_id[2]
        assert without_id[0][-1] == "in"
        assert without_id[1][2] == Decimal("3.10")
        assert without_id[3][:2] == ("out", None)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"id": "a", "nope": 1}, "has no column 'nope'"),
        ({"cents": 1}, "posting.id needs a value"),
        ({"id": 5}, r"posting.id .* takes str, not a value of int"),
        ({"id": "a", "cents": "4111111111111111"}, r"cents .* takes int, not a value of str"),
        ({"id": None}, "takes no None"),
        ({"id": "a", "cents": func.abs(1)}, "no SQL expressions"),
        (("a", 1), "mappings of column names to values"),
    ],
)
async def test_what_is_no_row_is_refused_at_the_call(database: str, row: Any, told: str) -> None:
    """Without telling the value, with the rows beside it; and the transaction is still good."""
    async with opened(database) as store, store.transaction() as transaction:
        with pytest.raises(RowError, match=told) as refused:
            transaction.add(posting, {"id": "beside"}, row)
        assert "4111" not in str(refused.value)
        transaction.add(posting, {"id": "good"})
        rows = await transaction.execute(select(posting.c.id))
        assert list(rows.scalars()) == ["good"]


async def test_an_enum_that_is_none_and_a_class_of_the_orm_are_refused(database: str) -> None:
    """A type that converts says no at the call, too."""
    async with opened(database) as store, store.transaction() as transaction:
        with pytest.raises(RowError, match=r"kind .* does not take"):
            transaction.add(odd, {"id": 1, "kind": "sideways"})
        with pytest.raises(RowError, match=r"transaction\.session\.add"):
            transaction.add(Account, {"id": "a"})  # type: ignore[arg-type]


async def by_execute(transaction: Transaction) -> list[str]:
    return list((await transaction.execute(select(posting.c.id))).scalars())


async def by_connection(transaction: Transaction) -> list[str]:
    return list((await transaction.connection.execute(select(posting.c.id))).scalars())


async def by_session(transaction: Transaction) -> list[str]:
    return list((await transaction.session.execute(select(posting.c.id))).scalars())


async def by_kept_statement(transaction: Transaction) -> list[str]:
    for _ in range(2):  # from its second time on it is sent past SQLAlchemy
        done = await transaction.execute(_COUNT_UP)
    transaction.add(posting, {"id": "later"})
    done = await transaction.execute(_COUNT_UP)
    assert done.rowcount == 2
    return ["x"]


_COUNT_UP = posting.update().values(cents=posting.c.cents + 1)


@pytest.mark.parametrize("reading", [by_execute, by_connection, by_session, by_kept_statement])
async def test_a_statement_finds_what_was_added_before_it(
    database: str, reading: Callable[[Transaction], Awaitable[list[str]]]
) -> None:
    """By whichever road it goes, also what another member of its group has added."""
    async with opened(database) as store:
        found: list[list[str]] = []

        async def look(transaction: Transaction) -> None:
            found.append(await reading(transaction))

        assert await grouped(store, {"a": adding("x"), "b": look}) == {"a": None, "b": None}
        assert found == [["x"]]
        async with store.transaction() as transaction:
            transaction.add(posting, {"id": "y"})
            assert "y" in await by_execute(transaction)


@pytest.mark.parametrize("method", ["fetch", "fetchval", "fetchrow", "prepare", "copy_from_query"])
async def test_asyncpg_finds_what_was_added_before(postgres_database: str, method: str) -> None:
    """Its connection writes it first, and so does a savepoint of its."""
    query = "SELECT count(*) FROM posting"
    async with opened(postgres_database) as store, store.transaction() as transaction:
        driver = transaction.driver_connection
        transaction.add(posting, {"id": "x"})
        if method == "prepare":
            assert await (await driver.prepare(query)).fetchval() == 1
        elif method == "copy_from_query":
            copied = bytearray()

            async def take(some: bytes) -> None:
                copied.extend(some)

            await driver.copy_from_query(query, output=take)
            assert copied == b"1\n"
        else:
            found = await getattr(driver, method)(query)
            assert found == 1 or found[0] == 1 or found[0][0] == 1
        transaction.add(posting, {"id": "before"})
        with contextlib.suppress(LookupError):
            async with driver.transaction():
                transaction.add(posting, {"id": "within"})
                raise LookupError
        transaction.add(posting, {"id": "after"})
        assert await by_execute(transaction) == ["x", "before", "after"]


async def test_a_savepoint_that_is_taken_back_takes_its_rows(database: str) -> None:
    """Those that were not written, too; and an error within it may be caught."""
    async with opened(database) as store:
        async with store.transaction() as transaction:
            transaction.add(posting, {"id": "before"})
            with contextlib.suppress(LookupError):
                async with transaction.connection.begin_nested():
                    transaction.add(posting, {"id": "undone"})
                    raise LookupError
            caught = None
            try:
                async with transaction.connection.begin_nested():
                    transaction.add(posting, {"id": "before"})
                    await transaction.flush()
            except IntegrityError as error:
                caught = error
            assert caught is not None
            async with transaction.connection.begin_nested():
                transaction.add(posting, {"id": "within"})
            transaction.add(posting, {"id": "after"})
        assert await ids(store) == ["before", "within", "after"]


async def test_parents_are_written_before_what_refers_to_them(database: str) -> None:
    """Whatever was added first, and by whichever member."""

    async def child_first(transaction: Transaction) -> None:
        transaction.add(posting, {"id": "1", "account": "a"})
        transaction.add(account, {"id": "a"})

    async def parent(transaction: Transaction) -> None:
        transaction.add(account, {"id": "b"})
        transaction.add(posting, {"id": "2", "account": "b"})

    async with opened(database) as store:
        runs = {"m": child_first, "n": parent}
        assert await grouped(store, runs) == dict.fromkeys(runs)
        assert await ids(store) == ["1", "2"]
        assert await ids(store, account) == ["a", "b"]


@pytest.mark.parametrize("how", ["unique", "check", "foreign key", "not written yet"])
async def test_what_the_database_refuses_fails_its_message_alone(database: str, how: str) -> None:
    """With the error of its own row, and the others lose nothing."""

    async def fails(transaction: Transaction) -> None:
        transaction.add(posting, {"id": "lost"})
        if how == "not written yet":
            raise LookupError
        more: dict[str, dict[str, Any]]
        more = {"check": {"cents": -1}, "foreign key": {"account": "none"}, "unique": {}}
        transaction.add(posting, {"id": "there" if how == "unique" else "bad", **more[how]})

    async with opened(database) as store:
        await grouped(store, {"first": adding("there")})
        found = await grouped(store, {"a": adding("1"), "b": fails, "c": adding("2")})
        expected = LookupError if how == "not written yet" else IntegrityError
        assert [type(each) for each in found.values()] == [type(None), expected, type(None)]
        assert await ids(store) == ["there", "1", "2"]
        # It left no inbox row: it may be handled again.
        assert await grouped(store, {"b": adding("3")}) == {"b": None}
        assert await ids(store) == ["there", "1", "2", "3"]


async def test_two_members_with_one_key_fail_one_of_them(database: str) -> None:
    """The first one is committed."""
    async with opened(database) as store:
        found = await grouped(store, {"a": adding("same"), "b": adding("same"), "c": adding("x")})
        kinds = [type(each) for each in found.values()]
        assert kinds == [type(None), IntegrityError, type(None)]
        assert await ids(store) == ["same", "x"]


async def test_who_meets_another_ones_bad_row_does_not_fail_for_it(database: str) -> None:
    """Not even where it swallows the error that it gets by its own statement."""

    async def swallow(transaction: Transaction) -> None:
        with contextlib.suppress(DBAPIError):
            await by_execute(transaction)
        transaction.add(posting, {"id": "own"})

    async with opened(database) as store:
        found = await grouped(store, {"a": adding("bad", cents=-1), "b": swallow})
        assert [type(each) for each in found.values()] == [IntegrityError, type(None)]
        assert await ids(store) == ["own"]


async def test_an_error_that_a_handler_swallows_rolls_it_back(database: str) -> None:
    """What it added would be lost otherwise, with the message acked."""

    async def swallow(transaction: Transaction) -> None:
        transaction.add(posting, {"id": "lost"}, {"id": "bad", "cents": -1})
        with contextlib.suppress(DBAPIError):
            await transaction.flush()

    async with opened(database) as store:
        with pytest.raises(DBAPIError):
            await store.run_once("h", delivery("m"), swallow)
        found = await grouped(store, {"a": adding("1"), "b": swallow})
        assert found["a"] is None
        assert isinstance(found["b"], DBAPIError)
        assert await ids(store) == ["1"]


async def test_a_cancelled_member_leaves_no_row(database: str) -> None:
    """It was in its turn, and had added one."""
    began = asyncio.Event()

    async def waits(transaction: Transaction) -> None:
        transaction.add(posting, {"id": "cancelled"})
        began.set()
        await asyncio.Event().wait()

    async with opened(database) as store:
        groups = Groups(store._open(), "h", store._once, Fixed())
        first = asyncio.create_task(groups.run(delivery("a"), adding("1")))
        second = asyncio.create_task(groups.run(delivery("b"), waits))
        await began.wait()
        second.cancel()
        await first
        with pytest.raises(asyncio.CancelledError):
            await second
        assert await ids(store) == ["1"]


async def test_what_is_added_after_the_handler_returned_is_refused(database: str) -> None:
    """It would be lost: its transaction may be committed by then. Also outside of a group."""
    kept: list[Transaction] = []

    async def keep(transaction: Transaction) -> None:
        kept.append(transaction)

    async with opened(database) as store:
        await grouped(store, {"a": keep, "b": keep})
        await store.run_once("alone", delivery("m"), keep)
        for each in kept:
            with pytest.raises(StoreError, match="is over"):
                each.add(posting, {"id": "late"})
        assert len(kept) == 3
        assert await ids(store) == []


async def test_alone_and_in_a_batch_rows_are_written_with_the_rest(database: str) -> None:
    """And rolled back with it: by what is raised, and by the database's refusal."""
    async with opened(database) as store:
        await store.run_once("h", delivery("m"), adding("1"))

        async def batch(transaction: Transaction, deliveries: Any) -> list[None]:
            transaction.add(posting, *({"id": each.message_id} for each in deliveries))
            return [None] * len(deliveries)

        messages = [delivery("2"), delivery("3")]
        assert await store.run_batch_once("b", messages, batch) == [None, None]
        with pytest.raises(IntegrityError):
            await store.run_batch_once("c", messages, batch)
        with contextlib.suppress(LookupError):
            async with store.transaction() as transaction:
                transaction.add(posting, {"id": "4"})
                raise LookupError
        assert await ids(store) == ["1", "2", "3"]


async def test_a_session_and_added_rows_share_the_transaction(database: str) -> None:
    """A row that refers to an object of the session is added once that is flushed."""
    async with opened(database) as store:

        async def run(transaction: Transaction) -> None:
            transaction.session.add(Account(id="orm"))
            await transaction.session.flush()
            transaction.add(posting, {"id": "1", "account": "orm"})
            transaction.session.add(Account(id="later"))

        assert await grouped(store, {"a": run, "b": adding("2")}) == {"a": None, "b": None}
        assert await ids(store) == ["1", "2"]


@pytest.mark.parametrize("uses_session", [False, True])
async def test_a_savepoint_of_the_session_takes_its_rows(database: str, uses_session: bool) -> None:
    """SQLAlchemy would send it with the session's first statement in it, or never"""
    async with opened(database) as store:

        async def run(transaction: Transaction) -> None:
            transaction.add(posting, {"id": "1"})
            with contextlib.suppress(LookupError):
                async with transaction.session.begin_nested():
                    transaction.add(posting, {"id": "undone"})
                    if uses_session:
                        await transaction.session.execute(select(posting.c.id))
                    raise LookupError
            async with transaction.session.begin_nested():
                transaction.add(posting, {"id": "2"})

        def work(transaction: SyncTransaction) -> None:
            with contextlib.suppress(LookupError), transaction.session.begin_nested():
                transaction.add(posting, {"id": "undone"})
                if uses_session:
                    transaction.session.execute(select(posting.c.id))
                raise LookupError
            transaction.add(posting, {"id": "4"})

        assert await grouped(store, {"a": run, "b": adding("3")}) == {"a": None, "b": None}
        await once(store, "m", work)
        assert await ids(store) == ["1", "2", "3", "4"]


async def test_a_def_handler_adds_rows_too(database: str) -> None:
    """A statement finds them, a savepoint takes its own back, and a refusal rolls back."""
    async with opened(database) as store:

        def work(transaction: SyncTransaction) -> list[str]:
            transaction.add(posting, {"id": "1"})
            with contextlib.suppress(LookupError), transaction.connection.begin_nested():
                transaction.add(posting, {"id": "undone"})
                raise LookupError
            found = list(transaction.execute(select(posting.c.id)).scalars())
            transaction.add(posting, {"id": "2"}, {"id": "3", "cents": 4})
            transaction.add(odd, {"id": 1, "kind": "in", "more": [1]})
            return found

        assert await once(store, "m", work) == ["1"]
        with pytest.raises(IntegrityError):
            await once(store, "n", lambda transaction: transaction.add(posting, {"id": "1"}))
        assert await ids(store) == ["1", "2", "3"]
        assert await ids(store, odd) == [1]


async def test_a_bad_row_makes_no_other_message_fail_whatever_they_do(database: str) -> None:
    """Forty messages, each of a kind: what they came to is what each comes to alone."""
    kinds: list[Callable[[int], Run]] = [
        lambda n: adding(f"p{n}"),
        lambda n: adding(f"p{n}", cents=-1),
        lambda n: adding(f"p{n % 10}"),
        _executing,
        _raising,
        _savepoint,
    ]

    async def played(store: Store, *, alone: bool) -> tuple[list[Any], list[str]]:
        runs = {str(n): kinds[n * 7 % 6](n) for n in range(40)}
        if alone:
            found = [(await grouped(store, {name: run}))[name] for name, run in runs.items()]
        else:
            found = list((await grouped(store, runs)).values())
        outcome = [type(each) for each in found]
        there = await ids(store)
        async with store.transaction() as transaction:
            await transaction.execute(text("DELETE FROM posting"))
            await transaction.execute(text("DELETE FROM mqkit_inbox"))
        return outcome, there

    async with opened(database) as store:
        assert await played(store, alone=False) == await played(store, alone=True)


def _executing(number: int) -> Run:
    async def run(transaction: Transaction) -> None:
        transaction.add(posting, {"id": f"e{number}"})
        await transaction.execute(insert(posting), {"id": f"e{number}-2"})

    return run


def _raising(number: int) -> Run:
    async def run(transaction: Transaction) -> None:
        transaction.add(posting, {"id": f"r{number}"})
        raise LookupError

    return run


def _savepoint(number: int) -> Run:
    async def run(transaction: Transaction) -> None:
        with contextlib.suppress(IntegrityError):
            async with transaction.connection.begin_nested():
                transaction.add(posting, {"id": f"s{number}"}, {"id": "p0"})
                await transaction.flush()
        transaction.add(posting, {"id": f"s{number}-after"})

    return run
