"""Opens the ledger's SQLite file, and sorts its failures into passing and lasting ones."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import URL, event
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from tenacity import AsyncRetrying, retry_if_exception, stop_after_delay, wait_random

from handlers.accounting.errors import LedgerError, LedgerUnavailableError
from handlers.accounting.schema import metadata

BUSY_TIMEOUT = 10.0
"""Seconds that SQLite waits for another process's write to end."""

WRITING = {"ledger_begin": "IMMEDIATE"}
"""Execution options of a connection that is going to write."""

_LOCKED = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}

_TRANSIENT = _LOCKED | {
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_INTERRUPT,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PROTOCOL,
}
"""Primary result codes that say nothing against the statement (https://sqlite.org/rescode.html)."""


@contextlib.asynccontextmanager
async def open_database(path: Path) -> AsyncIterator[AsyncEngine]:
    """Open that SQLite file, which is made where there is none, with the ledger's tables in it.

    :raises LedgerError: the file cannot be opened, or is something else
    """
    _make_private(path)
    engine = create_async_engine(
        URL.create("sqlite+aiosqlite", database=str(path)),
        # What is posted must not be in a log, whatever its level.
        hide_parameters=True,
        connect_args={"timeout": BUSY_TIMEOUT},
    )
    event.listen(engine.sync_engine, "connect", _set_up)
    event.listen(engine.sync_engine, "begin", _begin)
    try:
        try:
            await _create_tables(engine)
        except SQLAlchemyError as error:
            why = error.orig if isinstance(error, DBAPIError) else error
            raise LedgerError(f"the ledger's database {path} cannot be used: {why}") from error
        yield engine
    finally:
        await engine.dispose()


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Raise `LedgerUnavailableError` in the place of a database's error that may pass."""
    try:
        yield
    except DBAPIError as error:
        if _code(error) in _TRANSIENT:
            raise LedgerUnavailableError(f"the ledger's database: {error.orig}") from error
        raise


def _make_private(path: Path) -> None:
    """Make the file for its owner only; one that is there keeps its rights.

    The libraries that write it log parameters of statements at their lowest level.
    """
    with contextlib.suppress(OSError):  # SQLite says why it cannot be made
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    for name in ("sqlalchemy", "aiosqlite"):
        if logging.getLogger(name).level == logging.NOTSET:
            logging.getLogger(name).setLevel(logging.WARNING)


async def _create_tables(engine: AsyncEngine) -> None:
    # Two processes that make the file at the same time: SQLite answers 'locked' at once, without
    # the busy timeout, to the second that switches to the write-ahead log.
    async for attempt in AsyncRetrying(
        stop=stop_after_delay(BUSY_TIMEOUT),
        wait=wait_random(0.01, 0.1),
        retry=retry_if_exception(_is_locked),
        reraise=True,
    ):
        with attempt:
            async with engine.connect() as connection:
                await connection.execution_options(**WRITING)
                await connection.run_sync(metadata.create_all)
                await connection.commit()


def _set_up(connection: Any, _record: Any) -> None:
    # The driver's own BEGIN comes late and is not immediate; ours is in `_begin`.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    # Without FULL, a commit in WAL mode is lost with the machine's power.
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _begin(connection: Any) -> None:
    # A deferred transaction that comes to write may be refused after it has read; one that is
    # immediate waits its turn first.
    kind = connection.get_execution_options().get("ledger_begin", "DEFERRED")
    connection.exec_driver_sql(f"BEGIN {kind}")


def _code(error: DBAPIError) -> int:
    # The low byte is the primary code of an extended one.
    return getattr(error.orig, "sqlite_errorcode", 0) & 0xFF


def _is_locked(error: BaseException) -> bool:
    return isinstance(error, DBAPIError) and _code(error) in _LOCKED
