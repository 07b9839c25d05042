"""Opens the ledger's database for those who read it: an SQLite file, or one on PostgreSQL."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import AsyncIterator, Iterator
from typing import Any

from sqlalchemy import URL, event, make_url
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from handlers.accounting.errors import LedgerError
from handlers.accounting.schema import create_tables

BUSY_TIMEOUT = 10.0
"""Seconds that SQLite waits for another process's write to end."""

CONNECT_TIMEOUT = 10.0
"""Seconds that PostgreSQL has to answer."""

WRITING = {"ledger_begin": "IMMEDIATE"}
"""Execution options of a connection that is going to write."""


def database_url(text: str) -> str:
    """Return the URL of a database: of an SQLite file where the text is a path, else as it is."""
    return text if "://" in text else URL.create("sqlite", database=text).render_as_string()


def shown(url: str) -> str:
    """Name a database to a person: an SQLite file by its path, another without its password."""
    found = make_url(url)
    if found.get_backend_name() == "sqlite":
        return found.database or ""
    # Parameters may hold a password, too.
    return found.set(query={}).render_as_string(hide_password=True)


@contextlib.asynccontextmanager
async def open_database(url: str) -> AsyncIterator[AsyncEngine]:
    """Open the database, which is made where it is a file that is not there, with its tables.

    :raises LedgerError: it cannot be opened, or is something else
    """
    engine = _sqlite(url) if make_url(url).get_backend_name() == "sqlite" else _postgres(url)
    try:
        with translated(url):
            async with engine.connect() as connection:
                await connection.execution_options(**WRITING)
                await create_tables(connection)
                await connection.commit()
        yield engine
    finally:
        await engine.dispose()


@contextlib.contextmanager
def translated(url: str) -> Iterator[None]:
    """Raise `LedgerError` in the place of a database's error.

    It is not raised from that one, which may quote the password.
    """
    try:
        yield
    except Exception as error:
        if not isinstance(error, (SQLAlchemyError, OSError, *_driver_errors(url))):
            raise
        why = str(error.orig if isinstance(error, DBAPIError) else error) or type(error).__name__
        if password := make_url(url).password:
            why = why.replace(password, "***")
        raise LedgerError(f"the ledger's database {shown(url)} cannot be used: {why}") from None


def _driver_errors(url: str) -> tuple[type[Exception], ...]:
    if make_url(url).get_backend_name() == "sqlite":
        return ()
    import asyncpg  # noqa: PLC0415 - an extra, which SQLite does without

    # What it raises before there is a connection, SQLAlchemy passes on as it is.
    return (asyncpg.PostgresError, asyncpg.InterfaceError)


def _postgres(url: str) -> AsyncEngine:
    import asyncpg  # noqa: PLC0415 - an extra, which SQLite does without

    # The URL's parameters are libpq's (sslmode, ...), which asyncpg knows in a DSN only.
    dsn = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)

    async def connect(*_: Any) -> Any:
        return await asyncpg.connect(dsn, timeout=CONNECT_TIMEOUT)

    _quiet_logs("asyncpg")
    return create_async_engine(
        "postgresql+asyncpg://", async_creator=connect, hide_parameters=True, pool_pre_ping=True
    )


def _sqlite(url: str) -> AsyncEngine:
    path = make_url(url).database or ""
    with contextlib.suppress(OSError):  # SQLite says why it cannot be made
        # For its owner only; one that is there keeps its rights.
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    _quiet_logs("aiosqlite")
    engine = create_async_engine(
        URL.create("sqlite+aiosqlite", database=path),
        # What is posted must not be in a log, whatever its level.
        hide_parameters=True,
        connect_args={"timeout": BUSY_TIMEOUT},
    )
    event.listen(engine.sync_engine, "connect", _set_up)
    event.listen(engine.sync_engine, "begin", _begin)
    return engine


def _quiet_logs(driver: str) -> None:
    """Keep the libraries from logging parameters of statements at their lowest level."""
    for name in ("sqlalchemy", driver):
        if logging.getLogger(name).level == logging.NOTSET:
            logging.getLogger(name).setLevel(logging.WARNING)


def _set_up(connection: Any, _record: Any) -> None:
    # The driver's own BEGIN comes late and is not immediate; ours is in `_begin`.
    connection.isolation_level = None
    cursor = connection.cursor()
    # The journal's mode is the business of the store, which writes to the same file: SQLite refuses
    # at once to change it where another process writes. In WAL mode a commit without FULL is lost
    # with the machine's power.
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _begin(connection: Any) -> None:
    # A deferred transaction that comes to write may be refused after it has read; one that is
    # immediate waits its turn first.
    kind = connection.get_execution_options().get("ledger_begin", "DEFERRED")
    connection.exec_driver_sql(f"BEGIN {kind}")
