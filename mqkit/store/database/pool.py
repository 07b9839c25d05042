"""Runs transactions on a database, and tells the database's failures from the caller's.

SQLite and PostgreSQL differ in how they lock and how they begin; here, in `engine` and in
`dialect`, and nowhere else.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from typing import Any

from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from mqkit.errors import (
    ConfigurationError,
    StoreError,
    StoreUnavailableError,
)
from mqkit.store.database.added_rows import AddedRows
from mqkit.store.database.dialects import Dialect
from mqkit.store.database.direct import DirectStatements
from mqkit.store.database.engine import (
    CONNECT_TIMEOUT,
    LOCK_TIMEOUT,
    READING,
    make_engine,
)
from mqkit.store.database.failures import Fault, fault_of, is_of_driver
from mqkit.store.database.judging import ErrorTeller, first_line
from mqkit.store.database.postgresql.dialect import Postgres, is_pooled
from mqkit.store.database.row_plans import RowPlans
from mqkit.store.database.slots import Slot, TransactionSlots
from mqkit.store.database.sqlite.dialect import Sqlite
from mqkit.store.database.synchronous.database import SyncDatabase
from mqkit.store.database.url import shown, store_url
from mqkit.store.database.watch import WATCH, Watch, check_going_on
from mqkit.store.migrate import create_or_migrate, missing
from mqkit.system.machine import MACHINE, Machine

__all__ = ["DEFAULT_POOL", "Database", "store_url"]

logger = logging.getLogger(__name__)

DEFAULT_POOL = 20
"""Handlers' transactions that one store runs at a time."""

CLOSE_TIMEOUT = 5.0
"""Seconds for the rollback of what is given up; after them its connection is thrown away."""

PING_TIMEOUT = 2.0
"""Seconds that the database has to answer whether it is well."""


class Database:
    """Runs transactions of a store on one engine; safe to use from many tasks of one loop."""

    def __init__(
        self,
        url: URL,
        *,
        pool: int = DEFAULT_POOL,
        statement_timeout: float | None = None,
        machine: Machine = MACHINE,
    ) -> None:
        self.url = url
        self._machine = machine
        self._is_sqlite = url.get_backend_name() == "sqlite"
        self.dialect: Dialect = (
            Sqlite(url.database or "", machine.file_lock) if self._is_sqlite else Postgres()
        )
        self._pool = pool
        self._statement_timeout = statement_timeout
        self._errors = ErrorTeller(
            url,
            statement_timeout=statement_timeout,
            savepoint="async with transaction.connection.begin_nested()",
        )
        self._in_threads: SyncDatabase | None = None
        self.lacks_of_sagas: Sequence[str] = ()
        """What the database has not of the tables of sagas, once it is open."""
        self._engine: AsyncEngine | None = None
        self._direct: DirectStatements | None = None
        self._plans: RowPlans
        self._failures: tuple[type[Exception], ...] = (SQLAlchemyError, OSError)
        self._judged: tuple[type[Exception], ...] = (*self._failures, ExceptionGroup)
        self._pings: set[asyncio.Task[None]] = set()
        # SQLite has one writer at a time: in this process they queue up in order, which is
        # fairer than its busy handler, and waits without a thread.
        self._slots = TransactionSlots(1 if self._is_sqlite else pool)

    def __str__(self) -> str:
        return shown(self.url)

    async def open(self, *, create_tables: bool, sagas: bool = False) -> None:
        """Connect, and create tables that are missing, or migrate those of an earlier version.

        :param sagas: whether it cannot do without the tables of sagas
        :raises StoreError: it cannot be reached, or refuses, or has no tables; the message says why
        """
        try:
            await self._connect()
            if create_tables:
                self.dialect.make_private()
                async with self.transaction() as connection:
                    await self.dialect.lock_schema(connection)
                    await connection.run_sync(create_or_migrate)
            await self._check_tables(sagas=sagas)
        except BaseException as error:
            await self.close()
            if isinstance(error, SQLAlchemyError):
                raise self._errors.told(StoreError, error) from self._errors.cause(error)
            raise

    async def _connect(self) -> None:
        try:
            if not self._is_sqlite:
                # As behind a pooler first, which works in any case.
                self._engine = self._make_engine(pooled=True)
                async with self.reading() as connection:
                    if await is_pooled(connection):
                        self.dialect = Postgres(pooled=True)
                        return
                await self._engine.dispose()
            self._engine = self._make_engine(pooled=False)
            self._direct = DirectStatements(self._engine)
        except (NoSuchModuleError, ModuleNotFoundError) as error:
            extra = "store" if self._is_sqlite else "postgres"
            raise ConfigurationError(
                f"the driver for {self} is not installed ({error}): pip install 'mqkit[{extra}]'"
            ) from error

    def _make_engine(self, *, pooled: bool) -> AsyncEngine:
        engine = make_engine(
            self.url,
            self._pool,
            pooled=pooled,
            statement_timeout=self._statement_timeout,
            machine=self._machine,
        )
        self._plans = RowPlans(engine.dialect)
        self._failures = (SQLAlchemyError, OSError, *self.dialect.connect_errors())
        self._judged = (*self._failures, ExceptionGroup)
        return engine

    async def close(self) -> None:
        """Disconnect."""
        if self._pings:
            await asyncio.wait(self._pings, timeout=CLOSE_TIMEOUT)
        if self._in_threads is not None:
            in_threads, self._in_threads = self._in_threads, None
            in_threads.close()
        if self._engine is not None:
            engine, self._engine = self._engine, None
            await engine.dispose()

    async def ping(self) -> None:
        """Return if the database answers.

        :raises StoreUnavailableError: it does not
        """
        async with self.reading() as connection:
            await self.dialect.ping(connection)

    async def answers(self) -> bool:
        """Tell whether the database answers within a few seconds."""
        ping = asyncio.create_task(self.ping(), name="mqkit store ping")
        self._pings.add(ping)
        ping.add_done_callback(self._pings.discard)
        try:
            await asyncio.wait([ping], timeout=PING_TIMEOUT)
        finally:
            # Giving back a connection that hangs takes its time, which nobody here waits for.
            ping.cancel()
        return ping.done() and not ping.cancelled() and ping.exception() is None

    @property
    def at_once(self) -> int:
        """Return how many transactions of handlers go on at the same time."""
        return self._slots.count

    async def closes_after(self) -> float | None:
        """Return the seconds after which the server closes a transaction that is slow.

        :raises StoreUnavailableError: it is away
        """
        async with self.reading() as connection:
            return await self.dialect.closes_after(connection)

    def failure(self, result: object) -> StoreUnavailableError | None:
        """Return what an error is that a handler caught, where it blames the database."""
        if not isinstance(result, DBAPIError) and not (
            isinstance(result, Exception) and is_of_driver(result)
        ):
            return None
        if fault_of(result, of_handler=True) is not Fault.DATABASE:
            return None
        return self._errors.unavailable(result)

    @contextlib.asynccontextmanager
    async def transaction(self, *, beside: bool = False) -> AsyncIterator[AsyncConnection]:
        """Run a transaction that may write: committed at the end of the block, else rolled back.

        What goes on `beside` the handlers does not wait for them, or for one of them only.

        :raises StoreUnavailableError: the database failed; where it failed in the commit, nobody
            knows whether the transaction is committed
        :raises StoreError: a statement had failed in it, or somebody ended it by hand
        """
        # One block, and no context managers within it: this is run for each message.
        slot = None if beside and not self._is_sqlite else await self._slot(front=beside)
        try:
            direct = self._direct and self._direct.unless_observed()
            watch = Watch(direct=direct, rows=AddedRows(self._plans))
            connection = await self._begin(watch)
            try:
                await self.dialect.begun(connection, LOCK_TIMEOUT)
                yield connection
                await self._commit(connection, watch)
            except self._judged as raised:
                judged = self.judged(watch, raised)
                if judged is raised:
                    raise
                raise judged from judged.__cause__
            finally:
                await self._give_back(connection, watch)
        finally:
            if slot is not None:
                self._slots.release(slot)

    def in_threads(self) -> SyncDatabase:
        """Return what runs transactions in threads; connections are made when they are needed.

        Each of them is within a `slot`.

        :raises ConfigurationError: the driver for it is not installed
        """
        if self._in_threads is None:
            self._in_threads = SyncDatabase(
                self.url,
                self.dialect,
                pool=self._pool,
                pooled=not self._is_sqlite and not self.dialect.has_listen,
                statement_timeout=self._statement_timeout,
                machine=self._machine,
            )
        return self._in_threads

    @contextlib.asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Hold a place among the transactions that go on at a time."""
        slot = await self._slot(front=False)
        try:
            yield
        finally:
            self._slots.release(slot)

    @contextlib.asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """Run a transaction that only reads, and waits for no writer."""
        watch = Watch()
        connection = await self._begin(watch, reading=True)
        try:
            yield connection
        except self._judged as raised:
            judged = self.judged(watch, raised)
            if judged is raised:
                raise
            raise judged from judged.__cause__
        finally:
            await self._give_back(connection, watch)

    async def _begin(self, watch: Watch, *, reading: bool = False) -> AsyncConnection:
        if self._engine is None:
            raise StoreError(f"store {self} is not open")
        connection = self._engine.connect()

        def begin(sync: Any) -> None:
            sync.execution_options(**{WATCH: watch, READING: reading})
            watch.begun = sync.begin()

        try:
            async with asyncio.timeout(CONNECT_TIMEOUT + LOCK_TIMEOUT):
                await connection.start()
                if self._is_sqlite:
                    await connection.run_sync(begin)
                else:  # sends nothing yet (`Dialect.begun` does), and needs no greenlet to wait in
                    begin(connection.sync_connection)
        except BaseException as error:
            await self._let_go(connection)
            if isinstance(error, self._failures):
                told = self._errors.told(StoreUnavailableError, error)
                raise told from self._errors.cause(error)
            raise
        watch.since = asyncio.get_running_loop().time()
        return connection

    async def _commit(self, connection: AsyncConnection, watch: Watch) -> None:
        watch.of_handler = False
        check_going_on(connection.sync_connection, watch)
        if watch.error is not None:
            await self.dialect.check_alive(connection)
        unpinned = watch.unpinned or watch.driver_is_lent
        await self.dialect.committing(connection, unpinned=unpinned)
        watch.may_commit = True
        await connection.commit()
        watch.in_doubt = False
        watch.is_committed = True

    def judged(self, watch: Watch, raised: Exception) -> Exception:
        """Return what an error in a transaction is: the store's, or as it is the caller's own."""
        if not isinstance(raised, self._judged):
            return raised
        lasted = asyncio.get_running_loop().time() - watch.since
        return self._errors.judged(watch, raised, lasted)

    async def _give_back(self, connection: AsyncConnection, watch: Watch) -> None:
        """Give a connection back to the pool; what was not committed is rolled back."""
        if watch.driver is not None:
            watch.driver.watch = watch.driver.of_store = None
            is_clean = watch.is_committed and not watch.changed_session
            if is_clean and connection.sync_connection is not None:
                # Nothing is left to say to the server, so that nothing here waits.
                connection.sync_connection.close()
                return
        throw_away = watch.in_doubt or watch.lost or watch.changed_session
        await self._let_go(connection, throw_away=throw_away)

    async def _slot(self, *, front: bool) -> Slot:
        try:
            return await self._slots.acquire(front=front, nested_timeout=LOCK_TIMEOUT)
        except TimeoutError as error:
            raise StoreUnavailableError(
                f"store {self}: a transaction within another one waited in vain: all of its "
                f"{self._slots.count} transactions at a time went on for more than "
                f"{LOCK_TIMEOUT:g} s; SQLite has one writer, PostgreSQL as many as "
                "Store(pool=...) says"
            ) from error

    async def _check_tables(self, *, sagas: bool) -> None:
        if not self.dialect.exists():
            raise StoreError(f"store {self}: there is no such file")
        async with self.reading() as connection:
            lacks, self.lacks_of_sagas = await connection.run_sync(missing)
        self._refuse([*lacks, *(self.lacks_of_sagas if sagas else ())])

    def check_sagas(self) -> None:
        """Refuse a database without the tables of sagas.

        :raises StoreError: they are missing
        """
        self._refuse(self.lacks_of_sagas)

    def _refuse(self, lacks: Sequence[str]) -> None:
        if lacks:
            raise StoreError(
                f"store {self} has no {' and no '.join(lacks)}: migrate it "
                "(mqkit.store.metadata; mqkit.store.migrate has the statements), or, where "
                "the store may make and change them, open a Store(create_tables=True) once"
            )

    async def _let_go(self, connection: AsyncConnection, *, throw_away: bool = False) -> None:
        """Give a connection back to the pool; one that cannot be rolled back is closed."""
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
                    await self.dialect.throw_away(connection)
                await connection.close()
        except (SQLAlchemyError, OSError) as error:
            logger.debug("a connection was lost before it was given back: %s", first_line(error))
            with contextlib.suppress(SQLAlchemyError, OSError):
                await connection.invalidate()
