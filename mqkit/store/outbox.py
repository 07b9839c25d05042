"""The outbox: messages that are committed with a handler's work, and published by a relay.

Numbers are given under a lock of the message's key which lasts until the commit, so that within
a key they are in the order of the commits. What is not published is found by being there, and not
by a number that was seen last: a transaction that commits late is not skipped.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, func, not_, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from mqkit.message import Message
from mqkit.store.database import Database
from mqkit.store.flavour import Flavour, key_hash
from mqkit.store.schema import outbox
from mqkit.store.wire import properties_from_text, properties_to_text

MAX_RETRY_WAIT = 60.0
"""Seconds; no wait between two attempts to publish a message that was refused is longer."""

MAX_ERROR_TEXT = 1_000


_INSERT = outbox.insert().inline()


@dataclass(frozen=True, slots=True)
class Entry:
    """A message in the outbox."""

    id: int
    key: str | None
    attempts: int
    message: Message


async def write(
    connection: AsyncConnection,
    flavour: Flavour,
    messages: Iterable[tuple[str | None, Message]],
    now: datetime,
) -> None:
    """Put messages, each with its key or None, into the outbox, as part of a transaction.

    It is done right before the commit: the keys stay locked until then.
    """
    rows = [_row(key, message, flavour.shards, now) for key, message in messages]
    if not rows:
        return
    await flavour.lock_keys(connection, (row["order_key"] for row in rows if row["order_key"]))
    for row in rows:
        # Not one statement for all: SQLAlchemy compiles such a one anew each time, which costs
        # more than the round trips, and an executemany does not promise the order of the numbers.
        await connection.execute(_INSERT, row)


def _row(key: str | None, message: Message, shards: int, now: datetime) -> dict[str, Any]:
    spread = key if key is not None else message.properties.message_id or ""
    return {
        "shard": key_hash(spread) % shards,
        "order_key": key,
        "message_id": message.properties.message_id or "",
        "exchange": message.exchange,
        "routing_key": message.routing_key,
        "mandatory": message.mandatory,
        "properties": properties_to_text(message.properties),
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
        """Take what is confirmed out of the outbox."""
        if not published:
            return
        statement = delete(outbox).where(outbox.c.id.in_([entry.id for entry in published]))
        await self._execute([statement])

    async def hold(self, refused: Sequence[tuple[Entry, BaseException]], now: datetime) -> None:
        """Note what the broker refused; it and what has its key is left alone for a while."""
        await self._execute(
            [
                update(outbox)
                .where(outbox.c.id == entry.id)
                .values(
                    attempts=entry.attempts + 1,
                    retry_at=now + timedelta(seconds=retry_wait(entry.attempts)),
                    error=f"{type(error).__name__}: {error}"[:MAX_ERROR_TEXT],
                )
                for entry, error in refused
            ]
        )

    async def _execute(self, statements: Sequence[Any]) -> None:
        if not statements:
            return
        async with contextlib.AsyncExitStack() as stack:
            connection = self._connection
            if connection is None:
                connection = await stack.enter_async_context(self._outbox.database.transaction())
            for statement in statements:
                await connection.execute(statement)


def retry_wait(attempts: int) -> float:
    """Seconds to leave a message alone that was refused so often before."""
    return min(0.5 * 2.0 ** min(attempts, 16), MAX_RETRY_WAIT)


class Outbox:
    """The outbox of one database, as a relay sees it."""

    def __init__(self, database: Database) -> None:
        self.database = database

    @property
    def shards(self) -> int:
        return self.database.flavour.shards

    @contextlib.asynccontextmanager
    async def claim(self, shards: Sequence[int], limit: int, now: datetime) -> AsyncIterator[Claim]:
        """Up to `limit` messages of these shards, in order; nobody else gets them meanwhile.

        What another relay has claimed is left out. On PostgreSQL the claim is a transaction, and
        ends with it, or with this process.
        """
        if self.database.flavour.holds_shards_by_transaction:
            async with self.database.transaction() as connection:
                mine = await self.database.flavour.lock_shards(connection, shards)
                entries = await _entries(connection, mine, limit, now) if mine else []
                yield Claim(self, connection, entries)
            return
        async with self.database.reading() as connection:
            entries = await _entries(connection, shards, limit, now)
        yield Claim(self, None, entries)

    async def is_empty(self) -> bool:
        """Whether there is nothing to publish at all."""
        async with self.database.reading() as connection:
            found = await connection.execute(select(outbox.c.id).limit(1))
            return found.first() is None

    async def count(self) -> int:
        """Messages that are committed and not yet confirmed."""
        async with self.database.reading() as connection:
            found = await connection.execute(select(func.count()).select_from(outbox))
            return int(found.scalar_one())


def _held(table: Any, now: datetime) -> ColumnElement[bool]:
    """Whether a message waits after a refusal.

    A time that is further ahead than any wait was written by a clock that has jumped since.
    """
    longest = now + timedelta(seconds=MAX_RETRY_WAIT)
    return and_(table.c.retry_at.is_not(None), table.c.retry_at > now, table.c.retry_at <= longest)


async def _entries(
    connection: AsyncConnection, shards: Sequence[int], limit: int, now: datetime
) -> list[Entry]:
    before = outbox.alias("before")
    waits_for_another = (
        select(before.c.id)
        .where(
            before.c.order_key == outbox.c.order_key,
            before.c.id < outbox.c.id,
            _held(before, now),
        )
        .exists()
    )
    free = and_(
        not_(func.coalesce(_held(outbox, now), False)),
        or_(outbox.c.order_key.is_(None), not_(waits_for_another)),
    )
    found: list[Entry] = []
    for shard in shards:
        # Shard by shard, so that the index gives the order and nothing is sorted.
        rows = await connection.execute(
            select(outbox)
            .where(outbox.c.shard == shard, free)
            .order_by(outbox.c.id)
            .limit(limit - len(found))
        )
        found.extend(_entry(row) for row in rows)
        if len(found) >= limit:
            break
    return found


def _entry(row: Any) -> Entry:
    return Entry(
        id=row.id,
        key=row.order_key,
        attempts=row.attempts,
        message=Message(
            exchange=row.exchange,
            routing_key=row.routing_key,
            body=bytes(row.body),
            properties=properties_from_text(row.properties),
            mandatory=row.mandatory,
        ),
    )
