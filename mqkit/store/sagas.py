"""Keeps sagas and their histories: what `Transaction.saga_rows` does, and what is told of them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Select, bindparam, insert, select, update
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

_ROW = tuple(sagas.c[name] for name in SagaRow.__slots__)
_ENTRY = tuple(saga_history.c[name] for name in SagaEntry.__slots__)


@dataclass(frozen=True, slots=True)
class SagaStory:
    """A saga, and all that its messages brought about, in order."""

    saga: SagaRow
    history: tuple[SagaEntry, ...]


class StoredSagas:
    """Reads and writes sagas in the transaction of a message: `SagaRows`."""

    def __init__(
        self, connection: Callable[[], AsyncConnection], dialect: Dialect, clock: Clock
    ) -> None:
        """Read nothing yet.

        :param connection: gives the transaction's connection, and raises once it is over
        """
        self._connection = connection
        self._dialect = dialect
        self._clock = clock

    def now(self) -> datetime:
        """Return the time by the store's clock."""
        return self._clock()

    async def find(self, name: str, saga_id: str) -> SagaRow | None:
        """Return a saga, which no other transaction may change until this one ends; or None."""
        with self._ours() as connection:
            # Locked: who comes second waits, and sees what the first one left. SQLite has but one
            # transaction that writes, and ignores it.
            found = await connection.execute(_by_id(name, saga_id).with_for_update())
            row = found.one_or_none()
        return None if row is None else SagaRow(*row)

    async def insert(self, row: SagaRow, *, keep: float | None) -> None:
        """Write a new saga.

        :raises StoreConflictError: another message has started it meanwhile
        """
        values, given = self._values(row, keep)
        new = self._dialect.insert(sagas).values(values).on_conflict_do_nothing()
        with self._ours() as connection:
            result = await connection.execute(new, given)
        if result.rowcount != 1:
            raise _conflict(row, "started")

    async def update(self, row: SagaRow, *, keep: float | None) -> None:
        """Write the next version of a saga.

        :raises StoreConflictError: another message has changed it meanwhile
        """
        values, given = self._values(row, keep)
        mine = (sagas.c.name == row.name) & (sagas.c.id == row.id)
        before = update(sagas).where(mine, sagas.c.version == row.version - 1)
        with self._ours() as connection:
            result = await connection.execute(before.values(values), given)
            if result.rowcount != 1:
                raise _conflict(row, "changed")
            if keep is not None:
                await self._keep_history(connection, row, keep)

    async def note(self, entry: SagaEntry) -> None:
        """Add an entry to the history of a saga that is there."""
        values = {name: getattr(entry, name) for name in SagaEntry.__slots__}
        values["message_id"] = writable(entry.message_id)
        values["message_type"] = writable(entry.message_type)
        kept = select(sagas.c.keep_until).where(sagas.c.name == entry.name, sagas.c.id == entry.id)
        values["keep_until"] = kept.scalar_subquery()
        with self._ours() as connection:
            await connection.execute(insert(saga_history).values(values))

    def _values(self, row: SagaRow, keep: float | None) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the columns of a row, and the parameters of the statement that writes them."""
        values: dict[str, Any] = {name: getattr(row, name) for name in SagaRow.__slots__}
        if keep is None:
            return values, {}
        return values | dict(self._kept(keep)), self._given(keep)

    def _kept(self, keep: float) -> dict[str, Any]:
        columns = self._dialect.kept_columns(sagas)
        return dict(columns) or {"keep_until": self._clock() + timedelta(seconds=keep)}

    def _given(self, keep: float) -> dict[str, Any]:
        return {"keep": timedelta(seconds=keep)} if self._dialect.kept_columns(sagas) else {}

    async def _keep_history(self, connection: AsyncConnection, row: SagaRow, keep: float) -> None:
        mine = (saga_history.c.name == row.name) & (saga_history.c.id == row.id)
        await connection.execute(
            update(saga_history).where(mine).values(self._kept(keep)), self._given(keep)
        )

    @contextlib.contextmanager
    def _ours(self) -> Iterator[AsyncConnection]:
        """Lend the connection for statements of mqkit's, not of the handler's."""
        connection = self._connection()
        watch = watch_of(connection)
        before, watch.of_handler = watch.of_handler, False
        try:
            yield connection
        finally:
            watch.of_handler = before


def _by_id(name: str, saga_id: str) -> Select[Any]:
    return select(*_ROW).where(sagas.c.name == name, sagas.c.id == saga_id)


def _conflict(row: SagaRow, done: str) -> StoreConflictError:
    error = StoreConflictError(
        f"saga {row.name} {row.id!r} was {done} by another message at the same time; this one is "
        "handled anew"
    )
    error.wait = conflict_wait()
    return error


async def saga_list(
    database: Database, *, name: str | None, status: str | None, limit: int
) -> list[SagaRow]:
    """Return sagas, the ones that changed last first.

    :raises StoreError: there are no tables of sagas
    :raises StoreUnavailableError: the database is away
    """
    database.check_sagas()
    query = select(*_ROW).order_by(sagas.c.updated_at.desc(), sagas.c.name, sagas.c.id)
    if name is not None:
        query = query.where(sagas.c.name == writable(name))
    if status is not None:
        query = query.where(sagas.c.status == status)
    async with database.reading() as connection:
        return [SagaRow(*row) for row in await connection.execute(query.limit(limit))]


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
