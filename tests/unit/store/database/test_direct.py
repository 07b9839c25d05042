"""Statements that go to asyncpg without SQLAlchemy's layers: nobody can tell."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import (
    JSON,
    Column,
    DateTime,
    Enum,
    Executable,
    Integer,
    MetaData,
    Numeric,
    String,
    Table,
    bindparam,
    delete,
    event,
    func,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import CursorResult
from sqlalchemy.exc import DBAPIError, IntegrityError, StatementError
from sqlalchemy.types import TypeDecorator

from mqkit.errors import StoreError
from mqkit.store import Store, Transaction
from mqkit.store.database import direct
from mqkit.store.database.sqlite.driver import SqliteSender
from tests.unit.store.support import delivery


class Color(enum.Enum):
    """Of a column."""

    RED = "r"
    BLUE = "b"


class Cents(TypeDecorator[Decimal]):
    """Converts on the way there and back."""

    impl = Integer
    cache_ok = True

    def process_bind_param(self, value: Decimal | None, dialect: Any) -> int | None:
        """There."""
        return None if value is None else int(value * 100)

    def process_result_value(self, value: Any, dialect: Any) -> Decimal | None:
        """And back."""
        return None if value is None else Decimal(value) / 100


METADATA = MetaData()
THINGS = Table(
    "things",
    METADATA,
    Column("name", String, primary_key=True),
    Column("number", Integer),
    Column("price", Cents),
    Column("exact", Cents().with_variant(Numeric(10, 3), "postgresql")),
    Column("color", Enum(Color)),
    Column("at", DateTime(timezone=True)),
    Column("more", JSON),
    Column("list", JSON().with_variant(postgresql.ARRAY(String), "postgresql")),
    Column("stamp", DateTime(timezone=True), server_default=func.now()),
)
NUMBERED = Table(
    "numbered",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("name", String, unique=True),
)
MADE_HERE = Table(
    "made_here",
    METADATA,
    Column("name", String, primary_key=True),
    Column("number", Integer, default=lambda: 7),
)

AT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
WHOLE: dict[str, Any] = {
    "number": -5,
    "price": Decimal("12.34"),
    "exact": Decimal("1.23"),
    "color": Color.BLUE,
    "at": AT,
    "more": {"a": [1, None, "\u20ac"]},
    "list": ["x", "y"],
}

NAMED: Any = bindparam("named")

SIMPLE: dict[str, tuple[Executable, list[dict[str, Any] | None]]] = {
    "insert": (insert(THINGS), [{"name": n, **WHOLE} for n in "cde"]),
    "insert of nulls": (insert(THINGS), [{"name": n, "number": None} for n in "cde"]),
    "insert of a mix of values": (
        insert(THINGS).values(number=func.length("four"), price=Decimal("0.01")),
        [{"name": n} for n in "cde"],
    ),
    "insert from a select": (
        insert(THINGS).from_select(["name"], select(THINGS.c.name + NAMED)),
        [{"named": n} for n in "cde"],
    ),
    "upsert on PostgreSQL": (
        postgresql.insert(THINGS).on_conflict_do_update(
            index_elements=[THINGS.c.name], set_={"number": 99}
        ),
        [{"name": "a"}, {"name": "c"}, {"name": "a"}],
    ),
    "upsert on SQLite": (
        sqlite.insert(THINGS).on_conflict_do_update(
            index_elements=[THINGS.c.name], set_={"number": 99}
        ),
        [{"name": "a"}, {"name": "c"}, {"name": "a"}],
    ),
    "insert or nothing on PostgreSQL": (
        postgresql.insert(THINGS).on_conflict_do_nothing(),
        [{"name": "a"}, {"name": "c"}, {"name": "a"}],
    ),
    "update": (
        update(THINGS).where(THINGS.c.name == NAMED).values(price=THINGS.c.price + 1),
        [{"named": "a"}, {"named": "z"}, {"named": "a"}],
    ),
    "update by names of columns": (
        update(THINGS).where(THINGS.c.name == NAMED),
        [{"named": "a", "color": Color.RED}, {"named": "b", "color": None}] * 2,
    ),
    "update without parameters": (update(THINGS).values(number=3), [None, {}, None]),
    "insert of a key that the database gives": (insert(NUMBERED), [{"name": n} for n in "cde"]),
    "delete": (delete(THINGS).where(THINGS.c.name == NAMED), [{"named": n} for n in "azb"]),
}
"""Statements that are sent directly, each with its parameters for three times or four."""

OTHERS: dict[str, tuple[Executable, list[dict[str, Any] | None]]] = {
    "with rows": (insert(THINGS).returning(THINGS.c.stamp), [{"name": n} for n in "cde"]),
    "with a key that the database gives": (insert(NUMBERED), [{"name": n} for n in "cde"]),
    "with a default that Python gives": (insert(MADE_HERE), [{"name": n} for n in "cde"]),
    "with a list of values": (
        update(THINGS)
        .where(THINGS.c.name.in_(bindparam("names", expanding=True)))
        .values(number=1),
        [{"names": ["a", "b"]}, {"names": []}, {"names": ["b"]}],
    ),
    "a select": (select(THINGS), [None] * 3),
    "text": (text("UPDATE things SET number = 5"), [None] * 3),
    "with options": (
        insert(THINGS).execution_options(mine=True),
        [{"name": n} for n in "cde"],
    ),
}
"""Statements that go SQLAlchemy's way."""


ONLY_SQLITE = {
    "upsert on SQLite",
    "insert of a key that the database gives",
    "that asks for more on SQLite",
}
ONLY_POSTGRES = {
    "upsert on PostgreSQL",
    "that asks for more on PostgreSQL",
    "insert or nothing on PostgreSQL",
    "with a key that the database gives",
    "a value of another kind",
    "a number too large",
    "a word that is none of an enum",
    "NUL in a text",
}


def on_both(names: Iterable[str]) -> pytest.MarkDecorator:
    """Each on the two databases, but for those that only one of them has."""
    cases = [
        (kind, name)
        for kind, elsewhere in (("postgres", ONLY_SQLITE), ("sqlite", ONLY_POSTGRES))
        for name in names
        if name not in elsewhere
    ]
    return pytest.mark.parametrize(("database", "name"), cases, indirect=["database"])


@contextlib.contextmanager
def sent_directly(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Collect what is sent without SQLAlchemy."""
    seen: list[str] = []
    execute = direct.execute

    async def noting(connection: Any, watch: Any, plan: Any, *args: Any) -> Any:
        seen.append(plan.statement)
        return await execute(connection, watch, plan, *args)

    with monkeypatch.context() as patch:
        patch.setattr(direct, "execute", noting)
        yield seen


async def prepare(store: Store) -> None:
    """Make the tables, with two rows."""
    async with store.transaction() as transaction:
        await transaction.connection.run_sync(METADATA.drop_all)
        await transaction.connection.run_sync(METADATA.create_all)
        rows = [{"name": name, **WHOLE} for name in "ab"]
        await transaction.connection.execute(insert(THINGS), rows)


def told(result: CursorResult[Any]) -> dict[str, Any]:
    """What a result tells, its errors by their types."""
    answers: dict[str, Any] = {}
    for name in (
        "rowcount",
        "returns_rows",
        "is_insert",
        "inserted_primary_key",
        "inserted_primary_key_rows",
        "closed",
        "supports_sane_rowcount",
        "lastrow_has_defaults",
        "last_inserted_params",
        "last_updated_params",
        "postfetch_cols",
        "prefetch_cols",
        "returned_defaults",
        "keys",
        "all",
        "first",
        "scalar",
        "fetchone",
        "mappings",
        "close",
        "closed ",
    ):
        try:
            answer = getattr(result, name.strip())
            answers[name] = repr(answer() if callable(answer) else answer)
        except Exception as error:  # noqa: BLE001 - compared
            answers[name] = type(error)
    answers.pop("mappings")
    return answers


async def rows_of(transaction: Transaction) -> list[Any]:
    """All rows, but for the times that the database gives."""
    columns = [column for column in THINGS.c if column.name != "stamp"]
    found = await transaction.connection.execute(select(*columns).order_by(THINGS.c.name))
    return [tuple(row) for row in found]


@on_both(SIMPLE)
async def test_a_statement_has_the_result_that_sqlalchemy_gives_it(
    database: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the second time on it is sent directly, and the rows and all that it tells are equal."""
    statement, parameters = SIMPLE[name]
    outcomes = []
    async with Store(database, relay=False) as store:
        for is_direct in (True, False):
            await prepare(store)
            with sent_directly(monkeypatch) as seen:
                async with store.transaction() as transaction:
                    execute = transaction.execute if is_direct else transaction.connection.execute
                    results = [told(await execute(statement, each)) for each in parameters]
                    outcomes.append((results, await rows_of(transaction)))
            assert len(seen) == (len(parameters) - 1 if is_direct else 0)
    assert outcomes[0][1] == outcomes[1][1]
    for mine, theirs in zip(outcomes[0][0], outcomes[1][0], strict=True):
        assert {k: (v, theirs[k]) for k, v in mine.items() if v != theirs[k]} == {}


async def test_a_result_keeps_what_the_statement_was_given(database: str) -> None:
    """Though the handler puts its next row into the same dict."""
    statement, row = insert(THINGS), {"name": "a", "number": 1}
    async with Store(database, relay=False) as store:
        await prepare(store)
        async with store.transaction() as transaction:
            results = []
            for name in "xyz":
                row["name"] = name
                results.append(await transaction.execute(statement, row))
    assert [each.inserted_primary_key for each in results] == [("x",), ("y",), ("z",)]


@on_both(OTHERS)
async def test_what_asks_more_of_sqlalchemy_goes_its_way(
    database: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows, keys and defaults that it makes, lists, text and options are its business."""
    statement, parameters = OTHERS[name]
    async with Store(database, relay=False) as store:
        await prepare(store)
        with sent_directly(monkeypatch) as seen:
            async with store.transaction() as transaction:
                for each in parameters:
                    await transaction.execute(statement, each)
        assert seen == []


MANY: dict[str, tuple[Executable, list[dict[str, Any]], bool, bool]] = {
    "of plain types": (
        insert(THINGS),
        [{"name": n, "number": 5, "at": AT} for n in "de"],
        True,
        True,
    ),
    "converted": (
        insert(THINGS),
        [{"name": "d", "price": Decimal(1)}, {"name": "e", "price": None}],
        True,
        True,
    ),
    "whole": (insert(THINGS), [{"name": n, **WHOLE} for n in "de"], False, True),
    "of a type that no array holds": (
        insert(THINGS),
        [{"name": n, "more": [1]} for n in "de"],
        False,
        True,
    ),
    "of one": (insert(THINGS), [{"name": "d"}], False, False),
    "whose keys have another order": (
        insert(THINGS),
        [{"name": "d", "number": 1}, {"number": 2, "name": "e"}],
        True,
        True,
    ),
    "with more than the first": (
        insert(THINGS),
        [{"name": "d"}, {"name": "e", "number": 2}],
        True,
        True,
    ),
    "with a default of Python": (insert(MADE_HERE), [{"name": n} for n in "de"], False, False),
    "numbered by the database": (insert(NUMBERED), [{"name": n} for n in "de"], True, True),
    "that asks for more on PostgreSQL": (
        postgresql.insert(THINGS).on_conflict_do_nothing(),
        [{"name": n} for n in "ad"],
        False,
        False,
    ),
    "that asks for more on SQLite": (
        sqlite.insert(THINGS).on_conflict_do_nothing(),
        [{"name": n} for n in "ade"],
        False,
        True,
    ),
    "with a value of its own": (
        insert(THINGS).values(number=3),
        [{"name": n} for n in "de"],
        False,
        False,
    ),
    "that are changed": (
        update(THINGS).where(THINGS.c.name == NAMED),
        [{"named": n, "number": 9, "name": n + "1"} for n in "abz"],
        False,
        True,
    ),
    "that are deleted": (
        delete(THINGS).where(THINGS.c.name == NAMED),
        [{"named": n, "name": "unused"} for n in "az"],
        False,
        True,
    ),
}
"""What is given a list, and whether it is sent directly on PostgreSQL and on SQLite."""


@on_both(MANY)
async def test_many_rows_have_the_result_that_sqlalchemy_gives_them(
    database: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where that is all that is asked; the rows and all that is told are equal."""
    statement, rows, on_postgres, on_sqlite = MANY[name]
    is_sent = on_postgres if database.startswith("postgresql") else on_sqlite
    outcomes = []
    async with Store(database, relay=False) as store:
        for is_direct in (True, False):
            await prepare(store)
            with sent_directly(monkeypatch) as seen:
                async with store.transaction() as transaction:
                    execute = transaction.execute if is_direct else transaction.connection.execute
                    # The first time it may be the only one of its kind.
                    await execute(statement, [{**row, "name": f"{row['name']}0"} for row in rows])
                    result = told(await execute(statement, rows))
                    outcomes.append((result, await rows_of(transaction)))
            assert len(seen) == (is_direct and is_sent)
    assert outcomes[0][1] == outcomes[1][1]
    mine, theirs = outcomes[0][0], outcomes[1][0]
    assert {k: (v, theirs[k]) for k, v in mine.items() if v != theirs[k]} == {}


FAILING: dict[str, tuple[list[Any], type[Exception]]] = {
    "a key that is there": ([{"name": "d"}, {"name": "a"}], IntegrityError),
    "a null": ([{"name": "d"}, {"name": None}], IntegrityError),
    "a row of other columns": ([{"name": "d"}, {"other": "e"}], StatementError),
    "a row that is none": ([{"name": "d"}, 5], Exception),
    "a value of another kind": (
        [{"name": "d", "number": 1}, {"name": "e", "number": "five"}],
        DBAPIError,
    ),
    "a value that its type refuses": (
        [{"name": "d", "price": Decimal(1)}, {"name": "e", "price": "?"}],
        StatementError,
    ),
    "a value that no database takes": (
        [{"name": "d", "number": 1}, {"name": "e", "number": 1 << 70}],
        Exception,
    ),
}


@on_both(FAILING)
async def test_many_rows_that_fail_have_the_error_that_sqlalchemy_gives_them(
    database: str, name: str
) -> None:
    """Its type, what caused it and its text, and none of the rows is there."""
    rows, kind = FAILING[name]
    statement = insert(THINGS)
    errors = []
    async with Store(database, relay=False) as store:
        for is_direct in (True, False):
            await prepare(store)
            with pytest.raises(kind) as raised:
                await store.run_once(
                    "h", delivery(f"m{is_direct}"), _failing(statement, rows, is_direct)
                )
            original = getattr(raised.value, "orig", None)
            text_ = str(original or raised.value).splitlines()[0]
            errors.append((type(raised.value), type(original), text_))
            async with store.transaction() as transaction:
                assert len(await rows_of(transaction)) == 2
    assert errors[0] == errors[1]


def _failing(statement: Executable, rows: list[dict[str, Any]], is_direct: bool) -> Any:
    async def run(transaction: Transaction) -> None:
        execute = transaction.execute if is_direct else transaction.connection.execute
        await execute(statement, {"name": "c"})
        await execute(statement, rows)

    return run


async def test_rows_that_are_added_are_one_job_of_sqlite_s_thread(
    sqlite_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many they are, and of whatever types."""
    sizes: list[int] = []
    send_each = SqliteSender.send_each

    async def noting(self: SqliteSender, statement: str, rows: Any) -> Any:
        sizes.append(len(rows))
        return await send_each(self, statement, rows)

    monkeypatch.setattr(SqliteSender, "send_each", noting)
    async with Store(sqlite_database, relay=False) as store:
        await prepare(store)
        async with store.transaction() as transaction:
            transaction.add(THINGS, *({"name": name, **WHOLE} for name in "cde"))
        async with store.transaction() as transaction:
            assert len(await rows_of(transaction)) == 5
    assert sizes == [3]


async def test_what_is_no_statement_is_sqlalchemy_s_own_error(sqlite_database: str) -> None:
    """It knows better than mqkit what may be executed."""
    async with Store(sqlite_database, relay=False) as store, store.transaction() as transaction:
        with pytest.raises(Exception, match="executable"):
            await transaction.execute("INSERT", {})  # type: ignore[arg-type]


BREAKING: dict[str, tuple[Executable, dict[str, Any], type[Exception]]] = {
    "a key that is there": (insert(THINGS), {"name": "a"}, IntegrityError),
    "a null": (insert(THINGS), {"name": None}, IntegrityError),
    "a value of another kind": (insert(THINGS), {"name": "x", "number": "five"}, DBAPIError),
    "a number too large": (insert(THINGS), {"name": "x", "number": 2**40}, DBAPIError),
    "a value that its type refuses": (insert(THINGS), {"name": "x", "price": "?"}, StatementError),
    "a word that is none of an enum": (insert(THINGS), {"name": "x", "color": "?"}, DBAPIError),
    "a missing parameter": (
        delete(THINGS).where(THINGS.c.name == NAMED, THINGS.c.number == bindparam("other")),
        {"named": "a"},
        StatementError,
    ),
    "NUL in a text": (insert(THINGS), {"name": "x\0"}, DBAPIError),
}


@on_both(BREAKING)
async def test_a_statement_that_fails_has_the_error_that_sqlalchemy_gives_it(
    database: str, name: str
) -> None:
    """Its type, its text without parameters, its cause and its statement are equal."""
    statement, parameters, kind = BREAKING[name]
    errors = []
    async with Store(database, relay=False) as store:
        await prepare(store)
        for is_direct in (True, False):
            # The first time teaches it.
            with pytest.raises(kind):
                await _run(store, statement, parameters, is_direct=is_direct)
            with pytest.raises(kind) as caught:
                await _run(store, statement, parameters, is_direct=is_direct)
            error: Any = caught.value
            orig = getattr(error, "orig", None)
            errors.append(
                (
                    type(error),
                    str(error),
                    getattr(error, "statement", None),
                    type(orig),
                    type(getattr(orig, "__cause__", None)),
                    getattr(orig, "sqlstate", None),
                )
            )
            assert "five" not in str(error) or "five" in str(orig)
    assert errors[0] == errors[1]


async def _run(
    store: Store, statement: Executable, parameters: dict[str, Any], *, is_direct: bool
) -> None:
    async with store.transaction() as transaction:
        execute = transaction.execute if is_direct else transaction.connection.execute
        await execute(statement, parameters)


async def test_a_failed_statement_aborts_the_transaction_as_any_other(
    postgres_database: str,
) -> None:
    """What the handler swallows is known at the end, and nothing of the message is committed."""
    statement = insert(THINGS)
    async with Store(postgres_database, relay=False) as store:
        await prepare(store)

        async def swallow(transaction: Transaction) -> None:
            await transaction.execute(statement, {"name": "c"})
            await transaction.execute(statement, {"name": "d"})
            with contextlib.suppress(IntegrityError):
                await transaction.execute(statement, {"name": "d"})

        with pytest.raises(StoreError, match="the handler went on"):
            await store.run_once("h", delivery("m"), swallow)
        async with store.transaction() as transaction:
            assert len(await rows_of(transaction)) == 2


async def test_within_a_savepoint_statements_go_sqlalchemy_s_way(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it takes back is taken back, and statements after it are sent directly again."""
    statement = insert(THINGS)
    async with Store(database, relay=False) as store:
        await prepare(store)
        with sent_directly(monkeypatch) as seen:
            async with store.transaction() as transaction:
                await transaction.execute(statement, {"name": "c"})
                with contextlib.suppress(IntegrityError):
                    async with transaction.connection.begin_nested():
                        await transaction.execute(statement, {"name": "d"})
                        await transaction.execute(statement, {"name": "d"})
                assert seen == []
                await transaction.execute(statement, {"name": "e"})
                assert len(seen) == 1
                assert [row[0] for row in await rows_of(transaction)] == ["a", "b", "c", "e"]


async def test_whoever_listens_to_the_engine_sees_every_statement(
    database: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Tracing that hooks into SQLAlchemy misses none, and nor does its log."""
    statement = insert(THINGS)
    async with Store(database, relay=False) as store:
        await prepare(store)
        engine = store._open().database._engine
        assert engine is not None
        heard: list[str] = []

        def listen(*args: Any) -> None:
            heard.append(args[2])

        with sent_directly(monkeypatch) as seen:
            async with store.transaction() as transaction:
                await transaction.execute(statement, {"name": "c"})
                await transaction.execute(statement, {"name": "d"})
            assert len(seen) == 1
            event.listen(engine.sync_engine, "before_cursor_execute", listen)
            async with store.transaction() as transaction:
                await transaction.execute(statement, {"name": "e"})
            event.remove(engine.sync_engine, "before_cursor_execute", listen)
            assert len(seen) == 1
            assert any("INSERT INTO things" in each for each in heard)
            caplog.set_level(logging.INFO, "sqlalchemy.engine.Engine")
            async with store.transaction() as transaction:
                await transaction.execute(statement, {"name": "f"})
            assert len(seen) == 1


async def test_statements_of_two_tasks_run_one_after_the_other(database: str) -> None:
    """As SQLAlchemy's do, whichever way each of them goes."""
    statement = insert(THINGS)
    async with Store(database, relay=False) as store:
        await prepare(store)
        async with store.transaction() as transaction:
            await transaction.execute(statement, {"name": "c"})
            await asyncio.gather(
                *(transaction.execute(statement, {"name": f"n{i}"}) for i in range(20)),
                *(transaction.execute(select(THINGS.c.name)) for _ in range(20)),
            )
            assert len(await rows_of(transaction)) == 23


async def test_statements_that_are_gone_are_forgotten(database: str) -> None:
    """One that is made for each message takes no memory, and is never compiled here."""
    async with Store(database, relay=False) as store:
        await prepare(store)
        known = store._open().database._direct
        assert known is not None
        async with store.transaction() as transaction:
            for number in range(100):
                await transaction.execute(insert(THINGS).values(name=f"n{number}"))
        assert len(known._plans) <= 1
