"""A connection pool with transactions whose failures are told apart: the database's, or a caller's.

SQLite and PostgreSQL differ in how they lock and how they begin; here, and in `flavour`, and
nowhere else.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any

from sqlalchemy import URL, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from mqkit.errors import ConfigurationError, StoreError, StoreUnavailableError
from mqkit.store.failures import is_transient
from mqkit.store.flavour import Flavour, Postgres, Sqlite
from mqkit.store.schema import metadata

logger = logging.getLogger(__name__)

LOCK_TIMEOUT = 30.0
"""Seconds that a statement waits for a lock, before its message is tried again later."""

CONNECT_TIMEOUT = 10.0
"""Seconds."""

DEFAULT_POOL = 20
"""Connections that one store may have open: no more transactions run at a time."""


def store_url(text_: str) -> URL:
    """Read a store's URL: `sqlite:///path`, or `postgresql://user:password@host/database`.

    :raises ConfigurationError: it is malformed, or of another database; it never quotes a password
    """
    try:
        url = make_url(text_)
    except (ArgumentError, ValueError):
        raise ConfigurationError(
            "the store's URL is malformed: write sqlite:///path/to/file, or "
            "postgresql://user:password@host/database"
        ) from None
    backend = url.get_backend_name()
    if backend == "sqlite" and url.drivername in ("sqlite", "sqlite+aiosqlite"):
        return url.set(drivername="sqlite+aiosqlite")
    if backend in ("postgresql", "postgres") and "+" not in url.drivername:
        return url.set(drivername="postgresql+asyncpg")
    if url.drivername == "postgresql+asyncpg":
        return url
    raise ConfigurationError(
        f"a store is kept in SQLite or PostgreSQL, not {url.drivername!r}: write "
        "sqlite:///path/to/file, or postgresql://user:password@host/database"
    )


class Database:
    """An engine, opened and closed; safe to use from many tasks of one loop."""

    def __init__(self, url: URL, *, pool: int = DEFAULT_POOL) -> None:
        self.url = url
        self.flavour: Flavour = Sqlite(url.database) if _is_sqlite(url) else Postgres()
        self._pool = pool
        self._engine: AsyncEngine | None = None
        # SQLite has one writer at a time: in this process they queue up in order, which is
        # fairer than its busy handler, and waits without a thread.
        self._writing = asyncio.Lock() if _is_sqlite(url) else None

    def __str__(self) -> str:
        return self.url.render_as_string(hide_password=True)

    async def open(self, *, create_tables: bool) -> None:
        """Connect, and make what tables are missing.

        :raises StoreError: it cannot be reached, or refuses; the message says why
        """
        try:
            self._engine = _engine(self.url, self._pool)
        except (NoSuchModuleError, ModuleNotFoundError) as error:
            raise ConfigurationError(
                f"the driver for {self} is not installed ({error}): pip install 'mqkit[postgres]'"
            ) from error
        try:
            if create_tables:
                async with self.transaction() as connection:
                    await self.flavour.lock_schema(connection)
                    await connection.run_sync(metadata.create_all)
            else:
                await self.ping()
        except BaseException as error:
            await self.close()
            if isinstance(error, SQLAlchemyError):
                raise StoreError(f"store {self}: {_first_line(error)}") from error
            raise

    async def close(self) -> None:
        """Disconnect."""
        if self._engine is not None:
            await self._engine.dispose()
            self._engine = None

    async def ping(self) -> None:
        """Return if it answers.

        :raises StoreUnavailableError: it does not
        """
        async with self.reading() as connection:
            await connection.execute(text("SELECT 1"))

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that may write: committed at the end of the block, else rolled back.

        :raises StoreUnavailableError: the database failed; where it failed in the commit, nobody
            knows whether the transaction is committed
        """
        async with self._turn(), self._connection() as connection:
            yield connection
            try:
                await connection.commit()
            except OSError as error:
                raise self._unavailable(error) from error

    @contextlib.asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that only reads, and waits for no writer."""
        async with self._connection(reading=True) as connection:
            yield connection

    @contextlib.asynccontextmanager
    async def _connection(self, *, reading: bool = False) -> AsyncIterator[AsyncConnection]:
        if self._engine is None:
            raise StoreError(f"store {self} is not open")
        connection = self._engine.connect()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT + LOCK_TIMEOUT):
                await connection.start()
                if reading:
                    await connection.execution_options(mqkit_reading=True)
                await connection.begin()
        except (SQLAlchemyError, OSError) as error:
            await _let_go(connection)
            raise self._unavailable(error) from error
        except BaseException:
            await _let_go(connection)
            raise
        try:
            yield connection
        except DBAPIError as error:
            if is_transient(error):
                raise self._unavailable(error) from error
            raise
        finally:
            # What was not committed is rolled back.
            await _let_go(connection)

    @contextlib.asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        if self._writing is None:
            yield
            return
        try:
            async with asyncio.timeout(LOCK_TIMEOUT):
                await self._writing.acquire()
        except TimeoutError as error:
            raise StoreUnavailableError(
                f"store {self}: another transaction of this process held its one place for more "
                f"than {LOCK_TIMEOUT:g} s; SQLite writes one at a time, PostgreSQL does not"
            ) from error
        try:
            yield
        finally:
            self._writing.release()

    def _unavailable(self, error: BaseException) -> StoreUnavailableError:
        return StoreUnavailableError(f"store {self}: {_first_line(error)}")


def _is_sqlite(url: URL) -> bool:
    return url.get_backend_name() == "sqlite"


def _engine(url: URL, pool: int) -> AsyncEngine:
    # Parameters may hold what must not be in a log: they are hidden in errors.
    if not _is_sqlite(url):
        return create_async_engine(
            url,
            pool_size=pool,
            max_overflow=0,
            pool_timeout=LOCK_TIMEOUT,
            pool_pre_ping=False,
            hide_parameters=True,
            connect_args={
                "timeout": CONNECT_TIMEOUT,
                "server_settings": {
                    "application_name": "mqkit",
                    "lock_timeout": str(int(LOCK_TIMEOUT * 1000)),
                },
            },
        )
    engine = create_async_engine(
        url, hide_parameters=True, connect_args={"timeout": LOCK_TIMEOUT, "isolation_level": None}
    )

    @event.listens_for(engine.sync_engine, "connect")
    def prepare(connection: Any, _: Any) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode = WAL")
        # With NORMAL, a power cut could undo commits whose messages are acked.
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def begin(connection: Any) -> None:
        # The write lock at once: a transaction that read first could not always get it later.
        reading = connection.get_execution_options().get("mqkit_reading", False)
        connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")

    return engine


async def _let_go(connection: AsyncConnection) -> None:
    """Give it back to the pool; one that cannot be rolled back is thrown away."""
    closing = asyncio.ensure_future(_close(connection))
    try:
        await asyncio.shield(closing)
    except asyncio.CancelledError:
        await asyncio.wait([closing])
        raise


async def _close(connection: AsyncConnection) -> None:
    try:
        await connection.close()
    except (SQLAlchemyError, OSError) as error:
        logger.debug("a connection was lost before it could be given back: %s", _first_line(error))
        with contextlib.suppress(SQLAlchemyError, OSError):
            await connection.invalidate()


def _first_line(error: BaseException) -> str:
    """What went wrong, without the statement and without its parameters."""
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    lines = str(cause).splitlines()
    return f"{type(cause).__name__}: {lines[0]}" if lines else type(cause).__name__
