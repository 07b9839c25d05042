"""The dialect of PostgreSQL: row and advisory locks, many writers and relays at a time."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Executable,
    Integer,
    Interval,
    Select,
    Table,
    TableValuedAlias,
    and_,
    bindparam,
    func,
    literal,
    select,
    text,
    true,
    tuple_,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncConnection

from mqkit.errors import StoreUnavailableError
from mqkit.store.database.dialects import KEY_LOCK, SCHEMA_LOCK, SHARD_LOCK, key_hash
from mqkit.store.database.postgresql import aborting, driver
from mqkit.store.database.postgresql.packing import numbers, pack
from mqkit.store.database.postgresql.statements import (
    DELETE_INBOX,
    DELETE_OUTBOX,
    FIND_INBOX,
    INSERT_INBOX,
    INSERT_OUTBOX,
    LOCK_SHARDS,
    OUTBOX_TEXTS,
    SET_RESULTS,
    by_name,
    named,
)
from mqkit.store.database.statements.sagas import PostgresSagas, SagaStatements
from mqkit.store.database.watch import watch_of
from mqkit.store.schema import consumer_hash, id_hash, inbox, states


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


RELAYED = (
    "id",
    "shard",
    "order_key",
    "attempts",
    "message_id",
    "exchange",
    "routing_key",
    "mandatory",
    "properties",
    "body",
)
"""What a relay needs of a row."""


def _unnest(shards: ColumnElement[Any]) -> TableValuedAlias:
    return func.unnest(shards).table_valued("shard", name="each").render_derived()


def _locked_rows(rows: Sequence[Mapping[str, Any]], keys: Collection[str]) -> list[Any]:
    """Return the parameters of `INSERT_OUTBOX`."""
    # Sorted: two transactions that take the same locks take them in the same order.
    hashes = sorted({key_hash(key) for key in keys})
    shards, flags, bodies = ([row[name] for row in rows] for name in ("shard", "mandatory", "body"))
    texts, marks = pack([[row[name] for row in rows] for name in OUTBOX_TEXTS])
    return [
        numbers(shards),
        *texts,
        numbers(flags),
        bodies,
        rows[0]["written_at"],
        KEY_LOCK,
        numbers(hashes),
        *marks,
    ]


def _inbox_rows(rows: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Return the parameters of `INSERT_INBOX`."""
    (ids,), marks = pack([[row["message_id"] for row in rows]])
    hashes, attempts = ([row[name] for row in rows] for name in ("body_hash", "attempt"))
    first = rows[0]
    given = first["handler"], first["queue"], first["keep"]
    return [ids, numbers(hashes), numbers(attempts), *given, *marks]


_PIN = (
    "SELECT set_config('synchronous_commit', 'on', true) "
    "WHERE current_setting('synchronous_commit') = 'off'"
)
"""For this transaction: it is acked, and must not be lost with the server."""


_RESTORE = "RESET SESSION AUTHORIZATION; RESET ROLE; RESET search_path"
"""Who mqkit's own statements are sent as, and where they find its tables."""


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
    purge_batch = 5_000

    def __init__(self, *, pooled: bool = False) -> None:
        self._pooled = pooled
        # A LISTEN would be left with a session that goes to others.
        self.has_listen = not pooled

    insert = staticmethod(postgresql.insert)
    sagas: SagaStatements = PostgresSagas()

    async def lock_schema(self, connection: AsyncConnection) -> None:
        await connection.execute(
            text("SELECT pg_advisory_xact_lock(:space, 0)"), {"space": SCHEMA_LOCK}
        )

    async def insert_locked(
        self,
        connection: AsyncConnection,
        table: Table,  # noqa: ARG002 - which is the outbox
        rows: Sequence[Mapping[str, Any]],
        keys: Collection[str],
    ) -> None:
        await driver.fetch(connection, INSERT_OUTBOX, *_locked_rows(rows, keys))

    def sync_insert_locked(
        self,
        connection: Connection,
        table: Table,  # noqa: ARG002 - as above
        rows: Sequence[Mapping[str, Any]],
        keys: Collection[str],
    ) -> None:
        connection.execute(by_name(INSERT_OUTBOX), named(*_locked_rows(rows, keys)))

    def kept(self, table: Table, keep: timedelta, now: datetime) -> Mapping[str, Any]:  # noqa: ARG002
        return {"keep": keep}

    def kept_columns(self, table: Table) -> Mapping[str, ColumnElement[Any]]:
        until = func.now() + bindparam("keep", type_=Interval) + timedelta(minutes=1)
        columns = {"keep_until": func.date_trunc("minute", until)}
        return columns | {"handled_at": func.now()} if "handled_at" in table.c else columns

    def delete_old(self, table: Table, now: datetime) -> Executable:  # noqa: ARG002
        # By the rows' places: the planner would compare keys with those of the whole table.
        return text(
            f"DELETE FROM {table.name} WHERE ctid = ANY(ARRAY("  # noqa: S608 - a table of ours
            f"SELECT ctid FROM {table.name} WHERE keep_until < now() "
            f"ORDER BY keep_until LIMIT {self.purge_batch}))"
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

    def of_states(self) -> ColumnElement[bool]:
        names = ("message_id", "handler", "queue")
        return and_(
            id_hash(inbox.c.message_id) == id_hash(states.c.message_id),
            consumer_hash(inbox.c.handler, inbox.c.queue)
            == consumer_hash(states.c.handler, states.c.queue),
            *(inbox.c[name] == states.c[name] for name in names),
        )

    async def insert_inbox(
        self, connection: AsyncConnection, rows: Sequence[Mapping[str, Any]]
    ) -> set[str]:
        inserted = await driver.fetch(connection, INSERT_INBOX, *_inbox_rows(rows))
        return {row[0] for row in inserted}

    def sync_insert_inbox(
        self, connection: Connection, rows: Sequence[Mapping[str, Any]]
    ) -> set[str]:
        inserted = connection.execute(by_name(INSERT_INBOX), named(*_inbox_rows(rows)))
        return set(inserted.scalars())

    async def find_inbox(
        self, connection: AsyncConnection, message_ids: Sequence[str], consumer: tuple[str, str]
    ) -> Sequence[tuple[str, str | None, int | None]]:
        found = await driver.fetch(connection, FIND_INBOX, list(message_ids), *consumer)
        return [tuple(row) for row in found]

    def sync_find_inbox(
        self, connection: Connection, message_ids: Sequence[str], consumer: tuple[str, str]
    ) -> Sequence[tuple[str, str | None, int | None]]:
        found = connection.execute(by_name(FIND_INBOX), named(list(message_ids), *consumer))
        return [tuple(row) for row in found]

    async def delete_inbox(
        self, connection: AsyncConnection, message_ids: Sequence[str], consumer: tuple[str, str]
    ) -> None:
        await driver.fetch(connection, DELETE_INBOX, list(message_ids), *consumer)

    def sync_delete_inbox(
        self, connection: Connection, message_ids: Sequence[str], consumer: tuple[str, str]
    ) -> None:
        connection.execute(by_name(DELETE_INBOX), named(list(message_ids), *consumer))

    async def set_results(
        self, connection: AsyncConnection, results: Mapping[str, str], consumer: tuple[str, str]
    ) -> None:
        texts = json.dumps(dict(results))
        await driver.fetch(connection, SET_RESULTS, list(results), *consumer, texts)

    def sync_set_results(
        self, connection: Connection, results: Mapping[str, str], consumer: tuple[str, str]
    ) -> None:
        texts = json.dumps(dict(results))
        connection.execute(by_name(SET_RESULTS), named(list(results), *consumer, texts))

    async def begun(self, connection: AsyncConnection, lock_timeout: float) -> None:
        await driver.begin(connection)
        if self._pooled:
            # Without a prepared statement, which would be two round trips.
            watch = watch_of(connection)
            await watch.driver.execute(f"SET LOCAL lock_timeout = {int(lock_timeout * 1000)}")

    async def restore(self, connection: AsyncConnection) -> None:
        await watch_of(connection).driver.execute(_RESTORE)

    async def committing(self, connection: AsyncConnection, *, unpinned: bool) -> None:
        if self._pooled or unpinned:
            await driver.fetch(connection, _PIN)

    def sync_begun(self, connection: Connection, lock_timeout: float) -> None:
        if self._pooled:
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = {int(lock_timeout * 1000)}")

    def sync_restore(self, connection: Connection) -> None:
        connection.exec_driver_sql(_RESTORE)

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
        locked = await driver.fetch(connection, LOCK_SHARDS, list(shards), SHARD_LOCK)
        return [row[0] for row in locked]

    def filled_shards(self, table: Table) -> Select[Any]:
        each = _unnest(literal(list(range(self.shards)), postgresql.ARRAY(Integer)))
        # A look into the index for each: where few rows are left among many deleted ones, a scan of
        # the table would read its pages for nothing.
        first = _of_shard(select(table.c.id), table, each).limit(1)
        return select(each.c.shard).where(first.scalar_subquery().is_not(None))

    def of_shards(self, table: Table, condition: ColumnElement[bool]) -> Select[Any]:
        each = _unnest(bindparam("shards", type_=postgresql.ARRAY(Integer)))
        columns = (table.c[name] for name in RELAYED)
        rows = _of_shard(select(*columns), table, each).where(condition)
        rows = rows.limit(bindparam("limit", type_=Integer))
        lateral = rows.lateral("of_shard")
        return select(lateral).select_from(each.join(lateral, true()))

    async def take_out(self, connection: AsyncConnection, ids: Sequence[int]) -> None:
        await driver.fetch(connection, DELETE_OUTBOX, list(ids))

    async def set_savepoint(self, connection: AsyncConnection) -> None:
        await driver.fetch(connection, "SAVEPOINT mqkit_message")

    async def roll_back(self, connection: AsyncConnection) -> None:
        await driver.fetch(connection, "ROLLBACK TO SAVEPOINT mqkit_message")

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
        aborting.abort(driver)
        return True

    def exists(self) -> bool:
        return True

    def connect_errors(self) -> tuple[type[Exception], ...]:
        import asyncpg  # noqa: PLC0415 - an extra, which SQLite does without

        return (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)

    @contextlib.asynccontextmanager
    async def relaying(self) -> AsyncIterator[bool]:
        yield True
