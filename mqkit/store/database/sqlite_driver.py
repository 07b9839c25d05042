"""Runs an SQLite connection in a thread of its own, for SQLAlchemy on an event loop.

A statement goes to the thread once and comes back with all that it gave: its rows, the columns'
names, what it changed. What goes to the thread is done there in that order, even where the task
that waits for it is cancelled: a rollback that follows undoes all of it.

`Driver` stands where SQLAlchemy's dialect for aiosqlite has aiosqlite, which goes to its thread and
back four times for one statement.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from queue import SimpleQueue
from typing import Any, TypeVar

from sqlalchemy import AdaptedConnection
from sqlalchemy.exc import MissingGreenlet

T = TypeVar("T")

JOIN_TIMEOUT = 1.0
"""Seconds for a thread to end that has said its last word."""

_CLOSED = "Cannot operate on a closed database."
"""What sqlite3 says itself; SQLAlchemy knows by it that a connection is lost."""


class _Thread(threading.Thread):
    """Does what is put into `jobs`, one after the other, until the last one is done."""

    def __init__(self, connect: Callable[[], sqlite3.Connection]) -> None:
        super().__init__(name="mqkit sqlite", daemon=True)
        self.jobs: SimpleQueue[tuple[Callable[[], Any], asyncio.Future[Any] | None]] = SimpleQueue()
        self.done = 0
        self.database: sqlite3.Connection | None = None
        self._connect = connect
        self._ended = False

    def open(self) -> None:
        """Connect; a job."""
        self.database = self._connect()

    def close(self) -> None:
        """Disconnect; the last job."""
        self._ended = True
        if self.database is not None:
            self.database.close()

    def run(self) -> None:
        while not self._ended:
            # Nothing of a job is kept while the next one is waited for.
            self._do(*self.jobs.get())

    def _do(self, job: Callable[[], Any], future: asyncio.Future[Any] | None) -> None:
        result, error = _outcome(job)
        self.done += 1
        if future is not None:
            with contextlib.suppress(RuntimeError):  # its loop is closed: nobody waits for it
                future.get_loop().call_soon_threadsafe(_settle, future, result, error)


def _outcome(job: Callable[[], T]) -> tuple[T | None, BaseException | None]:
    # Without the future, which the error's traceback would hold, and which holds the error.
    try:
        return job(), None
    except StopIteration as error:  # no future takes it
        return None, RuntimeError(f"a function for SQLite's thread raised {error!r}")
    except BaseException as error:  # noqa: BLE001 - it is raised where the result is waited for
        return None, error


def _settle(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.done():  # cancelled
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)


class SqliteConnection:
    """Is SQLite's connection for code on an event loop: `connection.driver_connection`.

    What is not here is reached by `run`, with the connection of `sqlite3`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Connect to nothing yet: `open` does, with these arguments of `sqlite3.connect`."""
        self._is_open = False
        self._submitted = 0
        # Its thread alone runs statements, and others see whether there is a transaction.
        options = {**kwargs, "check_same_thread": False}
        self._thread = _Thread(partial(sqlite3.connect, *args, **options))

    async def open(self) -> None:
        """Connect.

        :raises sqlite3.Error: SQLite cannot
        """
        self._thread.start()
        self._is_open = True
        try:
            await self._submit(self._thread.open)
        except BaseException as error:
            self.end()
            if not isinstance(error, asyncio.CancelledError):
                self._thread.join(JOIN_TIMEOUT)
            raise

    async def close(self) -> None:
        """Disconnect, after what was submitted before; the thread ends with it."""
        if (ending := self.end()) is not None:
            await ending
            self._thread.join(JOIN_TIMEOUT)

    def end(self) -> asyncio.Future[None] | None:
        """Let the thread disconnect and end, when all that was submitted before is done.

        Returned is what waits for that, where something can.
        """
        if not self._is_open:
            return None
        self._is_open = False
        try:
            return self._submit(self._thread.close)
        except RuntimeError:  # there is no loop: it is collected as garbage
            self._thread.jobs.put((self._thread.close, None))
            return None

    def __del__(self) -> None:
        # Left open, perhaps by a loop that has ended: its thread does not refer to it.
        self.end()

    def submit(self, function: Callable[[sqlite3.Connection], T]) -> asyncio.Future[T]:
        """Have a function called in the thread, with `sqlite3`'s connection.

        It is called even where the future is cancelled.

        :raises sqlite3.ProgrammingError: it is closed
        """
        thread = self._thread
        if not self._is_open or thread.database is None:
            raise sqlite3.ProgrammingError(_CLOSED)
        return self._submit(partial(function, thread.database))

    def _submit(self, job: Callable[[], T]) -> asyncio.Future[T]:
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._submitted += 1
        self._thread.jobs.put((job, future))
        return future

    async def run(self, function: Callable[[sqlite3.Connection], T]) -> T:
        """Run a function in the thread, with `sqlite3`'s connection; return what it returns.

        Many statements in one function cost one way to the thread and back. An iterator that it
        returns is used up elsewhere than in the thread: let it return a list.

        :raises sqlite3.ProgrammingError: it is closed
        """
        return await self.submit(function)

    async def rollback(self) -> None:
        """Roll back all that was submitted; there may be nothing, and then it costs nothing."""
        if self._is_open and (self._submitted != self._thread.done or self.in_transaction):
            await self.submit(sqlite3.Connection.rollback)

    @property
    def in_transaction(self) -> bool:
        """Tell whether there is a transaction, as far as the thread has come.

        :raises sqlite3.ProgrammingError: it is closed
        """
        if not self._is_open or self._thread.database is None:
            raise sqlite3.ProgrammingError(_CLOSED)
        return self._thread.database.in_transaction


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
        self._take(self._connection.run(partial(_execute, statement, parameters)))

    def executemany(self, statement: str, parameters: Sequence[Any]) -> None:
        self._take(self._connection.run(partial(_execute_many, statement, parameters)))

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

        self._open, given = self._connection.run(execute)
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
        return self.run_async(lambda driver: driver.submit(function))

    def cursor(self, server_side: bool = False) -> _Cursor:
        return _StreamingCursor(self) if server_side else _Cursor(self)

    def commit(self) -> None:
        self.run(sqlite3.Connection.commit)

    def rollback(self) -> None:
        self.run_async(SqliteConnection.rollback)

    def close(self) -> None:
        self.run_async(SqliteConnection.close)

    def terminate(self) -> None:
        # Also called where nothing can wait for it: it is closed all the same.
        if (ending := self._connection.end()) is not None:
            with contextlib.suppress(MissingGreenlet):
                self.run_async(lambda _: ending)

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
