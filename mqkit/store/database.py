"""A connection pool with transactions whose failures are told apart: the database's, or a caller's.

SQLite and PostgreSQL differ in how they lock and how they begin; here, in `engine` and in
`flavour`, and nowhere else.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any

from sqlalchemy import URL, Connection, inspect, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from mqkit.errors import ConfigurationError, StoreError, StoreUnavailableError
from mqkit.store.engine import (
    CONNECT_TIMEOUT,
    LOCK_TIMEOUT,
    READING,
    WATCH,
    Watch,
    is_aborted,
    make_engine,
)
from mqkit.store.flavour import Flavour, Postgres, Sqlite
from mqkit.store.schema import metadata

logger = logging.getLogger(__name__)

DEFAULT_POOL = 20
"""Handlers' transactions that one store runs at a time."""

CLOSE_TIMEOUT = 5.0
"""Seconds for the rollback of what is given up; after them its connection is thrown away."""

HOW_TO_WRITE = "write sqlite:///path/to/file, or postgresql://user:password@host/database"


def store_url(text_: str) -> URL:
    """Read a store's URL: `sqlite:///path`, or `postgresql://user:password@host/database`.

    A URL of PostgreSQL may have the parameters that asyncpg takes of libpq's (`sslmode`, ...).

    :raises ConfigurationError: it is malformed, or of another database; it never quotes a password
    """
    try:
        url = make_url(text_)
    except (ArgumentError, ValueError):
        raise ConfigurationError(f"the store's URL is malformed: {HOW_TO_WRITE}") from None
    if url.drivername in ("sqlite", "sqlite+aiosqlite"):
        if url.database in (None, "", ":memory:") or url.query:
            raise ConfigurationError(
                "a store in SQLite is kept in a file, and its URL has no parameters: "
                "write sqlite:///path/to/file"
            )
        return url.set(drivername="sqlite+aiosqlite")
    if url.drivername in ("postgresql", "postgres", "postgresql+asyncpg"):
        if not url.database:
            raise ConfigurationError(f"the store's URL names no database: {HOW_TO_WRITE}")
        return url.set(drivername="postgresql+asyncpg")
    raise ConfigurationError(
        f"a store is kept in SQLite or PostgreSQL, not {url.drivername!r}: {HOW_TO_WRITE}"
    )


class Database:
    """An engine, opened and closed; safe to use from many tasks of one loop."""

    def __init__(self, url: URL, *, pool: int = DEFAULT_POOL) -> None:
        self.url = url
        is_sqlite = url.get_backend_name() == "sqlite"
        self.flavour: Flavour = Sqlite(url.database or "") if is_sqlite else Postgres()
        self._pool = pool
        self._engine: AsyncEngine | None = None
        # SQLite has one writer at a time: in this process they queue up in order, which is
        # fairer than its busy handler, and waits without a thread.
        self._places = asyncio.Semaphore(1 if is_sqlite else pool)
        self._has_room_beside = not is_sqlite

    def __str__(self) -> str:
        return self.url.render_as_string(hide_password=True)

    async def open(self, *, create_tables: bool) -> None:
        """Connect, and make what tables are missing.

        :raises StoreError: it cannot be reached, or refuses, or has no tables; the message says why
        """
        try:
            self._engine = make_engine(self.url, self._pool)
        except (NoSuchModuleError, ModuleNotFoundError) as error:
            raise ConfigurationError(
                f"the driver for {self} is not installed ({error}): pip install 'mqkit[postgres]'"
            ) from error
        try:
            if create_tables:
                async with self.transaction() as connection:
                    await self.flavour.lock_schema(connection)
                    await connection.run_sync(metadata.create_all)
            await self._check_tables()
        except BaseException as error:
            await self.close()
            if isinstance(error, SQLAlchemyError):
                raise StoreError(f"store {self}: {_first_line(error)}") from error
            raise

    async def close(self) -> None:
        """Disconnect."""
        if self._engine is not None:
            engine, self._engine = self._engine, None
            await engine.dispose()

    async def ping(self) -> None:
        """Return if it answers.

        :raises StoreUnavailableError: it does not
        """
        async with self.reading() as connection:
            await connection.execute(text("SELECT 1"))

    @contextlib.asynccontextmanager
    async def transaction(self, *, beside: bool = False) -> AsyncIterator[AsyncConnection]:
        """A transaction that may write: committed at the end of the block, else rolled back.

        What goes on `beside` the handlers does not wait for them.

        :raises StoreUnavailableError: the database failed; where it failed in the commit, nobody
            knows whether the transaction is committed
        :raises StoreError: a statement had failed in it, or somebody ended it by hand
        """
        async with contextlib.AsyncExitStack() as stack:
            if not (beside and self._has_room_beside):
                await stack.enter_async_context(self._place())
            watch = Watch()
            connection = await stack.enter_async_context(self._connection(watch))
            begun = _transaction_of(connection)
            yield connection
            if _transaction_of(connection) is not begun or not begun.is_active:
                raise StoreError("the store's transaction was ended by hand, and is rolled back")
            if watch.error is not None:
                await self.flavour.check_alive(connection)
            watch.may_commit = True
            await connection.commit()
            watch.in_doubt = False

    @contextlib.asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that only reads, and waits for no writer."""
        async with self._connection(Watch(), reading=True) as connection:
            yield connection

    @contextlib.asynccontextmanager
    async def _connection(
        self, watch: Watch, *, reading: bool = False
    ) -> AsyncIterator[AsyncConnection]:
        if self._engine is None:
            raise StoreError(f"store {self} is not open")
        failures: tuple[type[Exception], ...] = (
            SQLAlchemyError,
            OSError,
            *self.flavour.connect_errors(),
        )
        connection = self._engine.connect()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT + LOCK_TIMEOUT):
                await connection.start()
                await connection.execution_options(**{WATCH: watch, READING: reading})
                await connection.begin()
        except failures as error:
            await self._let_go(connection)
            raise self._unavailable(error) from error
        except BaseException:
            await self._let_go(connection)
            raise
        try:
            yield connection
        except (SQLAlchemyError, OSError) as error:
            if watch.blames_database(error):
                raise self._unavailable(error) from error
            if is_aborted(error):
                raise StoreError(
                    "a statement of the store's transaction failed and the handler went on: "
                    "nothing of it is committed; let the error out, or put the statement into "
                    "`async with transaction.connection.begin_nested()`"
                ) from (watch.error or error)
            raise
        finally:
            # What was not committed is rolled back.
            await self._let_go(connection, throw_away=watch.in_doubt)

    @contextlib.asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(LOCK_TIMEOUT):
                await self._places.acquire()
        except TimeoutError as error:
            raise StoreUnavailableError(
                f"store {self}: all of its {self._pool if self._has_room_beside else 1} "
                f"transactions at a time went on for more than {LOCK_TIMEOUT:g} s; SQLite has one "
                "writer, PostgreSQL as many as Store(pool=...) says"
            ) from error
        try:
            yield
        finally:
            self._places.release()

    async def _check_tables(self) -> None:
        if not self.flavour.exists():
            raise StoreError(f"store {self}: there is no such file")
        async with self.reading() as connection:
            missing = await connection.run_sync(_missing)
        if missing:
            raise StoreError(
                f"store {self} has no {' and no '.join(missing)}: migrate it "
                "(mqkit.store.metadata), or, where there are no tables yet, open a "
                "Store(create_tables=True) once"
            )

    async def _let_go(self, connection: AsyncConnection, *, throw_away: bool = False) -> None:
        """Give it back to the pool; one that cannot be rolled back is thrown away."""
        closing = asyncio.ensure_future(self._close(connection, throw_away=throw_away))
        try:
            await asyncio.shield(closing)
        except asyncio.CancelledError:
            await asyncio.wait([closing])
            raise

    async def _close(self, connection: AsyncConnection, *, throw_away: bool) -> None:
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                if throw_away:
                    await self.flavour.throw_away(connection)
                await connection.close()
        except (SQLAlchemyError, OSError) as error:
            logger.debug("a connection was lost before it was given back: %s", _first_line(error))
            with contextlib.suppress(SQLAlchemyError, OSError):
                await connection.invalidate()

    def _unavailable(self, error: BaseException) -> StoreUnavailableError:
        return StoreUnavailableError(f"store {self}: {_first_line(error)}")


def _transaction_of(connection: AsyncConnection) -> Any:
    return connection.sync_connection and connection.sync_connection.get_transaction()


def _first_line(error: BaseException) -> str:
    """What went wrong, without the statement and without its parameters."""
    cause: Any = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    lines = str(cause).splitlines()
    return f"{type(cause).__name__}: {lines[0]}" if lines else type(cause).__name__


def _missing(connection: Connection) -> list[str]:
    """The tables that are not there, and the columns that a table of another version lacks."""
    inspector, missing = inspect(connection), []
    for name, table in sorted(metadata.tables.items()):
        if not inspector.has_table(name):
            missing.append(f"table {name}")
            continue
        there = {column["name"] for column in inspector.get_columns(name)}
        missing += [f"column {name}.{c.name}" for c in table.columns if c.name not in there]
    return missing
