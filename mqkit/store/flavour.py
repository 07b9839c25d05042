"""What SQLite and PostgreSQL do differently: inserting once, and who may do what at a time."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Executable,
    Insert,
    Integer,
    Select,
    Table,
    TableValuedAlias,
    any_,
    bindparam,
    func,
    literal,
    select,
    text,
    true,
    tuple_,
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

    @property
    def insert(self) -> Callable[[Table], Any]:
        """Makes an INSERT that has `on_conflict_do_nothing` and `on_conflict_do_update`."""
        ...

    async def lock_schema(self, connection: AsyncConnection) -> None:
        """Let one process at a time make the tables."""
        ...

    async def insert_locked(
        self,
        connection: AsyncConnection,
        table: Table,
        rows: Sequence[Mapping[str, Any]],
        keys: Collection[str],
    ) -> None:
        """Insert rows in their order, while no other transaction may insert any of these keys.

        It lasts until the commit: numbers given under this lock are in the order of the commits.
        """
        ...

    def delete_old(self, table: Table, limit: int) -> Executable:
        """Delete up to `limit` rows that are kept until before the parameter `now`."""
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


def _of_shard(statement: Select[Any], table: Table, each: TableValuedAlias) -> Select[Any]:
    """Rows of a shard, in order.

    Pairs are compared so that only the index of both columns will do: for `shard = x ORDER BY id`
    the planner likes that of the ids, and reads all of it for a shard that has no row.
    """
    pair = tuple_(table.c.shard, table.c.id)
    return statement.where(
        pair >= tuple_(each.c.shard, literal(0, BigInteger)),
        pair < tuple_(each.c.shard + 1, literal(0, BigInteger)),
    ).order_by(table.c.shard, table.c.id)


@functools.cache
def _locked_insert(table: Table, columns: tuple[str, ...]) -> Insert:
    """An INSERT that first waits for the lock of `hash`: a row is numbered after its WHERE."""
    values = select(*(bindparam(f"new_{name}", type_=table.c[name].type) for name in columns))
    lock = func.pg_advisory_xact_lock(KEY_LOCK, bindparam("hash", type_=Integer))
    return table.insert().from_select(
        columns, values.where(lock.is_not(None)), include_defaults=False
    )


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

    insert = staticmethod(postgresql.insert)

    async def lock_schema(self, connection: AsyncConnection) -> None:
        await connection.execute(
            text("SELECT pg_advisory_xact_lock(:space, 0)"), {"space": SCHEMA_LOCK}
        )

    async def insert_locked(
        self,
        connection: AsyncConnection,
        table: Table,
        rows: Sequence[Mapping[str, Any]],
        keys: Collection[str],
    ) -> None:
        # Sorted: two transactions that take the same locks take them in the same order.
        hashes = sorted({key_hash(key) for key in keys})
        if len(hashes) == 1:
            # Most transactions have one key: the lock comes along with the rows.
            locked = [{f"new_{k}": v for k, v in row.items()} | {"hash": hashes[0]} for row in rows]
            await connection.execute(_locked_insert(table, tuple(rows[0])), locked)
            return
        if hashes:
            await connection.execute(
                text(
                    "SELECT pg_advisory_xact_lock(:space, hash) "
                    "FROM unnest(CAST(:hashes AS integer[])) AS hash"
                ),
                {"space": KEY_LOCK, "hashes": hashes},
            )
        await connection.execute(table.insert().inline(), rows)

    def delete_old(self, table: Table, limit: int) -> Executable:
        # By the rows' places: the planner would compare keys with those of the whole table.
        return text(
            f"DELETE FROM {table.name} WHERE ctid = ANY(ARRAY("  # noqa: S608 - a table of ours
            f"SELECT ctid FROM {table.name} WHERE keep_until < :now "
            f"ORDER BY keep_until LIMIT {limit}))"
        ).bindparams(bindparam("now", type_=table.c.keep_until.type))

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
        first = _of_shard(select(table.c.id), table, each).limit(1)
        return select(each.c.shard).where(first.scalar_subquery().is_not(None))

    def of_shards(
        self, table: Table, shards: Sequence[int], condition: ColumnElement[bool], limit: int
    ) -> Select[Any]:
        each = _unnest(shards)
        rows = _of_shard(select(table), table, each).where(condition).limit(limit)
        lateral = rows.lateral("of_shard")
        return select(lateral).select_from(each.join(lateral, true())).limit(limit)

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

    insert = staticmethod(sqlite.insert)

    async def lock_schema(self, connection: AsyncConnection) -> None:
        """The transaction holds the write lock already."""

    async def insert_locked(
        self,
        connection: AsyncConnection,
        table: Table,
        rows: Sequence[Mapping[str, Any]],
        keys: Collection[str],  # noqa: ARG002 - the transaction has the only write lock already
    ) -> None:
        await connection.execute(table.insert().inline(), rows)

    def delete_old(self, table: Table, limit: int) -> Executable:
        return text(
            f"DELETE FROM {table.name} WHERE rowid IN ("  # noqa: S608 - a table of ours
            f"SELECT rowid FROM {table.name} WHERE keep_until < :now "
            f"ORDER BY keep_until LIMIT {limit})"
        ).bindparams(bindparam("now", type_=table.c.keep_until.type))

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
