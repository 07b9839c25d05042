"""What a column takes: each value that it cannot hold is refused at `add`, by the column's name."""

from __future__ import annotations

import datetime as dt
import uuid
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import (
    JSON,
    Column,
    Computed,
    Date,
    DateTime,
    Double,
    Identity,
    Integer,
    Interval,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Time,
    Uuid,
    bindparam,
    func,
    literal,
    select,
    text,
    types,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from mqkit.errors import RowError
from mqkit.store import Store, SyncTransaction, Transaction
from tests.unit.store.database.test_added_rows import grouped
from tests.unit.store.synchronous.test_once import once

tables = MetaData()


class Money(types.UserDefinedType[Decimal]):
    """A type of an application's own, which converts nothing."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        """Be a number in the database."""
        return "NUMERIC"


class Base(DeclarativeBase):
    """Of the one class below."""


class Person(Base):
    """A class of the ORM."""

    __tablename__ = "person"
    id: Mapped[int] = mapped_column(primary_key=True)


of_types = Table(
    "of_types",
    tables,
    Column("id", Integer, primary_key=True),
    Column("small", SmallInteger),
    Column("whole", Integer),
    Column("words", String),
    Column("raw", LargeBinary),
    Column("naive", DateTime),
    Column("at", Time(timezone=True)),
    Column("took", Interval),
    Column("real", Double),
    Column("known", Uuid),
    Column("day", Date),
    Column("more", JSON),
    Column("price", Money()),
)

made = Table(
    "made",
    tables,
    Column("id", Integer, primary_key=True),
    Column("twice", Integer, Computed("id * 2", persisted=True)),
)

numbered = Table(
    "numbered",
    tables,
    Column("id", Integer, Identity(always=True), primary_key=True),
    Column("a", String),
)

expressions = Table(
    "expressions",
    tables,
    Column("id", Integer, primary_key=True),
    Column("more", JSON),
    Column("bound", Integer, default=select(literal(42)).scalar_subquery()),
    Column("spelled", String, default=func.lower("WORD")),
    Column("words", String, default=text("'plain'")),
    Column("last", Integer, nullable=False),
)


def asking(context: Any) -> int:
    """A default that asks for more than the row."""
    found: int = context.connection.execute(select(1)).scalar()
    return found


asks = Table(
    "asks", tables, Column("id", Integer, primary_key=True), Column("a", Integer, default=asking)
)

needing = Table(
    "needing",
    tables,
    Column("id", Integer, primary_key=True),
    Column("given", Integer, default=bindparam("of_statement")),
)

AWARE = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)

EVERYWHERE = [
    ("whole", 2**63),
    ("words", "4111\ud800"),
    ("raw", "4111"),
    ("took", 4111),
    ("known", bytes(16)),
    ("known", 4111),
]

ON_POSTGRES = [
    ("small", 40_000),
    ("small", -32_769),
    ("whole", 2**31),
    ("words", "4111\0"),
    ("raw", 4111),
    ("naive", AWARE),
    ("at", dt.time(4, 11)),
    ("real", 10**400),
]


async def refused(database: str, key: str, value: Any) -> None:
    """Check that a value is refused, by its column's name and not by itself, twice."""
    async with Store(database, relay=False) as store:
        async with store.transaction() as transaction:
            await transaction.connection.run_sync(of_types.create)
        async with store.transaction() as transaction:
            for good in (None, _GOOD[key]):  # then a row of these types needs no look
                transaction.add(of_types, {key: good})
            with pytest.raises(RowError, match=rf"column of_types\.{key} ") as error:
                transaction.add(of_types, {key: value})
            assert "4111" not in str(error.value)


_GOOD: dict[str, Any] = {
    "small": 32_767,
    "whole": -(2**31),
    "words": "é",
    "raw": bytearray(b"x"),
    "naive": AWARE.replace(tzinfo=None),
    "at": dt.time(4, 11, tzinfo=dt.UTC),
    "took": dt.timedelta(1),
    "real": 1,
    "known": uuid.UUID(int=1),
}


@pytest.mark.parametrize(("key", "value"), EVERYWHERE)
async def test_a_value_that_no_database_keeps_is_refused(
    database: str, key: str, value: Any
) -> None:
    """SQLite's driver raises an error that names nothing, at the commit."""
    await refused(database, key, value)


@pytest.mark.parametrize(("key", "value"), ON_POSTGRES)
async def test_a_value_that_postgresql_does_not_keep_is_refused(
    postgres_database: str, key: str, value: Any
) -> None:
    """Its driver would raise an error that names a number of a parameter, and quotes the value."""
    await refused(postgres_database, key, value)


async def test_sqlite_refuses_what_its_driver_cannot_bind(sqlite_database: str) -> None:
    """A type of an application's own converts nothing."""
    async with Store(sqlite_database, relay=False) as store, store.transaction() as transaction:
        with pytest.raises(RowError, match=r"column of_types\.price .*does not take .* Decimal"):
            transaction.add(of_types, {"price": Decimal(1)})


async def test_the_edges_of_what_a_column_takes_are_written(database: str) -> None:
    """No check is narrower than the database."""
    rows: list[dict[str, Any]] = [
        {"id": 1, "small": -32_768, "whole": 2**31 - 1, "words": "", "raw": b"\0", "real": 10**300},
        {"id": 2, "small": 32_767, "whole": -(2**31), "words": "\U0001f600", "raw": b""},
        {"id": 3, "small": True, "whole": False, "words": "\x7f", "real": Decimal("NaN")},
    ]
    async with Store(database, relay=False) as store:
        async with store.transaction() as transaction:
            await transaction.connection.run_sync(of_types.create)
            transaction.add(of_types, *rows)
        async with store.transaction() as transaction:
            columns = (of_types.c.id, of_types.c.small, of_types.c.whole, of_types.c.words)
            found = await transaction.execute(select(*columns).order_by(of_types.c.id))
            assert [tuple(row) for row in found] == [
                (row["id"], row["small"], row["whole"], row["words"]) for row in rows
            ]


async def test_a_column_that_the_database_makes_takes_no_value(database: str) -> None:
    """It would fail at the commit."""
    async with Store(database, relay=False) as store, store.transaction() as transaction:
        with pytest.raises(RowError, match=r"column made\.twice is computed"):
            transaction.add(made, {"id": 1, "twice": 2})


async def test_an_identity_that_is_always_made_takes_no_value(postgres_database: str) -> None:
    """SQLite has no such thing, and takes one."""
    async with Store(postgres_database, relay=False) as store, store.transaction() as transaction:
        with pytest.raises(RowError, match=r"column numbered\.id is an identity"):
            transaction.add(numbered, {"id": 1, "a": "b"})


@pytest.mark.parametrize("more", [{}, {"more": {"a": 1}}])  # no array holds JSON
async def test_defaults_that_are_expressions_with_values_are_written(
    database: str, more: dict[str, Any]
) -> None:
    """As `insert` writes them."""
    async with Store(database, relay=False) as store:
        async with store.transaction() as transaction:
            await transaction.connection.run_sync(expressions.create)
            transaction.add(expressions, *({"id": n, "last": n * 10, **more} for n in (1, 2)))
            many = [{"id": n, "last": n * 10, **more} for n in (3, 4)]
            await transaction.execute(_KEPT, many[:1])
            await transaction.execute(_KEPT, [{**row, "id": row["id"] + 2} for row in many])
        async with store.transaction() as transaction:
            found = (await transaction.execute(select(expressions).order_by("id"))).all()
            assert [tuple(row)[2:] for row in found] == [
                (42, "word", "plain", last) for last in (10, 20, 30, 30, 40)
            ]
            assert [row.more for row in found] == [more.get("more")] * 5


_KEPT = expressions.insert()


async def test_a_default_with_a_parameter_of_its_statement_is_refused(database: str) -> None:
    """Nobody gives a value for it."""
    async with Store(database, relay=False) as store, store.transaction() as transaction:
        with pytest.raises(RowError, match=r"table needing.*of_statement"):
            transaction.add(needing, {"id": 1})


async def test_a_default_that_asks_for_a_connection_is_refused_by_its_name(database: str) -> None:
    """There is none yet: the row is written later."""
    async with Store(database, relay=False) as store, store.transaction() as transaction:
        with pytest.raises(RowError, match=r"default of column asks\.a .*'connection'"):
            transaction.add(asks, {"id": 1})


async def test_an_object_of_the_orm_is_refused_though_no_row_is_given(database: str) -> None:
    """Who takes it for `session.add` would lose it in silence."""
    async with Store(database, relay=False) as store, store.transaction() as transaction:
        with pytest.raises(RowError, match=r"transaction\.session\.add"):
            transaction.add(Person(id=1))  # type: ignore[arg-type]
        with pytest.raises(RowError, match=r"Person\.__table__"):
            transaction.add(Person, {"id": 1})  # type: ignore[arg-type]
        with pytest.raises(RowError, match=r"add\(table, \*rows\)"):
            transaction.add(made, [{"id": 1}])  # type: ignore[arg-type]
        transaction.add(made)


async def test_a_bad_value_costs_the_others_of_its_group_nothing(database: str) -> None:
    """It fails its message before anything is sent."""
    async with Store(database, relay=False) as store:
        async with store.transaction() as transaction:
            await transaction.connection.run_sync(of_types.create)

        def adding(value: int) -> Any:
            async def run(transaction: Transaction) -> None:
                transaction.add(of_types, {"whole": value})

            return run

        found = await grouped(store, {"a": adding(1), "b": adding(2**63), "c": adding(3)})
        assert isinstance(found.pop("b"), RowError)
        assert found == {"a": None, "c": None}


async def test_a_def_handler_is_told_the_same(database: str) -> None:
    """Its driver is another one."""
    async with Store(database, relay=False) as store:

        def run(transaction: SyncTransaction) -> None:
            for key, value in EVERYWHERE:
                with pytest.raises(RowError, match=rf"column of_types\.{key} "):
                    transaction.add(of_types, {key: value})

        await once(store, "a", run)
