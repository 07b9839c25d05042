"""What the tests of the store share: deliveries, a clock that jumps, a broker that takes notes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import event, select, text

from mqkit.errors import PublishError
from mqkit.message import Delivery, Message, Properties
from mqkit.store import Store
from mqkit.store.database.pool import Database, store_url
from mqkit.store.database.postgresql.connection import StoreConnection
from mqkit.store.outbox import Outbox
from mqkit.store.schema import inbox, states
from mqkit.topology import Exchange

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def delivery(message_id: str, *, queue: str = "q", attempt: int = 1) -> Delivery:
    """A delivery with that id."""
    return Delivery(properties=Properties(message_id=message_id), queue=queue, attempt=attempt)


class Jumping:
    """A clock that says what it is told."""

    def __init__(self, now: datetime = NOW) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def jump(self, **by: float) -> None:
        """Go on, or back, by so many `timedelta` units."""
        self.now += timedelta(**by)


class FakeBroker:
    """Takes messages as a publisher's `send` does, and notes each with the order of its writing."""

    def __init__(self) -> None:
        self.written: list[str] = []
        self.confirmed: list[str] = []
        self.messages: list[Message] = []
        self.declared: list[Exchange | None] = []
        self.on_write: Callable[[Message], Awaitable[None]] | None = None
        """May wait, and raise what a publisher raises, before the message is taken."""

    async def send(
        self,
        message: Message,
        *,
        timeout: float | None = None,  # noqa: ASYNC109
        declare: Exchange | None = None,
    ) -> None:
        """`SendWithin`."""
        self.declared.append(declare)
        message_id = message.properties.message_id or ""
        if self.on_write is not None:
            await self.on_write(message)
        self.written.append(message_id)
        self.messages.append(message)
        await asyncio.sleep(0)
        self.confirmed.append(message_id)


@contextlib.asynccontextmanager
async def opened(url: str, *, pool: int = 20) -> AsyncIterator[Database]:
    """A database with the store's tables."""
    database = Database(store_url(url), pool=pool)
    await database.open(create_tables=True)
    try:
        yield database
    finally:
        await database.close()


async def make_work(store: Store) -> None:
    """A table for a handler's own work."""
    async with store.transaction() as transaction:
        await transaction.execute(text("CREATE TABLE work (id VARCHAR(80) PRIMARY KEY)"))


async def work_of(store: Store) -> list[str]:
    """What is in it."""
    async with store.transaction() as transaction:
        found = await transaction.execute(text("SELECT id FROM work ORDER BY id"))
        return list(found.scalars())


async def publish(store: Store, *ids: str, key: str | None = None) -> None:
    """Commit messages to the outbox."""
    async with store.transaction() as transaction:
        for message_id in ids:
            await transaction.publish("e", "k", b"body", key=key, message_id=message_id)


async def claimed(outbox: Outbox, now: datetime, limit: int = 500) -> list[str]:
    """Ids of the messages that a relay would get now."""
    async with outbox.claim(range(outbox.shards), limit, now) as claim:
        return [entry.message_id for entry in claim.entries]


async def grow_old(store: Store, seconds: float) -> None:
    """As if what the store remembers had been written so much earlier."""
    async with store.transaction() as transaction:
        for table in (inbox, states):
            rows = await transaction.execute(select(table.c.message_id, table.c.keep_until))
            for row in rows.all():
                earlier = row.keep_until - timedelta(seconds=seconds)
                await transaction.execute(
                    table.update()
                    .where(table.c.message_id == row.message_id)
                    .values(keep_until=earlier)
                )


def is_sqlite(url: str) -> bool:
    """Which kind of database it is."""
    return url.startswith("sqlite")


def refusal(kind: type[PublishError], text_: str = "no") -> PublishError:
    """An error of a publish, of that kind."""
    return kind(text_, exchange="e", routing_key="k", message_id="m")


@contextlib.contextmanager
def statements(store: Store) -> Iterator[list[str]]:
    """What is sent to PostgreSQL meanwhile: the first three words of each statement."""
    seen: list[str] = []

    def note(statement: str) -> None:
        seen.append(" ".join(statement.partition("(")[0].strip(" ;\n").split()[:3]))

    def noting(name: str) -> Callable[..., Awaitable[Any]]:
        method = getattr(StoreConnection, name)

        async def run(self: StoreConnection, query: str, *args: Any, **kwargs: Any) -> Any:
            note(query)
            return await method(self, query, *args, **kwargs)

        return run

    engine = store._open().database._engine
    assert engine is not None
    listener = ("before_cursor_execute", lambda _, __, statement, *___: note(statement))
    event.listen(engine.sync_engine, *listener)
    try:
        with pytest.MonkeyPatch.context() as patched:
            # SQLAlchemy's come as prepared statements, by neither of these.
            for name in ("execute", "fetch"):
                patched.setattr(StoreConnection, name, noting(name))
            yield seen
    finally:
        event.remove(engine.sync_engine, *listener)
