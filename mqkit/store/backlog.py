"""Reads how much a store has yet to do: its outbox, and the sagas that go on."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from mqkit.middleware import StoreReading
from mqkit.store.database.pool import Database
from mqkit.store.schema import outbox, sagas

COUNTED = 100_000
"""Messages that are counted at most: who watches needs to know that there are many, and counting
millions every few seconds would hold up those who work."""


async def backlog(database: Database, now: datetime) -> StoreReading:
    """Return how much there is to do.

    :raises StoreUnavailableError: the database is away
    """
    # By the primary key, which is in the order of writing: the first that is not dead.
    first = select(outbox.c.written_at).where(outbox.c.shard >= 0).order_by(outbox.c.id).limit(1)
    async with database.reading() as connection:
        written_at = (await connection.execute(first)).scalar_one_or_none()
        waiting = await _count(connection, outbox.c.shard >= 0)
        dead = await _count(connection, outbox.c.shard < 0)
        going_on = {} if database.lacks_of_sagas else await _sagas(connection)
    oldest = 0.0 if written_at is None else max((now - written_at).total_seconds(), 0.0)
    return StoreReading(waiting, dead, oldest, going_on)


async def _count(connection: AsyncConnection, condition: ColumnElement[bool]) -> int:
    some = select(outbox.c.shard).where(condition).limit(COUNTED).subquery()
    found = await connection.execute(select(func.count()).select_from(some))
    return int(found.scalar_one())


async def _sagas(connection: AsyncConnection) -> dict[tuple[str, str], int]:
    # What is completed is kept until a time, and there is an index of that.
    query = (
        select(sagas.c.name, sagas.c.status, func.count())
        .where(sagas.c.keep_until.is_(None))
        .group_by(sagas.c.name, sagas.c.status)
    )
    found = await connection.execute(query)
    return {(name, status): count for name, status, count in found}
