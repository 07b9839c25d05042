"""Keeps the messages that are committed with a handler's work until a relay has published them.

Numbers are given under a lock of the message's key which lasts until the commit, so that within
a key they are in the order of the commits. What is not published is found by being there, and not
by a number that was seen last: a transaction that commits late is not skipped.

A message that can never be published is dead: it stays, in a shard with a negative number, which no
relay looks into.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    and_,
    bindparam,
    func,
    not_,
    or_,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from mqkit.errors import ConfigurationError, StoreError
from mqkit.logging.error_texts import masked_text
from mqkit.message import Message, maker
from mqkit.store.database.dialects import Dialect, key_hash
from mqkit.store.database.pool import Database
from mqkit.store.schema import UtcTime, outbox
from mqkit.store.serialization import (
    declaration_to_text,
    properties_from_text,
    properties_to_text,
    writable,
)
from mqkit.topology import Exchange

_message = maker(Message)

MAX_RETRY_WAIT = 60.0
"""Seconds; no wait between two attempts to publish a message that was refused is longer."""

MAX_ERROR_TEXT = 1_000


@dataclass(frozen=True, slots=True)
class Entry:
    """A message in the outbox."""

    id: int
    key: str | None
    attempts: int
    message_id: str
    row: Row[Any] = field(repr=False)

    def read(self) -> tuple[Message, Exchange | None]:
        """Return the message to publish, and how its exchange is declared where it is missing.

        None is an exchange that is not to be declared.

        :raises StoreError: the row was written by a later version, or by hand, and is not readable
        """
        row = self.row
        try:
            properties, declare, due = properties_from_text(row.properties, row.exchange)
            body = row.body if row.body.__class__ is bytes else bytes(row.body)
            message = _message(row.exchange, row.routing_key, body, properties, row.mandatory, due)
        except (
            ConfigurationError,
            ValueError,
            TypeError,
            LookupError,
            ArithmeticError,
            AttributeError,
        ) as error:
            raise StoreError(
                f"row {self.id} of the outbox is not readable by this version of mqkit: "
                f"{type(error).__name__}: {error}"
            ) from error
        return message, declare


_entry = maker(Entry)


@dataclass(frozen=True, slots=True)
class Unpublished:
    """A message of the outbox that is committed and not published yet, as far as is known."""

    message_id: str
    exchange: str
    routing_key: str
    attempts: int
    """How often its publish was refused."""
    error: str | None
    """Why it was refused last."""
    wait: float
    """Seconds until it may be published; 0 is now. What waits for another one of its key waits as
    long as that."""
    written_at: datetime


async def write(
    connection: AsyncConnection,
    dialect: Dialect,
    messages: Iterable[tuple[str | None, Message]],
    now: datetime,
    exchanges: Mapping[str, Exchange] | None = None,
) -> None:
    """Insert messages, each with its key or None, into the outbox, within a transaction.

    It is done right before the commit: the keys stay locked until then.

    :param exchanges: how exchanges are declared, by name, for a relay that finds one missing
    """
    rows = _rows(dialect, messages, now, exchanges or {})
    if rows:
        await dialect.insert_locked(connection, outbox, rows, _keys(rows))


def sync_write(
    connection: Connection,
    dialect: Dialect,
    messages: Iterable[tuple[str | None, Message]],
    now: datetime,
    exchanges: Mapping[str, Exchange] | None = None,
) -> None:
    """Insert messages as `write` does, on the connection of a thread."""
    rows = _rows(dialect, messages, now, exchanges or {})
    if rows:
        dialect.sync_insert_locked(connection, outbox, rows, _keys(rows))


def _rows(
    dialect: Dialect,
    messages: Iterable[tuple[str | None, Message]],
    now: datetime,
    given: Mapping[str, Exchange],
) -> list[dict[str, Any]]:
    # Written once for all messages to an exchange.
    declarations = {name: declaration_to_text(exchange) for name, exchange in given.items()}
    return [
        _row(key, message, declarations.get(message.exchange, ""), dialect.shards, now)
        for key, message in messages
    ]


def _keys(rows: Sequence[Mapping[str, Any]]) -> set[str]:
    return {row["order_key"] for row in rows if row["order_key"] is not None}


def _row(
    key: str | None, message: Message, declaration: str, shards: int, now: datetime
) -> dict[str, Any]:
    spread = key if key is not None else message.properties.message_id or ""
    return {
        "shard": key_hash(spread) % shards,
        "order_key": key,
        "message_id": message.properties.message_id or "",
        "exchange": message.exchange,
        "routing_key": message.routing_key,
        "mandatory": message.mandatory,
        "properties": properties_to_text(message.properties, declaration, message.due),
        "body": message.body,
        "written_at": now,
        "attempts": 0,
    }


class Claim:
    """Messages that only this relay may publish for as long as the claim lasts."""

    def __init__(
        self, outbox_: Outbox, connection: AsyncConnection | None, entries: Sequence[Entry]
    ) -> None:
        self._outbox = outbox_
        self._connection = connection
        self.entries = entries

    async def mark(self, published: Sequence[Entry]) -> None:
        """Delete what is confirmed from the outbox."""
        if published:
            async with self._transaction() as connection:
                ids = [entry.id for entry in published]
                await self._outbox.database.dialect.take_out(connection, ids)

    async def hold(self, refused: Sequence[tuple[Entry, BaseException]], now: datetime) -> None:
        """Note what the broker refused; it and what has its key waits for a while."""
        await self._execute(
            [
                update(outbox)
                .where(outbox.c.id == entry.id)
                .values(
                    attempts=entry.attempts + 1,
                    retry_at=now + timedelta(seconds=retry_wait(entry.attempts)),
                    error=error_text(error),
                )
                for entry, error in refused
            ]
        )

    async def set_aside(self, dead: Sequence[tuple[Entry, BaseException]]) -> None:
        """Set messages aside that can never be published: kept, but not claimed again."""
        await self._execute(
            [
                update(outbox)
                .where(outbox.c.id == entry.id)
                .values(
                    shard=-1 - entry.row.shard,
                    attempts=entry.attempts + 1,
                    retry_at=None,
                    error=error_text(error),
                )
                for entry, error in dead
            ]
        )

    async def _execute(self, statements: Sequence[Any]) -> None:
        if statements:
            async with self._transaction() as connection:
                for statement in statements:
                    await connection.execute(statement)

    @contextlib.asynccontextmanager
    async def _transaction(self) -> AsyncIterator[AsyncConnection]:
        if self._connection is not None:
            yield self._connection
            return
        async with self._outbox.database.transaction(beside=True) as connection:
            yield connection


def error_text(error: BaseException) -> str:
    """Return why a message was not published, as its row keeps it."""
    return writable(f"{type(error).__name__}: {masked_text(error)}"[:MAX_ERROR_TEXT])


def retry_wait(attempts: int) -> float:
    """Return the seconds until a message that was refused so often is tried again."""
    return min(0.5 * 2.0 ** min(attempts, 16), MAX_RETRY_WAIT)


class Outbox:
    """Claims and counts the messages in the outbox of one database."""

    def __init__(self, database: Database) -> None:
        self.database = database

    @property
    def shards(self) -> int:
        return self.database.dialect.shards

    @contextlib.asynccontextmanager
    async def claim(self, shards: Sequence[int], limit: int, now: datetime) -> AsyncIterator[Claim]:
        """Claim messages in order, up to `limit` of each of these shards; no other relay gets them.

        What another relay has claimed is left out. On PostgreSQL the claim is a transaction, and
        ends with it, or with this process.
        """
        dialect = self.database.dialect
        if dialect.holds_shards_by_transaction:
            async with self.database.transaction(beside=True) as connection:
                mine = await dialect.lock_shards(connection, shards)
                # A statement of its own: its snapshot must not be older than the locks, or it
                # would show what another relay has taken out meanwhile.
                entries = await _entries(connection, dialect, mine, limit, now) if mine else []
                yield Claim(self, connection, entries)
            return
        async with self.database.reading() as connection:
            entries = await _entries(connection, dialect, shards, limit, now)
        yield Claim(self, None, entries)

    async def waiting(self) -> Sequence[int]:
        """Return the shards that have messages, whether they may be published now or not."""
        async with self.database.reading() as connection:
            found = await connection.execute(_filled(self.database.dialect))
            return list(found.scalars())

    async def unpublished(
        self, now: datetime, *, dead: bool, limit: int, offset: int
    ) -> list[Unpublished]:
        """List what waits to be published, or what is dead instead, the oldest first."""
        columns = outbox.c
        query = (
            select(
                columns.order_key,
                columns.message_id,
                columns.exchange,
                columns.routing_key,
                columns.attempts,
                columns.error,
                columns.retry_at,
                columns.written_at,
                func.coalesce(_held(outbox, now, _longest(now)), False).label("is_held"),
            )
            .where(columns.shard < 0 if dead else columns.shard >= 0)
            .order_by(columns.id)
            .limit(limit)
            .offset(offset)
        )
        async with self.database.reading() as connection:
            rows = list(await connection.execute(query))
        waits = {row: (row.retry_at - now).total_seconds() for row in rows if row.is_held}
        of_keys = {row.order_key: waits[row] for row in waits if row.order_key is not None}
        return [
            Unpublished(
                message_id=row.message_id,
                exchange=row.exchange,
                routing_key=row.routing_key,
                attempts=row.attempts,
                error=row.error,
                wait=waits.get(row, of_keys.get(row.order_key, 0.0)),
                written_at=row.written_at,
            )
            for row in rows
        ]

    async def count(self) -> int:
        """Count messages that are committed and not yet confirmed, without those that are dead."""
        return await self._count(outbox.c.shard >= 0)

    async def count_dead(self) -> int:
        """Count messages that were set aside, since they can never be published."""
        return await self._count(outbox.c.shard < 0)

    async def _count(self, condition: ColumnElement[bool]) -> int:
        async with self.database.reading() as connection:
            found = await connection.execute(
                select(func.count()).select_from(outbox).where(condition)
            )
            return int(found.scalar_one())


def _held(table: Any, now: Any, longest: Any) -> ColumnElement[bool]:
    """Match messages that wait after a refusal, until a time that is not after `longest`.

    A time that is further ahead than any wait was written by a clock that has jumped since.
    """
    return and_(table.c.retry_at.is_not(None), table.c.retry_at > now, table.c.retry_at <= longest)


def _longest(now: datetime) -> datetime:
    return now + timedelta(seconds=MAX_RETRY_WAIT)


@functools.lru_cache(maxsize=16)
def _free(dialect: Dialect) -> Select[Any]:
    """Select what may be published now; made once, as that takes longer than to run it."""
    times = bindparam("now", type_=UtcTime), bindparam("longest", type_=UtcTime)
    before = outbox.alias("before")
    # The one that waits is the first of its key: what came before it was published and taken out.
    # All keys at once, and not a look for each row: a key may have a long queue behind it.
    waiting = select(before.c.order_key).where(
        before.c.order_key.is_not(None), _held(before, *times)
    )
    free = and_(
        not_(func.coalesce(_held(outbox, *times), False)),
        or_(outbox.c.order_key.is_(None), outbox.c.order_key.not_in(waiting)),
    )
    return dialect.of_shards(outbox, free)


@functools.lru_cache(maxsize=16)
def _filled(dialect: Dialect) -> Select[Any]:
    return dialect.filled_shards(outbox)


async def _entries(
    connection: AsyncConnection,
    dialect: Dialect,
    shards: Sequence[int],
    limit: int,
    now: datetime,
) -> list[Entry]:
    parameters = {"shards": list(shards), "limit": limit, "now": now, "longest": _longest(now)}
    rows = (await connection.execute(_free(dialect), parameters)).all()
    entries = [_entry(row.id, row.order_key, row.attempts, row.message_id, row) for row in rows]
    # The plan gives them in order, and nothing in SQL promises it.
    entries.sort(key=attrgetter("id"))
    return entries
