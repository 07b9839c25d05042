"""The dialect of SQLite: one writer at a time, and one relay."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Executable,
    Select,
    Table,
    bindparam,
    func,
    select,
    text,
    update,
)
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from mqkit.errors import StoreError
from mqkit.store.database.dialects import PRIVATE
from mqkit.store.schema import inbox
from mqkit.system.files import lock

_SERIALIZED = 3
"""PEP 249: threads may share connections and cursors."""


async def _driver(connection: AsyncConnection) -> Any:
    return (await connection.get_raw_connection()).driver_connection


_set_result = update(inbox).where(
    inbox.c.message_id == bindparam("of_id"),
    inbox.c.handler == bindparam("of_handler"),
    inbox.c.queue == bindparam("of_queue"),
)


def _check_alive(driver: Any) -> None:
    # A full disk, say, ends the whole transaction, and the COMMIT after that is a success.
    if not driver.in_transaction:
        raise StoreError("SQLite rolled the store's transaction back after a failed statement")


def _results_of(results: Mapping[str, str], consumer: tuple[str, str]) -> list[dict[str, str]]:
    handler, queue = consumer
    return [
        {"of_id": message_id, "of_handler": handler, "of_queue": queue, "result": result}
        for message_id, result in results.items()
    ]


class Sqlite:
    """Has one writer at a time, and one relay: it holds a lock on a file beside the database."""

    shards = 1
    holds_shards_by_transaction = False
    has_notify = has_listen = False

    def __init__(self, path: str) -> None:
        self._path = Path(path)

    insert = staticmethod(insert)

    async def lock_schema(self, connection: AsyncConnection) -> None:
        """Do nothing: the transaction holds the write lock already."""

    async def insert_locked(
        self,
        connection: AsyncConnection,
        table: Table,
        rows: Sequence[Mapping[str, Any]],
        keys: Collection[str],  # noqa: ARG002 - the transaction has the only write lock already
    ) -> None:
        await connection.execute(table.insert().inline(), rows)

    def sync_insert_locked(
        self,
        connection: Connection,
        table: Table,
        rows: Sequence[Mapping[str, Any]],
        keys: Collection[str],  # noqa: ARG002 - as above
    ) -> None:
        connection.execute(table.insert().inline(), rows)

    def kept(self, table: Table, keep: timedelta, now: datetime) -> Mapping[str, Any]:
        return {"keep_until": now + keep} | ({"handled_at": now} if "handled_at" in table.c else {})

    def kept_columns(self, table: Table) -> Mapping[str, ColumnElement[Any]]:  # noqa: ARG002
        return {}

    def delete_old(self, table: Table, limit: int, now: datetime) -> Executable:
        return text(
            f"DELETE FROM {table.name} WHERE rowid IN ("  # noqa: S608 - a table of ours
            f"SELECT rowid FROM {table.name} WHERE keep_until < :now "
            f"ORDER BY keep_until LIMIT {limit})"
        ).bindparams(bindparam("now", now, type_=table.c.keep_until.type))

    def of_inbox(self, message_id: str, consumer: tuple[str, str] | None) -> ColumnElement[bool]:
        mine = inbox.c.message_id == message_id
        if consumer is None:
            return mine
        handler, queue = consumer
        return mine & (inbox.c.handler == handler) & (inbox.c.queue == queue)

    def many_of_inbox(
        self, message_ids: Sequence[str], consumer: tuple[str, str]
    ) -> ColumnElement[bool]:
        handler, queue = consumer
        # One parameter, so one statement however many they are, and none too many.
        each = func.json_each(bindparam(None, json.dumps(message_ids))).table_valued("value")
        mine = inbox.c.message_id.in_(select(each.c.value))
        return mine & (inbox.c.handler == handler) & (inbox.c.queue == queue)

    async def insert_inbox(
        self, connection: AsyncConnection, rows: Sequence[Mapping[str, Any]]
    ) -> set[str]:
        # Nobody else writes: what is not there now is not there when it is inserted.
        ids = [row["message_id"] for row in rows]
        mine = self.many_of_inbox(ids, (rows[0]["handler"], rows[0]["queue"]))
        there = set((await connection.execute(select(inbox.c.message_id).where(mine))).scalars())
        new = [row for row in rows if row["message_id"] not in there]
        if new:
            await connection.execute(inbox.insert().inline(), new)
        return {row["message_id"] for row in new}

    def sync_insert_inbox(
        self, connection: Connection, rows: Sequence[Mapping[str, Any]]
    ) -> set[str]:
        ids = [row["message_id"] for row in rows]
        mine = self.many_of_inbox(ids, (rows[0]["handler"], rows[0]["queue"]))
        there = set(connection.execute(select(inbox.c.message_id).where(mine)).scalars())
        new = [row for row in rows if row["message_id"] not in there]
        if new:
            connection.execute(inbox.insert().inline(), new)
        return {row["message_id"] for row in new}

    async def set_results(
        self, connection: AsyncConnection, results: Mapping[str, str], consumer: tuple[str, str]
    ) -> None:
        await connection.execute(_set_result, _results_of(results, consumer))

    def sync_set_results(
        self, connection: Connection, results: Mapping[str, str], consumer: tuple[str, str]
    ) -> None:
        connection.execute(_set_result, _results_of(results, consumer))

    async def begun(self, connection: AsyncConnection, lock_timeout: float) -> None:
        """Do nothing: all of it is set up with the connection."""

    async def committing(self, connection: AsyncConnection, *, unpinned: bool) -> None:
        """Do nothing: within a transaction SQLite refuses to change how it gets to the disk."""

    def sync_begun(self, connection: Connection, lock_timeout: float) -> None:
        """Do nothing: as `begun`."""

    def sync_committing(self, connection: Connection, *, unpinned: bool) -> None:
        """Do nothing: as `committing`."""

    async def ping(self, connection: AsyncConnection) -> None:
        await connection.execute(text("SELECT 1"))

    async def closes_after(self, connection: AsyncConnection) -> float | None:  # noqa: ARG002
        return None

    def make_private(self) -> None:
        # What SQLite makes beside it gets the same rights. One that is there keeps its own. Where
        # it cannot be made, SQLite says so.
        with contextlib.suppress(OSError):
            os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, PRIVATE))

    async def lock_shards(
        self,
        connection: AsyncConnection,  # noqa: ARG002
        shards: Sequence[int],
    ) -> Sequence[int]:
        return shards

    def filled_shards(self, table: Table) -> Select[Any]:
        return select(table.c.shard).where(table.c.shard >= 0).limit(1)

    def of_shards(
        self,
        table: Table,
        shards: Sequence[int],  # noqa: ARG002 - it has but one
        condition: ColumnElement[bool],
        limit: int,
    ) -> Select[Any]:
        mine = select(table).where(table.c.shard >= 0, condition)
        return mine.order_by(table.c.id).limit(limit)

    def is_one_of(self, column: Column[Any], values: Sequence[int]) -> ColumnElement[bool]:
        return column.in_(values)

    async def check_alive(self, connection: AsyncConnection) -> None:
        _check_alive(await _driver(connection))

    def sync_check_alive(self, connection: Connection) -> None:
        _check_alive(connection.connection.driver_connection)

    async def throw_away(self, connection: AsyncConnection) -> None:
        # A connection that is closed keeps its transaction while any of its cursors is there.
        await (await _driver(connection)).rollback()
        await connection.invalidate()

    def sync_throw_away(self, connection: Connection) -> None:
        connection.connection.rollback()
        connection.invalidate()

    def sync_abort(self, driver: Any) -> bool:
        # SQLite lets threads share a connection if it was built so. One statement runs at a time:
        # after the first of these none writes any more, not even one that was about to begin.
        if sqlite3.threadsafety != _SERIALIZED:
            return False
        try:
            driver.execute("PRAGMA query_only = ON")
            driver.rollback()
        except sqlite3.Error:
            return False
        return not driver.in_transaction

    def exists(self) -> bool:
        return self._path.exists()

    def connect_errors(self) -> tuple[type[Exception], ...]:
        return ()

    @contextlib.asynccontextmanager
    async def relaying(self) -> AsyncIterator[bool]:
        # The system lets go of it when the process dies, however it does; a row in the database
        # would need a clock to tell a dead owner from a slow one.
        with self._lock_file() as file:
            yield lock(file.fileno())

    def _lock_file(self) -> BinaryIO:
        def private(path: str, flags: int) -> int:
            return os.open(path, flags, PRIVATE)

        return open(f"{self._path}-relay", "ab", opener=private)
