"""Gives SQLAlchemy an SQLite connection that runs in a thread of its own.

A statement goes to the thread once, and comes back with all that it gave: its rows, the names of
its columns, what it changed. `Driver` stands where SQLAlchemy's dialect of that name has aiosqlite,
which goes there and back four times.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import AdaptedConnection
from sqlalchemy.exc import MissingGreenlet

from mqkit.store.database.sqlite.thread import SqliteConnection

T = TypeVar("T")


class _Cursor:
    """Has all rows of a statement: a cursor of PEP 249, as SQLAlchemy uses one."""

    __slots__ = ("_connection", "_rows", "arraysize", "description", "lastrowid", "rowcount")

    server_side = False

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection
        self._rows: deque[Any] = deque()
        self.arraysize = 1
        self.description: Any = None
        self.lastrowid: int | None = None
        self.rowcount = -1

    def execute(self, statement: str, parameters: Any = ()) -> None:
        self._take(self._connection.run_short(partial(_execute, statement, parameters)))

    def executemany(self, statement: str, parameters: Sequence[Any]) -> None:
        self._take(self._connection.run_short(partial(_execute_many, statement, parameters)))

    def _take(self, given: tuple[Any, list[Any], int, int | None]) -> None:
        self.description, rows, self.rowcount, self.lastrowid = given
        self._rows = deque(rows)

    def setinputsizes(self, *_: Any) -> None:
        pass

    def fetchone(self) -> Any:
        return self._rows.popleft() if self._rows else None

    def fetchmany(self, size: int | None = None) -> list[Any]:
        count = min(self.arraysize if size is None else size, len(self._rows))
        return [self._rows.popleft() for _ in range(count)]

    def fetchall(self) -> list[Any]:
        rows = list(self._rows)
        self._rows.clear()
        return rows

    def __iter__(self) -> Iterator[Any]:
        while self._rows:
            yield self._rows.popleft()

    def close(self) -> None:
        self._rows.clear()

    async def _async_soft_close(self) -> None:
        """Do nothing: in the thread the cursor is closed already. SQLAlchemy calls it."""


def _execute(statement: str, parameters: Any, database: sqlite3.Connection) -> Any:
    # Closed here, and not where the result is dropped: a connection that is closed keeps its
    # transaction while any of its cursors is there (https://sqlite.org/c3ref/close.html).
    with contextlib.closing(database.execute(statement, parameters)) as cursor:
        rows = cursor.fetchall() if cursor.description else []
        return cursor.description, rows, cursor.rowcount, cursor.lastrowid


def _execute_many(statement: str, parameters: Any, database: sqlite3.Connection) -> Any:
    with contextlib.closing(database.executemany(statement, parameters)) as cursor:
        return cursor.description, [], cursor.rowcount, cursor.lastrowid


class SqliteSender:
    """Sends statements to the thread of a connection; it runs them in their order."""

    __slots__ = ("_driver",)

    def __init__(self, driver: SqliteConnection) -> None:
        self._driver = driver

    @property
    def goes_on(self) -> bool:
        """Whether the connection is in a transaction, as far as its thread has come."""
        return not self.is_closed and self._driver.in_transaction

    @property
    def is_closed(self) -> bool:
        """Whether the connection is closed."""
        return not self._driver.is_open

    async def send(self, statement: str, values: list[Any]) -> tuple[int, int | None]:
        """Run a statement; return how many rows it concerned, and the id of the last one."""
        given = await self._driver.run_short(partial(_execute, statement, values))
        return given[2], given[3]

    async def send_each(
        self, statement: str, rows: Sequence[Sequence[Any]]
    ) -> tuple[int, int | None]:
        """Run a statement for each of these rows, as `send` does for one."""
        given = await self._driver.run_short(partial(_execute_many, statement, rows))
        return given[2], given[3]

    def translated(self, error: Exception) -> Exception:
        """Return the error as it is: SQLAlchemy has those of `sqlite3` itself here."""
        return error


class _StreamingCursor(_Cursor):
    """Reads the rows of a statement as they are asked for."""

    __slots__ = ("_open",)

    server_side = True

    def __init__(self, connection: _Connection) -> None:
        super().__init__(connection)
        self._open: sqlite3.Cursor | None = None

    def execute(self, statement: str, parameters: Any = ()) -> None:
        def execute(database: sqlite3.Connection) -> tuple[sqlite3.Cursor, Any]:
            cursor = database.execute(statement, parameters)
            return cursor, (cursor.description, [], cursor.rowcount, cursor.lastrowid)

        self._open, given = self._connection.run_short(execute)
        self._take(given)

    def fetchone(self) -> Any:
        return self._fetch(sqlite3.Cursor.fetchone)

    def fetchmany(self, size: int | None = None) -> list[Any]:
        count = self.arraysize if size is None else size
        return self._fetch(lambda cursor: cursor.fetchmany(count)) or []

    def fetchall(self) -> list[Any]:
        return self._fetch(sqlite3.Cursor.fetchall) or []

    def __iter__(self) -> Iterator[Any]:
        while (row := self.fetchone()) is not None:
            yield row

    def _fetch(self, fetch: Callable[[sqlite3.Cursor], T]) -> T | None:
        cursor = self._open
        return None if cursor is None else self._connection.run(lambda _: fetch(cursor))

    def close(self) -> None:
        if self._open is not None:
            self._fetch(sqlite3.Cursor.close)
            self._open = None


class _Connection(AdaptedConnection):
    """Is the connection of PEP 249 that SQLAlchemy sees; it waits by switching greenlets."""

    __slots__ = ()

    _connection: Any

    def __init__(self, connect: Callable[[], Awaitable[SqliteConnection]]) -> None:
        self._connection = None
        self._connection = self.run_async(lambda _: connect())

    def run(self, function: Callable[[sqlite3.Connection], T]) -> T:
        result: T = self.run_async(lambda driver: driver.run(function))
        return result

    def run_short(self, function: Callable[[sqlite3.Connection], T]) -> T:
        result: T = self.run_async(lambda driver: driver.run_short(function))
        return result

    def cursor(self, server_side: bool = False) -> _Cursor:
        return _StreamingCursor(self) if server_side else _Cursor(self)

    def commit(self) -> None:
        self.run(sqlite3.Connection.commit)

    def rollback(self) -> None:
        self.run_async(SqliteConnection.rollback)

    def close(self) -> None:
        self.run_async(SqliteConnection.close)

    def terminate(self) -> None:
        # Also called where nothing can wait for it, and without a loop: it is closed then, too.
        if (ending := self._connection.end()) is not None:
            with contextlib.suppress(MissingGreenlet, RuntimeError):
                self.run_async(lambda _: ending.on_loop())

    def create_function(self, name: str, count: int, function: Any, **options: Any) -> None:
        self.run(lambda database: database.create_function(name, count, function, **options))

    @property
    def isolation_level(self) -> str | None:
        return self.run(lambda database: database.isolation_level)

    @isolation_level.setter
    def isolation_level(self, level: str | None) -> None:
        self.run(lambda database: setattr(database, "isolation_level", level))


class Driver:
    """Is the module of PEP 249 that SQLAlchemy's dialect for aiosqlite is given: `sqlite3`'s."""

    has_stop = True
    """Whether a connection can be closed from where nothing can wait: SQLAlchemy asks."""

    def __getattr__(self, name: str) -> Any:
        return getattr(sqlite3, name)

    def connect(
        self,
        *args: Any,
        async_creator_fn: Callable[..., Awaitable[SqliteConnection]],
        **options: Any,
    ) -> _Connection:
        """Connect, from within SQLAlchemy, by this function."""
        return _Connection(lambda: async_creator_fn(*args, **options))
