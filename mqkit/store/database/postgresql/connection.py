"""asyncpg's connection, noting what happens in a store's transaction; imported where asyncpg is."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection

from mqkit.errors import StoreError
from mqkit.store.database.statements.kinds import is_of_rows
from mqkit.store.database.watch import Watch

_ENDS = frozenset({"COMMIT", "BEGIN", "START TRANSACTION", "PREPARE TRANSACTION"})
"""What PostgreSQL says to statements that end a transaction, or that follow its end."""

_ROLLBACK = "ROLLBACK"
"""What it says to one that does, to going back to a savepoint, and to a failed one's COMMIT."""

_NOTED = (
    "executemany",
    "fetch",
    "fetchrow",
    "fetchval",
    "fetchmany",
    "prepare",
    "copy_from_query",
    "copy_from_table",
    "copy_records_to_table",
    "copy_to_table",
)
"""Methods whose errors are noted, and before which is written what was added.

asyncpg's own prepared statements and cursors do not come by here."""

_WITH_STATEMENT = frozenset({"executemany", "fetch", "fetchrow", "fetchval", "fetchmany"})
"""Those that run a statement, which is their first argument."""

_PREPARE = "prepare"


class StoreConnection(asyncpg.Connection):  # type: ignore[misc]
    """A connection of asyncpg's that notes in a `Watch` what happens in a transaction."""

    watch: Watch | None = None
    of_store: AsyncConnection | None = None
    """SQLAlchemy's connection, in the transaction that is watched."""

    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> str:  # noqa: ASYNC109
        """Run statements: asyncpg's method."""
        if not self._is_ready_for(query):
            await self.write_added(query)
        try:
            status: str = await super().execute(query, *args, timeout=timeout)
        except BaseException as error:
            self.note(error)
            raise
        watch = self.watch
        if watch is not None and (status in _ENDS or status == _ROLLBACK):
            if not watch.may_commit:
                is_savepoint = status == _ROLLBACK and "TO" in query.upper().split()
                watch.ended = watch.ended or not is_savepoint
            elif status == _ROLLBACK and query.startswith("COMMIT"):
                raise StoreError(
                    "PostgreSQL rolled the store's transaction back at its commit: a statement of "
                    "it had failed"
                )
        return status

    def _is_ready_for(self, statement: str) -> bool:
        """Tell whether nothing is to be done before a statement, as with most of them."""
        watch = self.watch
        rows = None if watch is None else watch.rows
        return rows is None or (not rows.waiting and is_of_rows(statement))

    async def write_added(self, statement: str = "") -> None:
        """Write the rows that were added before a statement that is about to be run.

        :raises sqlalchemy.exc.DBAPIError: the database refused it
        """
        watch, connection = self.watch, self.of_store
        if watch is not None and watch.rows is not None and connection is not None:
            if not _is_of_asyncpg(statement):
                watch.about_to_run(statement)
            writes = not watch.sender.is_busy
            await watch.rows.before_on(connection, statement, watch, writes=writes)

    def note(self, error: BaseException) -> None:
        """Note an error of a statement."""
        if self.watch is None:
            return
        if isinstance(error, Exception):
            self.watch.saw(error, lost=self.is_closed())
        else:
            # Cancelled: the server may be in the middle of it.
            self.watch.in_doubt = True


def _is_of_asyncpg(statement: str) -> bool:
    """Tell whether asyncpg's own transaction sends it: its state would be wrong without."""
    if statement.startswith("BEGIN"):
        return statement.find(";") == len(statement) - 1
    return statement == "ROLLBACK;"


def _noting(method: Callable[..., Any]) -> Callable[..., Any]:
    takes_statement = method.__name__ in _WITH_STATEMENT
    prepares = method.__name__ == _PREPARE

    @functools.wraps(method)
    async def noting(self: StoreConnection, *args: Any, **kwargs: Any) -> Any:
        if prepares and args and self.watch is not None:
            self.watch.about_to_run(args[0])
        statement = args[0] if takes_statement and args else ""
        if not self._is_ready_for(statement):
            await self.write_added(statement)
        try:
            return await method(self, *args, **kwargs)
        except BaseException as error:
            self.note(error)
            raise

    return noting


for _name in _NOTED:
    setattr(StoreConnection, _name, _noting(getattr(asyncpg.Connection, _name)))
