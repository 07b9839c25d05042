"""The dialect of PostgreSQL: row and advisory locks, many writers and relays at a time."""

from __future__ import annotations

import contextlib
import functools
import socket
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Executable,
    Insert,
    Integer,
    Interval,
    Select,
    String,
    Table,
    TableValuedAlias,
    Update,
    and_,
    any_,
    bindparam,
    func,
    literal,
    select,
    text,
    true,
    tuple_,
    update,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import TypeEngine

from mqkit.errors import StoreUnavailableError
from mqkit.store.database.dialects import KEY_LOCK, SCHEMA_LOCK, SHARD_LOCK, key_hash
from mqkit.store.schema import consumer_hash, id_hash, inbox


def _of_shard(statement: Select[Any], table: Table, each: TableValuedAlias) -> Select[Any]:
    """Select the rows of a shard, in order.

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


def _locked_inserts(
    table: Table, rows: Sequence[Mapping[str, Any]], keys: Collection[str]
) -> Iterable[tuple[Executable, Any]]:
    """Return the statements that insert rows under their keys' locks, with their parameters."""
    # Sorted: two transactions that take the same locks take them in the same order.
    hashes = sorted({key_hash(key) for key in keys})
    if len(hashes) == 1:
        # Most transactions have one key: the lock comes along with the rows.
        locked = [{f"new_{k}": v for k, v in row.items()} | {"hash": hashes[0]} for row in rows]
        return [(_locked_insert(table, tuple(rows[0])), locked)]
    insert = (table.insert().inline(), rows)
    if not hashes:
        return [insert]
    return [(_LOCK_KEYS, {"space": KEY_LOCK, "hashes": hashes}), insert]


_LOCK_KEYS = text(
    "SELECT pg_advisory_xact_lock(:space, hash) FROM unnest(CAST(:hashes AS integer[])) AS hash"
)


def _unnest(shards: Iterable[int]) -> TableValuedAlias:
    values = bindparam(None, list(shards), postgresql.ARRAY(Integer))
    return func.unnest(values).table_valued("shard", name="each").render_derived()


_CANCEL_TIMEOUT = 2.0
"""Seconds for telling a server to end a statement."""


def _socket_of(driver: Any) -> socket.socket:
    # Its kind matters to nobody who only shuts it down.
    return socket.fromfd(driver.fileno(), socket.AF_INET, socket.SOCK_STREAM)


_TEXTS = postgresql.ARRAY(String)

_OF_EACH: dict[str, TypeEngine[Any]] = {
    "message_id": _TEXTS,
    "body_hash": postgresql.ARRAY(BigInteger),
    "attempt": postgresql.ARRAY(Integer),
}
"""What differs between the inbox rows of one handler that are inserted together."""


@functools.lru_cache(maxsize=16)
def _insert_inbox(dialect: Postgres) -> Any:
    """Make an INSERT of any number of rows: arrays are one parameter each, and it compiles once."""
    each = func.unnest(*(bindparam(name, type_=kind) for name, kind in _OF_EACH.items()))
    row = each.table_valued(*_OF_EACH).render_derived()
    values = {
        **{name: row.c[name] for name in _OF_EACH},
        **{name: bindparam(name, type_=String) for name in ("handler", "queue")},
        **dialect.kept_columns(inbox),
    }
    insert = postgresql.insert(inbox).from_select(
        list(values), select(*values.values()), include_defaults=False
    )
    return insert.on_conflict_do_nothing().returning(inbox.c.message_id)


def _inbox_values(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {name: [row[name] for row in rows] for name in _OF_EACH}
    return values | {name: rows[0][name] for name in ("handler", "queue", "keep")}


_PIN = (
    "SELECT set_config('synchronous_commit', 'on', true) "
    "WHERE current_setting('synchronous_commit') = 'off'"
)
"""For this transaction: it is acked, and must not be lost with the server."""


async def is_pooled(connection: AsyncConnection) -> bool:
    """Tell whether a pooler such as PgBouncer stands between this process and the server.

    It says another number of a process than the one that answers.
    """
    raw = await connection.get_raw_connection()
    driver: Any = raw.driver_connection
    found = await connection.execute(text("SELECT pg_backend_pid()"))
    return bool(found.scalar_one() != driver.get_server_pid())


class Postgres:
    """Uses row and advisory locks: many writers and many relays at a time.

    `pooled` says whether a pooler stands before it, which keeps nothing of a session.
    """

    shards = 64
    holds_shards_by_transaction = True
    has_notify = True

    def __init__(self, *, pooled: bool = False) -> None:
        self._pooled = pooled
        # A LISTEN would be left with a session that goes to others.
        self.has_listen = not pooled

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
        for statement, values in _locked_inserts(table, rows, keys):
            await connection.execute(statement, values)

    def sync_insert_locked(
        self,
        connection: Connection,
        table: Table,
        rows: Sequence[Mapping[str, Any]],
        keys: Collection[str],
    ) -> None:
        for statement, values in _locked_inserts(table, rows, keys):
            connection.execute(statement, values)

    def kept(self, table: Table, keep: timedelta, now: datetime) -> Mapping[str, Any]:  # noqa: ARG002
        return {"keep": keep}

    def kept_columns(self, table: Table) -> Mapping[str, ColumnElement[Any]]:
        until = func.now() + bindparam("keep", type_=Interval) + timedelta(minutes=1)
        columns = {"keep_until": func.date_trunc("minute", until)}
        return columns | {"handled_at": func.now()} if "handled_at" in table.c else columns

    def delete_old(self, table: Table, limit: int, now: datetime) -> Executable:  # noqa: ARG002
        # By the rows' places: the planner would compare keys with those of the whole table.
        return text(
            f"DELETE FROM {table.name} WHERE ctid = ANY(ARRAY("  # noqa: S608 - a table of ours
            f"SELECT ctid FROM {table.name} WHERE keep_until < now() "
            f"ORDER BY keep_until LIMIT {limit}))"
        )

    def of_inbox(self, message_id: str, consumer: tuple[str, str] | None) -> ColumnElement[bool]:
        # The hashes are what is indexed, the texts what is meant.
        mine = inbox.c.message_id == message_id
        mine = mine & (id_hash(inbox.c.message_id) == id_hash(literal(message_id)))
        if consumer is None:
            return mine
        handler, queue = consumer
        hashed = consumer_hash(literal(handler), literal(queue))
        is_hashed = consumer_hash(inbox.c.handler, inbox.c.queue) == hashed
        return mine & is_hashed & (inbox.c.handler == handler) & (inbox.c.queue == queue)

    def many_of_inbox(
        self, message_ids: Sequence[str], consumer: tuple[str, str]
    ) -> ColumnElement[bool]:
        ids = bindparam(None, list(message_ids), _TEXTS)
        each = func.unnest(ids).table_valued("message_id").render_derived()
        # An array, which the index is looked into for, and no join: the planner takes the rows for
        # few, and would compare each with all ids.
        hashes = func.array(select(id_hash(each.c.message_id)).scalar_subquery())
        handler, queue = consumer
        hashed = consumer_hash(literal(handler), literal(queue))
        return and_(
            id_hash(inbox.c.message_id) == any_(hashes),
            consumer_hash(inbox.c.handler, inbox.c.queue) == hashed,
            inbox.c.handler == handler,
            inbox.c.queue == queue,
        )

    async def insert_inbox(
        self, connection: AsyncConnection, rows: Sequence[Mapping[str, Any]]
    ) -> set[str]:
        inserted = await connection.execute(_insert_inbox(self), _inbox_values(rows))
        return set(inserted.scalars())

    def sync_insert_inbox(
        self, connection: Connection, rows: Sequence[Mapping[str, Any]]
    ) -> set[str]:
        return set(connection.execute(_insert_inbox(self), _inbox_values(rows)).scalars())

    async def set_results(
        self, connection: AsyncConnection, results: Mapping[str, str], consumer: tuple[str, str]
    ) -> None:
        await connection.execute(self._set_results(results, consumer))

    def sync_set_results(
        self, connection: Connection, results: Mapping[str, str], consumer: tuple[str, str]
    ) -> None:
        connection.execute(self._set_results(results, consumer))

    def _set_results(self, results: Mapping[str, str], consumer: tuple[str, str]) -> Update:
        given = bindparam(None, dict(results), postgresql.JSONB)
        mine = self.many_of_inbox(list(results), consumer)
        return update(inbox).where(mine).values(result=given[inbox.c.message_id].astext)

    async def begun(self, connection: AsyncConnection, lock_timeout: float) -> None:
        if self._pooled:
            await connection.exec_driver_sql(f"SET LOCAL lock_timeout = {int(lock_timeout * 1000)}")

    async def committing(self, connection: AsyncConnection, *, unpinned: bool) -> None:
        if self._pooled or unpinned:
            await connection.exec_driver_sql(_PIN)

    def sync_begun(self, connection: Connection, lock_timeout: float) -> None:
        if self._pooled:
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = {int(lock_timeout * 1000)}")

    def sync_committing(self, connection: Connection, *, unpinned: bool) -> None:
        if self._pooled or unpinned:
            connection.exec_driver_sql(_PIN)

    async def ping(self, connection: AsyncConnection) -> None:
        # A standby answers too, and a primary whose administrator lets nobody write.
        if (await connection.execute(text("SHOW transaction_read_only"))).scalar_one() != "off":
            raise StoreUnavailableError("the database is read-only at the moment", lasting=True)

    async def closes_after(self, connection: AsyncConnection) -> float | None:
        # The client is not told why: an idle one does not read the error.
        found = await connection.execute(
            text(
                "SELECT min(CAST(setting AS bigint)) FROM pg_settings WHERE CAST(setting AS text) "
                "<> '0' AND name IN ('idle_in_transaction_session_timeout', 'transaction_timeout')"
            )
        )
        milliseconds = found.scalar_one()
        return None if milliseconds is None else milliseconds / 1000

    def make_private(self) -> None:
        """Do nothing: it is not a file of this process."""

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

    def sync_check_alive(self, connection: Connection) -> None:
        connection.execute(text("SELECT 1"))

    async def throw_away(self, connection: AsyncConnection) -> None:
        await connection.invalidate()

    def sync_throw_away(self, connection: Connection) -> None:
        connection.invalidate()

    def sync_abort(self, driver: Any) -> bool:
        # The server rolls back what it hears no more of; what it is at ends by the cancel.
        with contextlib.suppress(Exception):  # a driver's, of an extra that need not be here
            driver.cancel_safe(timeout=_CANCEL_TIMEOUT)
        with contextlib.suppress(Exception), _socket_of(driver) as same:
            same.shutdown(socket.SHUT_RDWR)
        return True

    def exists(self) -> bool:
        return True

    def connect_errors(self) -> tuple[type[Exception], ...]:
        import asyncpg  # noqa: PLC0415 - an extra, which SQLite does without

        return (asyncpg.PostgresError, asyncpg.InterfaceError)

    @contextlib.asynccontextmanager
    async def relaying(self) -> AsyncIterator[bool]:
        yield True
