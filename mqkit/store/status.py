"""Tells what became of a message, from all that the store knows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, select

from mqkit.store.database.pool import Database
from mqkit.store.inbox import kept_result
from mqkit.store.schema import inbox, outbox, states
from mqkit.store.serialization import writable
from mqkit.store.states import State


@dataclass(frozen=True, slots=True)
class MessageStatus:
    """Says what one handler did with a message, or that it is still in the outbox."""

    message_id: str
    state: State
    handler: str | None
    """None for a message in the outbox."""
    queue: str | None
    attempt: int
    """Of the handler, or of the relay to publish it."""
    updated_at: datetime
    retry_at: datetime | None = None
    error_type: str | None = None
    error: str | None = None
    result: Any = None


async def message_status(database: Database, message_id: str) -> list[MessageStatus]:
    """Return a status for each handler that had the message, and one if it is in the outbox.

    :raises StoreUnavailableError: the database is away
    """
    written = writable(message_id)
    async with database.reading() as connection:
        waiting = await connection.execute(select(outbox).where(outbox.c.message_id == written))
        mine = database.dialect.of_inbox(written, None)
        handled = await connection.execute(select(inbox).where(mine))
        noted = await connection.execute(select(states).where(states.c.message_id == written))
        found = [
            MessageStatus(
                message_id=message_id,
                state=State.OUTGOING if row.shard >= 0 else State.DEAD,
                handler=None,
                queue=None,
                attempt=row.attempts,
                updated_at=row.written_at,
                retry_at=row.retry_at,
                error=row.error,
            )
            for row in waiting
        ]
        done = {
            (row.handler, row.queue): MessageStatus(
                message_id=message_id,
                state=State.SUCCEEDED,
                handler=row.handler,
                queue=row.queue,
                attempt=row.attempt,
                updated_at=row.handled_at,
                result=kept_result(row.result),
            )
            for row in handled
        }
        # The inbox is committed with the effect; a state that was noted before may still be there.
        others = [noted_status(row) for row in noted if (row.handler, row.queue) not in done]
    return [
        *found,
        *sorted((*done.values(), *others), key=lambda s: (s.updated_at, s.handler or "")),
    ]


def noted_status(row: Row[Any]) -> MessageStatus:
    """Return what a row of the states says."""
    return MessageStatus(
        message_id=row.message_id,
        state=State(row.state),
        handler=row.handler,
        queue=row.queue,
        attempt=row.attempt,
        updated_at=row.updated_at,
        retry_at=row.retry_at,
        error_type=row.error_type,
        error=row.error,
        result=kept_result(row.result),
    )


async def handled_ids(
    database: Database, consumer: tuple[str, str], message_ids: Sequence[str]
) -> set[str]:
    """Return those messages that the inbox has for a handler and its queue.

    :raises StoreUnavailableError: the database is away
    """
    ids = [each for each in message_ids if each and writable(each) == each]
    async with database.transaction(beside=True) as connection:
        rows = await database.dialect.find_inbox(connection, ids, consumer)
    # A row of another id may have the same hash.
    return {row[0] for row in rows}.intersection(ids)
