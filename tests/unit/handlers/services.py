"""What tests of the services give their handlers: a store with tables, a clock moved by hand."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import AsyncIterator

from sqlalchemy import MetaData
from sqlalchemy.ext.asyncio import AsyncConnection

from handlers.clock import Clock
from handlers.databases import create_tables
from mqkit.store import Store


class HandClock(Clock):
    """A clock that stands still until it is moved."""

    def __init__(self, now: dt.datetime = dt.datetime(2026, 11, 30, 12, tzinfo=dt.UTC)) -> None:
        self.time = now

    def now(self) -> dt.datetime:
        return self.time

    def advance(self, seconds: float) -> None:
        self.time += dt.timedelta(seconds=seconds)


@contextlib.asynccontextmanager
async def opened(url: str, metadata: MetaData) -> AsyncIterator[Store]:
    """A store whose database has a service's tables, without a service that runs on it."""
    async with Store(url) as store:
        async with store.transaction() as transaction:
            await create_tables(transaction.connection, metadata, name="test")
        yield store


@contextlib.asynccontextmanager
async def emptied(url: str, metadata: MetaData) -> AsyncIterator[Store]:
    """The same for one example of many, which all have one database."""
    async with opened(url, metadata) as store:
        async with store.transaction() as transaction:
            await empty(transaction.connection, metadata)
        yield store


async def empty(connection: AsyncConnection, metadata: MetaData) -> None:
    """Take all rows out of a service's tables."""
    for table in reversed(metadata.sorted_tables):
        await connection.execute(table.delete())
