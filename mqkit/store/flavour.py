"""What SQLite and PostgreSQL do differently: inserting once, and who may do what at a time."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from sqlalchemy import (
    Column,
    ColumnElement,
    Integer,
    Select,
    Table,
    TableValuedAlias,
    any_,
    bindparam,
    func,
    select,
    text,
    true,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from mqkit.errors import StoreError

SCHEMA_LOCK, KEY_LOCK, SHARD_LOCK = 0x6D716B, 0x6D716C, 0x6D716D
"""First halves of the numbers of PostgreSQL's advisory locks: 'mqk' and what follows it."""

NOTIFY_CHANNEL = "mqkit_outbox"


class Flavour(Protocol):
    """A kind of database."""

    shards: int
    """Parts of the outbox, each published by one relay at a time."""
    holds_shards_by_transaction: bool
    """Whether a relay keeps others out by its open transaction, or by a lock beside it."""

    has_notify: bool
    """Whether processes can tell each other of commits."""

    def insert(self, table: Table) -> Any:
        """An INSERT that has `on_conflict_do_nothing` and `on_conflict_do_update`."""
        ...

    async def lock_schema(self, connection: AsyncConnection) -> None:
        """Let one process at a time make the tables."""
        ...

    async def lock_keys(self, connection: AsyncConnection, keys: Iterable[str]) -> None:
        """Let one transaction at a time write messages of a key, until it is committed.

        Numbers given under this lock are in the order of the commits.
        """
        ...

    async def lock_shards(
        self, connection: AsyncConnection, shards: Sequence[int]
    ) -> Sequence[int]:
        """Which of these shards this transaction may publish; nobody else may until it ends."""
        ...

    def filled_shards(self, table: Table) -> Select[Any]:
        """Which shards have rows in this table."""
        ...

    def of_shards(
        self, table: Table, shards: Sequence[int], condition: ColumnElement[bool], limit: int
    ) -> Select[Any]:
        """Up to `limit` rows of these shards that satisfy a condition: the first of each shard."""
        ...

    def is_one_of(self, column: Column[Any], values: Sequence[int]) -> ColumnElement[bool]:
        """Whether the column has one of these values."""
        ...

    async def check_alive(self, connection: AsyncConnection) -> None:
        """See, after a failed statement, that the transaction can still be committed.

        :raises sqlalchemy.exc.DBAPIError: it is aborted
        :raises StoreError: it is gone
        """
        ...

    async def throw_away(self, connection: AsyncConnection) -> None:
        """End a connection that may still be in a transaction, which goes with it."""
        ...

    def exists(self) -> bool:
        """Whether the database may be there; asking must not make it."""
        ...

    def connect_errors(self) -> tuple[type[Exception], ...]:
        """What else than SQLAlchemy's errors its driver raises when it cannot connect."""
        ...

    @contextlib.asynccontextmanager
    def relaying(self) -> AsyncIterator[bool]:
        """Whether this process may relay at all, for as long as the block lasts."""
        ...


def key_hash(key: str) -> int:
    """32 bits of a key, signed, the same in every process."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=4).digest(), signed=True)


async def _driver(connection: AsyncConnection) -> Any:
    return (await connection.get_raw_connection()).driver_connection


def _unnest(shards: Iterable[int]) -> TableValuedAlias:
    values = bindparam(None, list(shards), postgresql.ARRAY(Integer))
    return func.unnest(values).table_valued("shard", name="each").render_derived()


class Postgres:
    """Rows and advisory locks: many writers and many relays at a time."""

    shards = 64
    holds_shards_by_transaction = True
    has_notify = True

    def insert(self, table: Table) -> Any:
        return postgresql.insert(table)

    async def lock_schema(self, connection: AsyncConnection) -> None:
        await connection.execute(
            text("SELECT pg_advisory_xact_lock(:space, 0)"), {"space": SCHEMA_LOCK}
        )

    async def lock_keys(self, connection: AsyncConnection, keys: Iterable[str]) -> None:
        # Sorted: two transactions that take the same locks take them in the same order.
        hashes = sorted({key_hash(key) for key in keys})
        if hashes:
            await connection.execute(
                text(
                    "SELECT pg_advisory_xact_lock(:space, hash) "
                    "FROM unnest(CAST(:hashes AS integer[])) AS hash"
                ),
                {"space": KEY_LOCK, "hashes": hashes},
            )

    async def lock_shards(
        self, connection: AsyncConnection, shards: Sequence[int]
    ) -> Sequence[int]:
        found = await connection.execute(
            text(
                "SELECT shard FROM unnest(CAST(:shards AS integer[])) AS shard "
                "WHERE pg_try_advisory_xact_lock(:space, shard)"
            ),
            {"space": SHARD_LOCK, "shards": list(shards)},
        )
        return list(found.scalars())

    def filled_shards(self, table: Table) -> Select[Any]:
        each = _unnest(range(self.shards))
        # A look into the index for each: where few rows are left among many deleted ones, a scan of
        # the table would read its pages for nothing.
        return select(each.c.shard).where(
            select(table.c.id)
            .where(table.c.shard == each.c.shard)
            .order_by(table.c.id)
            .limit(1)
            .scalar_subquery()
            .is_not(None)
        )

    def of_shards(
        self, table: Table, shards: Sequence[int], condition: ColumnElement[bool], limit: int
    ) -> Select[Any]:
        each = _unnest(shards)
        rows = (
            select(table)
            .where(table.c.shard == each.c.shard, condition)
            .order_by(table.c.id)
            .limit(limit)
            .lateral("of_shard")
        )
        return select(rows).select_from(each.join(rows, true())).limit(limit)

    def is_one_of(self, column: Column[Any], values: Sequence[int]) -> ColumnElement[bool]:
        # One parameter, so one statement however many they are.
        return column == any_(bindparam(None, list(values), postgresql.ARRAY(column.type)))

    async def check_alive(self, connection: AsyncConnection) -> None:
        # The COMMIT of a failed transaction is a rollback there, and called a success. This fails
        # in such a one, and not where a savepoint took the failure back.
        await connection.execute(text("SELECT 1"))

    async def throw_away(self, connection: AsyncConnection) -> None:
        await connection.invalidate()

    def exists(self) -> bool:
        return True

    def connect_errors(self) -> tuple[type[Exception], ...]:
        import asyncpg  # noqa: PLC0415 - an extra, which SQLite does without

        return (asyncpg.PostgresError, asyncpg.InterfaceError)

    @contextlib.asynccontextmanager
    async def relaying(self) -> AsyncIterator[bool]:
        yield True


class Sqlite:
    """One writer at a time, and one relay: it holds a lock on a file beside the database."""

    shards = 1
    holds_shards_by_transaction = False
    has_notify = False

    def __init__(self, path: str) -> None:
        self._path = Path(path)

    def insert(self, table: Table) -> Any:
        return sqlite.insert(table)

    async def lock_schema(self, connection: AsyncConnection) -> None:
        """The transaction holds the write lock already."""

    async def lock_keys(self, connection: AsyncConnection, keys: Iterable[str]) -> None:
        """The transaction holds the write lock already."""

    async def lock_shards(
        self,
        connection: AsyncConnection,  # noqa: ARG002
        shards: Sequence[int],
    ) -> Sequence[int]:
        return shards

    def filled_shards(self, table: Table) -> Select[Any]:
        return select(table.c.shard).limit(1)

    def of_shards(
        self,
        table: Table,
        shards: Sequence[int],  # noqa: ARG002 - it has but one
        condition: ColumnElement[bool],
        limit: int,
    ) -> Select[Any]:
        return select(table).where(condition).order_by(table.c.id).limit(limit)

    def is_one_of(self, column: Column[Any], values: Sequence[int]) -> ColumnElement[bool]:
        return column.in_(values)

    async def check_alive(self, connection: AsyncConnection) -> None:
        # A full disk, say, ends the whole transaction, and the COMMIT after that is a success.
        driver = await _driver(connection)
        if not driver.in_transaction:
            raise StoreError("SQLite rolled the store's transaction back after a failed statement")

    async def throw_away(self, connection: AsyncConnection) -> None:
        # A connection that is closed keeps its transaction while any of its cursors is there.
        await (await _driver(connection)).rollback()
        await connection.invalidate()

    def exists(self) -> bool:
        return self._path.exists()

    def connect_errors(self) -> tuple[type[Exception], ...]:
        return ()

    @contextlib.asynccontextmanager
    async def relaying(self) -> AsyncIterator[bool]:
        # The system lets go of it when the process dies, however it does; a row in the database
        # would need a clock to tell a dead owner from a slow one.
        with self._lock_file() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True

    def _lock_file(self) -> BinaryIO:
        return Path(f"{self._path}-relay").open("ab")
