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
        watch.saw(raw, lost=driver.is_closed())
        raise raw from None
    except BaseException:
        watch.in_doubt = True
        raise
    if not driver.is_in_transaction():
        raise StoreError(
            f"SQLAlchemy {sqlalchemy.__version__} begins transactions in a way that this version "
            "of mqkit does not know; install a version that mqkit's requirements name"
        )
    watch.driver, watch.adapted = driver, adapted
    driver.watch = watch


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
