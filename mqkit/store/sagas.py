"""Keeps sagas and their histories: what `Transaction.saga_rows` does, and what is told of them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy import and_, bindparam, delete, func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from mqkit.clock import Clock
from mqkit.errors import StoreConflictError
from mqkit.registration.sagas import SagaEntry, SagaRow
from mqkit.store.database.dialects import Dialect
from mqkit.store.database.pool import Database
from mqkit.store.database.watch import watch_of
from mqkit.store.running.transient import conflict_wait
from mqkit.store.schema import saga_history, sagas
from mqkit.store.serialization import writable

PURGE_BATCH = 200
"""Sagas that one transaction of the purge deletes, each with its history."""

_ROW = tuple(sagas.c[name] for name in SagaRow.__slots__)
_KEY = (sagas.c.name, sagas.c.id)
_LAST_FIRST = (sagas.c.updated_at.desc(), *_KEY)
_ENTRY = tuple(saga_history.c[name] for name in SagaEntry.__slots__)


@dataclass(frozen=True, slots=True)
class SagaStory:
    """A saga, and all that its messages brought about, in order."""

    saga: SagaRow
    history: tuple[SagaEntry, ...]


class StoredSagas:
    """Reads and writes sagas in the transaction of a message: `SagaRows`."""

    def __init__(
        self,
        connection: Callable[[], AsyncConnection],
        dialect: Dialect,
        clock: Clock,
        flush: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Read nothing yet.

        :param connection: gives the transaction's connection, and raises once it is over
        :param flush: writes what the handler's session holds, with the settings of the handler
        """
        self._connection = connection
        self._flush = flush
        self._dialect = dialect
        self._statements = dialect.sagas
        self._clock = clock

    def now(self) -> datetime:
        """Return the time by the store's clock."""
        return self._clock()

    async def find(self, name: str, saga_id: str) -> SagaRow | None:
        """Return a saga, which no other transaction may change until this one ends; or None."""
        async with self._ours() as connection:
            return await self._statements.find(connection, name, saga_id)

    async def insert(self, row: SagaRow, entry: SagaEntry, *, keep: float | None) -> None:
        """Write a new saga, and the first entry of its history.

        :raises StoreConflictError: another message has started it meanwhile
        """
        await self._write(row, entry, keep, is_new=True)

    async def update(self, row: SagaRow, entry: SagaEntry, *, keep: float | None) -> None:
        """Write the next version of a saga, and an entry of its history.

        :raises StoreConflictError: another message has changed it meanwhile
        """
        await self._write(row, entry, keep, is_new=False)

    async def note(self, entry: SagaEntry) -> None:
        """Add an entry to the history of a saga that is there."""
        async with self._ours() as connection:
            await self._statements.note(connection, _writable(entry))

    async def _write(
        self, row: SagaRow, entry: SagaEntry, keep: float | None, *, is_new: bool
    ) -> None:
        async with self._ours() as connection:
            is_written = await self._statements.write(
                connection,
                row,
                _writable(entry),
                is_new=is_new,
                keep=None if keep is None else timedelta(seconds=keep),
                now=self._clock(),
            )
        if not is_written:
            error = StoreConflictError(
                f"saga {row.name} {row.id!r} was {'started' if is_new else 'changed'} by another "
                "message at the same time; this one is handled anew"
            )
            error.wait = conflict_wait()
            raise error

    @contextlib.asynccontextmanager
    async def _ours(self) -> AsyncIterator[AsyncConnection]:
        """Lend the connection for statements of mqkit's, not of the handler's."""
        connection = self._connection()
        watch = watch_of(connection)
        if watch.changed_settings and self._flush is not None:
            await self._flush()
        before, watch.of_handler = watch.of_handler, False
        try:
            if watch.changed_settings:
                await self._dialect.restore(connection)
            yield connection
        finally:
            watch.of_handler = before


def _writable(entry: SagaEntry) -> SagaEntry:
    """Escape what a database refuses of what others have written."""
    return replace(
        entry,
        message_id=writable(entry.message_id),
        message_type=writable(entry.message_type),
    )


async def purge_sagas(connection: AsyncConnection, dialect: Dialect, now: datetime) -> int:
    """Delete some of the sagas whose time is over, with their histories; return how many."""
    # A server goes by its own clock, as with what it is kept until.
    moment = func.now() if dialect.kept_columns(sagas) else now
    key = (sagas.c.name, sagas.c.id)
    over = select(*key).where(sagas.c.keep_until < moment).order_by(sagas.c.keep_until)
    found = await connection.execute(over.limit(PURGE_BATCH).with_for_update(skip_locked=True))
    keys = [tuple(each) for each in found]
    if keys:
        of_history = tuple_(saga_history.c.name, saga_history.c.id)
        await connection.execute(delete(saga_history).where(of_history.in_(keys)))
        await connection.execute(delete(sagas).where(tuple_(*key).in_(keys)))
    return len(keys)


async def saga_list(
    database: Database, *, name: str | None, status: str | None, limit: int, offset: int
) -> list[SagaRow]:
    """Return sagas, the ones that changed last first.

    :raises StoreError: there are no tables of sagas
    :raises StoreUnavailableError: the database is away
    """
    database.check_sagas()
    query = select(*_ROW).order_by(*_LAST_FIRST)
    if name is not None:
        query = query.where(sagas.c.name == writable(name))
    if status is not None:
        query = query.where(sagas.c.status == writable(status))
    # Their keys are sorted alone: with their states it takes several times as long.
    some = query.with_only_columns(*_KEY).limit(limit).offset(offset).subquery()
    is_one = and_(*(column == some.c[column.name] for column in _KEY))
    query = select(*_ROW).join(some, is_one).order_by(*_LAST_FIRST)
    async with database.reading() as connection:
        return [SagaRow(*row) for row in await connection.execute(query)]


async def saga_stories(
    database: Database,
    saga_id: str,
    *,
    name: str | None,
) -> list[SagaStory]:
    """Return the sagas of an id, one of each name, each with its history.

    :raises StoreError: there are no tables of sagas
    :raises StoreUnavailableError: the database is away
    """
    database.check_sagas()
    query = select(*_ROW).where(sagas.c.id == writable(saga_id)).order_by(sagas.c.name)
    if name is not None:
        query = query.where(sagas.c.name == writable(name))
    of_saga = select(*_ENTRY).where(
        saga_history.c.name == bindparam("name"), saga_history.c.id == bindparam("id")
    )
    found = []
    async with database.reading() as connection:
        for row in [SagaRow(*each) for each in await connection.execute(query)]:
            entries = await connection.execute(
                of_saga.order_by(saga_history.c.number), {"name": row.name, "id": row.id}
            )
            found.append(SagaStory(row, tuple(SagaEntry(*each) for each in entries)))
    return found
