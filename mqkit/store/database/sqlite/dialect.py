"""The dialect of SQLite: one writer at a time, and one relay."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Executable,
    Integer,
    Select,
    Table,
    and_,
    bindparam,
    delete,
    func,
    select,
    text,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from mqkit.errors import StoreError
from mqkit.store.database.dialects import PRIVATE
from mqkit.store.database.sqlite.driver import SqliteSender
from mqkit.store.database.sqlite.thread import SqliteConnection
from mqkit.store.database.statements.sagas import SagaStatements, SqliteSagas
from mqkit.store.database.watch import watch_of
from mqkit.store.schema import inbox, outbox, states
from mqkit.system.machine import FileLock, file_lock

T = TypeVar("T")

_DIALECT = sqlite.dialect()


_MINE = "handler = ? AND queue = ?"

# One parameter, so one statement however many ids they are, and none too many.
_FIND = (
    f"SELECT message_id FROM {inbox.name} "  # noqa: S608 - a table of ours
    f"WHERE message_id IN (SELECT value FROM json_each(?)) AND {_MINE}"
)

_SET_RESULT = f"UPDATE {inbox.name} SET result = ? WHERE message_id = ? AND {_MINE}"  # noqa: S608

_SERIALIZED = 3
"""PEP 249: threads may share connections and cursors."""

_ROWS = (64, 8, 1)
"""Rows of one INSERT: as many statements as have to be prepared, and parameters below 999."""


async def _driver(connection: AsyncConnection) -> SqliteConnection:
    driver: Any = (await connection.get_raw_connection()).driver_connection
    assert isinstance(driver, SqliteConnection)
    return driver


async def _in_thread(
    connection: AsyncConnection, statement: str, run: Callable[[sqlite3.Connection], T]
) -> T:
    """Run statements of ours in SQLite's thread, in one go, with the errors that SQLAlchemy gives.

    :param statement: what the error says that was run
    """
    try:
        return await (await _driver(connection)).run(run)
    except sqlite3.Error as error:
        told = DBAPIError.instance(statement, None, error, sqlite3.Error, hide_parameters=True)
        watch_of(connection).saw(told)
        raise told from error


async def _run(connection: AsyncConnection, statement: str) -> None:
    """Run a statement of ours that takes microseconds."""
    await (await _driver(connection)).run_short(lambda it: it.execute(statement).close())


def _values(
    table: Table, rows: Sequence[Mapping[str, Any]]
) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    """Return the names of the columns that rows have, and the rows as SQLite takes them."""
    names = tuple(column.name for column in table.c if column.name in rows[0])
    columns = [_converted([row[name] for row in rows], _converter(table.c[name])) for name in names]
    return names, list(zip(*columns, strict=True))


@functools.cache
def _converter(column: Column[Any]) -> Callable[[Any], Any] | None:
    return column.type.dialect_impl(_DIALECT).bind_processor(_DIALECT)


def _converted(values: list[Any], convert: Callable[[Any], Any] | None) -> list[Any]:
    if convert is None:
        return values
    # What is one for all rows, as the time is, is converted once.
    done: dict[int, Any] = {}
    for value in values:
        if id(value) not in done:
            done[id(value)] = convert(value)
    return [done[id(value)] for value in values]


def _inserts(
    table: Table, names: tuple[str, ...], rows: list[tuple[Any, ...]]
) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Return the statements that insert rows, with their parameters."""
    # Many rows to a statement: for each one the thread lets go of Python's lock, and where the
    # event loop is busy it waits for it anew.
    at = 0
    for count in _ROWS:
        while len(rows) - at >= count:
            values = itertools.chain.from_iterable(rows[at : at + count])
            yield _insert_statement(table, names, count), tuple(values)
            at += count


@functools.cache
def _insert_statement(table: Table, names: tuple[str, ...], count: int) -> str:
    row = f"({', '.join('?' * len(names))})"
    columns, rows = ", ".join(names), ", ".join([row] * count)
    return f"INSERT INTO {table.name} ({columns}) VALUES {rows}"  # noqa: S608 - a table of ours


def _new(
    rows: Sequence[Mapping[str, Any]], values: list[tuple[Any, ...]], there: Collection[str]
) -> list[tuple[Any, ...]]:
    """Return the values of rows whose messages are not there yet."""
    if not there:
        return values
    pairs = zip(rows, values, strict=True)
    return [value for row, value in pairs if row["message_id"] not in there]


def _result_rows(results: Mapping[str, str], consumer: tuple[str, str]) -> list[tuple[str, ...]]:
    """Return the parameters of `_SET_RESULT`."""
    return [(result, message_id, *consumer) for message_id, result in results.items()]


def _check_alive(driver: Any) -> None:
    # A full disk, say, ends the whole transaction, and the COMMIT after that is a success.
    if not driver.in_transaction:
        raise StoreError("SQLite rolled the store's transaction back after a failed statement")


class Sqlite:
    """Has one writer at a time, and one relay: it holds a lock on a file beside the database."""

    shards = 1
    holds_shards_by_transaction = False
    has_notify = has_listen = False
    # It has the only write lock, and with random ids writes a page of the key's index for each row.
    purge_batch = 500

    def __init__(self, path: str, hold: Callable[[str], FileLock] = file_lock) -> None:
        self._path = Path(path)
        self._hold = hold

    insert = staticmethod(sqlite.insert)
    sagas: SagaStatements = SqliteSagas()

    async def lock_schema(self, connection: AsyncConnection) -> None:
        """Do nothing: the transaction holds the write lock already."""

    async def insert_locked(
        self,
        connection: AsyncConnection,
        table: Table,
        rows: Sequence[Mapping[str, Any]],
        keys: Collection[str],  # noqa: ARG002 - the transaction has the only write lock already
    ) -> None:
        names, values = _values(table, rows)

        def insert(database: sqlite3.Connection) -> None:
            for statement, parameters in _inserts(table, names, values):
                database.execute(statement, parameters)

        await _in_thread(connection, f"INSERT INTO {table.name}", insert)

    def sync_insert_locked(
        self,
        connection: Connection,
        table: Table,
        rows: Sequence[Mapping[str, Any]],
        keys: Collection[str],  # noqa: ARG002 - as above
    ) -> None:
        for statement, parameters in _inserts(table, *_values(table, rows)):
            connection.exec_driver_sql(statement, parameters)

    def kept(self, table: Table, keep: timedelta, now: datetime) -> Mapping[str, Any]:
        return {"keep_until": now + keep} | ({"handled_at": now} if "handled_at" in table.c else {})

    def kept_columns(self, table: Table) -> Mapping[str, ColumnElement[Any]]:  # noqa: ARG002
        return {}

    def delete_old(self, table: Table, now: datetime) -> Executable:
        return text(
            f"DELETE FROM {table.name} WHERE rowid IN ("  # noqa: S608 - a table of ours
            f"SELECT rowid FROM {table.name} WHERE keep_until < :now "
            f"ORDER BY keep_until LIMIT {self.purge_batch})"
        ).bindparams(bindparam("now", now, type_=table.c.keep_until.type))

    def of_inbox(self, message_id: str, consumer: tuple[str, str] | None) -> ColumnElement[bool]:
        mine = inbox.c.message_id == message_id
        if consumer is None:
            return mine
        handler, queue = consumer
        return mine & (inbox.c.handler == handler) & (inbox.c.queue == queue)

    def of_states(self) -> ColumnElement[bool]:
        names = ("message_id", "handler", "queue")
        return and_(*(inbox.c[name] == states.c[name] for name in names))

    def many_of_inbox(
        self, message_ids: Sequence[str], consumer: tuple[str, str]
    ) -> ColumnElement[bool]:
        handler, queue = consumer
        # One parameter, so one statement however many they are, and none too many.
        each = func.json_each(bindparam(None, json.dumps(message_ids))).table_valued("value")
        mine = inbox.c.message_id.in_(select(each.c.value))
        return mine & (inbox.c.handler == handler) & (inbox.c.queue == queue)

    async def find_inbox(
        self, connection: AsyncConnection, message_ids: Sequence[str], consumer: tuple[str, str]
    ) -> Sequence[tuple[str, str | None, int | None]]:
        found = await connection.execute(self._select_inbox(message_ids, consumer))
        return [tuple(row) for row in found]

    def sync_find_inbox(
        self, connection: Connection, message_ids: Sequence[str], consumer: tuple[str, str]
    ) -> Sequence[tuple[str, str | None, int | None]]:
        found = connection.execute(self._select_inbox(message_ids, consumer))
        return [tuple(row) for row in found]

    def _select_inbox(self, message_ids: Sequence[str], consumer: tuple[str, str]) -> Select[Any]:
        columns = (inbox.c.message_id, inbox.c.result, inbox.c.body_hash)
        return select(*columns).where(self.many_of_inbox(message_ids, consumer))

    async def delete_inbox(
        self, connection: AsyncConnection, message_ids: Sequence[str], consumer: tuple[str, str]
    ) -> None:
        await connection.execute(delete(inbox).where(self.many_of_inbox(message_ids, consumer)))

    def sync_delete_inbox(
        self, connection: Connection, message_ids: Sequence[str], consumer: tuple[str, str]
    ) -> None:
        connection.execute(delete(inbox).where(self.many_of_inbox(message_ids, consumer)))

    async def insert_inbox(
        self, connection: AsyncConnection, rows: Sequence[Mapping[str, Any]]
    ) -> set[str]:
        # Nobody else writes: what is not there now is not there when it is inserted.
        ids = [row["message_id"] for row in rows]
        consumer = (rows[0]["handler"], rows[0]["queue"])
        names, values = _values(inbox, rows)

        def insert(database: sqlite3.Connection) -> set[str]:
            found = database.execute(_FIND, (json.dumps(ids), *consumer))
            there = {message_id for (message_id,) in found}
            for statement, parameters in _inserts(inbox, names, _new(rows, values, there)):
                database.execute(statement, parameters)
            return set(ids) - there

        return await _in_thread(connection, f"INSERT INTO {inbox.name}", insert)

    def sync_insert_inbox(
        self, connection: Connection, rows: Sequence[Mapping[str, Any]]
    ) -> set[str]:
        ids = [row["message_id"] for row in rows]
        consumer = (rows[0]["handler"], rows[0]["queue"])
        names, values = _values(inbox, rows)
        found = connection.exec_driver_sql(_FIND, (json.dumps(ids), *consumer))
        there = set(found.scalars())
        for statement, parameters in _inserts(inbox, names, _new(rows, values, there)):
            connection.exec_driver_sql(statement, parameters)
        return set(ids) - there

    async def set_results(
        self, connection: AsyncConnection, results: Mapping[str, str], consumer: tuple[str, str]
    ) -> None:
        rows = _result_rows(results, consumer)

        def update(database: sqlite3.Connection) -> None:
            database.executemany(_SET_RESULT, rows)

        await _in_thread(connection, _SET_RESULT, update)

    def sync_set_results(
        self, connection: Connection, results: Mapping[str, str], consumer: tuple[str, str]
    ) -> None:
        connection.exec_driver_sql(_SET_RESULT, _result_rows(results, consumer))

    async def begun(self, connection: AsyncConnection, lock_timeout: float) -> None:  # noqa: ARG002
        sync: Any = connection.sync_connection
        watch_of(connection).sender = SqliteSender(sync.connection.driver_connection)

    async def restore(self, connection: AsyncConnection) -> None:
        """Do nothing: no setting of a session hides a table."""

    async def committing(self, connection: AsyncConnection, *, unpinned: bool) -> None:
        """Do nothing: within a transaction SQLite refuses to change how it gets to the disk."""

    def sync_begun(self, connection: Connection, lock_timeout: float) -> None:
        """Do nothing: as `begun`."""

    def sync_restore(self, connection: Connection) -> None:
        """Do nothing: as `restore`."""

    def sync_committing(self, connection: Connection, *, unpinned: bool) -> None:
        """Do nothing: as `committing`."""

    async def ping(self, connection: AsyncConnection) -> None:
        await connection.execute(text("SELECT 1"))

    async def closes_after(self, connection: AsyncConnection) -> float | None:  # noqa: ARG002
        return None

    def make_private(self) -> None:
        # What SQLite makes beside it gets the same rights. One that is there keeps its own. Where
        # it cannot be made, SQLite says so.
        with contextlib.suppress(OSError):
            os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, PRIVATE))

    async def lock_shards(
        self,
        connection: AsyncConnection,  # noqa: ARG002
        shards: Sequence[int],
    ) -> Sequence[int]:
        return shards

    def filled_shards(self, table: Table) -> Select[Any]:
        return select(table.c.shard).where(table.c.shard >= 0).limit(1)

    def of_shards(self, table: Table, condition: ColumnElement[bool]) -> Select[Any]:
        mine = select(table).where(table.c.shard >= 0, condition)  # it has but one
        return mine.order_by(table.c.id).limit(bindparam("limit", type_=Integer))

    async def take_out(self, connection: AsyncConnection, ids: Sequence[int]) -> None:
        await connection.execute(delete(outbox).where(outbox.c.id.in_(ids)))

    async def set_savepoint(self, connection: AsyncConnection) -> None:
        await _run(connection, "SAVEPOINT mqkit_message")

    async def roll_back(self, connection: AsyncConnection) -> None:
        await _run(connection, "ROLLBACK TO SAVEPOINT mqkit_message")

    async def check_alive(self, connection: AsyncConnection) -> None:
        _check_alive(await _driver(connection))

    def sync_check_alive(self, connection: Connection) -> None:
        _check_alive(connection.connection.driver_connection)

    async def throw_away(self, connection: AsyncConnection) -> None:
        # A connection that is closed keeps its transaction while any of its cursors is there.
        await (await _driver(connection)).rollback()
        await connection.invalidate()

    def sync_throw_away(self, connection: Connection) -> None:
        connection.connection.rollback()
        connection.invalidate()

    def sync_abort(self, driver: Any) -> bool:
        # SQLite lets threads share a connection if it was built so. One statement runs at a time:
        # after the first of these none writes any more, not even one that was about to begin.
        if sqlite3.threadsafety != _SERIALIZED:
            return False
        try:
            driver.execute("PRAGMA query_only = ON")
            driver.rollback()
        except sqlite3.Error:
            return False
        return not driver.in_transaction

    def exists(self) -> bool:
        return self._path.exists()

    def connect_errors(self) -> tuple[type[Exception], ...]:
        return ()

    @contextlib.asynccontextmanager
    async def relaying(self) -> AsyncIterator[bool]:
        # The system lets go of it when the process dies, however it does; a row in the database
        # would need a clock to tell a dead owner from a slow one.
        with self._hold(f"{self._path}-relay") as mine:
            yield mine
