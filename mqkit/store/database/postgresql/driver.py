"""Runs mqkit's own statements on asyncpg's connection, within the transaction of SQLAlchemy's.

SQLAlchemy's layers cost several times what such a statement does. asyncpg prepares each statement
once for a connection and finds it by its text; behind a pooler it keeps none.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy
from sqlalchemy.exc import PendingRollbackError
from sqlalchemy.ext.asyncio import AsyncConnection

from mqkit.errors import StoreError
from mqkit.store.database.watch import check_going_on, watch_of

_ONE_ROW = "INSERT 0 1"


class AsyncpgSender:
    """Sends statements on asyncpg's connection, while no cursor of SQLAlchemy's does."""

    __slots__ = ("_adapted", "_driver")

    def __init__(self, driver: Any, adapted: Any) -> None:
        """Send nothing yet.

        :param adapted: what SQLAlchemy has the driver's connection wrapped in
        """
        self._driver = driver
        self._adapted = adapted

    @property
    def goes_on(self) -> bool:
        """Whether the connection is in a transaction."""
        return bool(self._driver.is_in_transaction())

    @property
    def is_busy(self) -> bool:
        """Whether SQLAlchemy runs a statement on it at the moment."""
        return bool(self._adapted._execute_mutex.locked())  # noqa: SLF001 - there is no public way

    @property
    def is_closed(self) -> bool:
        """Whether the connection is lost."""
        return bool(self._driver.is_closed())

    async def send(self, statement: str, values: list[Any]) -> tuple[int, None]:
        """Run a statement that returns no rows, and return how many it concerned."""
        # It is what SQLAlchemy's cursors hold for as long as one of their statements runs.
        async with self._adapted._execute_mutex:  # noqa: SLF001 - there is no public way
            status: str = await self._driver.execute(statement, *values)
        if status == _ONE_ROW:  # nearly all say so
            return 1, None
        counted = status.rpartition(" ")[2]  # INSERT 0 1, UPDATE 5
        return (int(counted) if counted.isdecimal() else -1), None

    def translated(self, error: Exception) -> Exception:
        """Return what SQLAlchemy's adapter makes of an error of asyncpg's."""
        try:
            self._adapted._handle_exception(error)  # noqa: SLF001 - there is no public way
        except Exception as translated:  # noqa: BLE001 - it raises what it returns
            return translated
        return error


async def begin(connection: AsyncConnection) -> None:
    """Send the BEGIN that SQLAlchemy would send with its first statement.

    This rests on `_start_transaction` of SQLAlchemy's adapter of asyncpg (2.0 and 2.1), which is
    what its cursors call. There is no public way but a statement, a round trip more; and a BEGIN
    beside SQLAlchemy's would make its own a savepoint.
    """
    watch, sync = watch_of(connection), connection.sync_connection
    assert sync is not None
    pooled = sync.connection
    adapted: Any = pooled.dbapi_connection
    driver: Any = pooled.driver_connection
    try:
        await adapted._start_transaction()  # noqa: SLF001 - see above
    except Exception as error:  # noqa: BLE001 - what asyncpg raised, and it can raise anything
        raw = error.__cause__ if isinstance(error.__cause__, Exception) else error
        # No message's fault; and asyncpg takes it for begun, and would send a savepoint next.
        watch.saw(raw, lost=True)
        raise raw from None
    except BaseException:
        watch.in_doubt = True
        raise
    if not driver.is_in_transaction():
        raise StoreError(
            f"SQLAlchemy {sqlalchemy.__version__} begins transactions in a way that this version "
            "of mqkit does not know; install a version that mqkit's requirements name"
        )
    watch.driver, watch.sender = driver, AsyncpgSender(driver, adapted)
    driver.watch, driver.of_store = watch, connection


async def fetch(connection: AsyncConnection, statement: str, *args: Any) -> list[Any]:
    """Run one of mqkit's own statements in the transaction, and return its rows.

    Its errors are asyncpg's, and noted: they are judged where the transaction ends.

    :raises StoreError: somebody had ended the transaction
    """
    watch = watch_of(connection)
    if connection.invalidated:
        raise PendingRollbackError(
            "the connection of the store's transaction was lost in a statement whose error was "
            "swallowed",
            code="8s2b",
        )
    check_going_on(connection.sync_connection, watch)
    rows: list[Any] = await watch.driver.fetch(statement, *args)
    return rows
