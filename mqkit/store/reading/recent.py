"""Lists the messages whose state was noted last: those that failed, wait or are being handled."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import select

from mqkit.store.database.pool import Database
from mqkit.store.schema import inbox, states
from mqkit.store.states import State
from mqkit.store.status import MessageStatus, noted_status


async def recent_messages(
    database: Database, *, among: Collection[State], limit: int, offset: int
) -> list[MessageStatus]:
    """Return states of messages, the ones that were noted last first.

    A message that a handler has handled in a transaction is in its inbox, and not among them.

    :param among: the states that are listed; empty: all
    :raises StoreUnavailableError: the database is away
    """
    # Of which there is an index, and each row is kept for the same time: the order of their noting,
    # on PostgreSQL to the minute.
    query = select(states).order_by(states.c.keep_until.desc(), states.c.updated_at.desc())
    # A state that was noted before it was handled may still be there.
    query = query.where(~select(inbox.c.attempt).where(database.dialect.of_states()).exists())
    if among:
        query = query.where(states.c.state.in_(sorted(among)))
    async with database.reading() as connection:
        rows = await connection.execute(query.limit(limit).offset(offset))
        return [noted_status(row) for row in rows]
