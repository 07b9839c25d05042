"""Keeps sagas in memory, for tests: rows, history and messages of one transaction at a time."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any

from mqkit.checks.checked import Seconds, as_seconds
from mqkit.clock import Clock
from mqkit.errors import StoreConflictError
from mqkit.message import Message
from mqkit.publishing.outgoing import Outgoing, to_message
from mqkit.registration.sagas import SagaEntry, SagaRow
from mqkit.topology import Exchange

_OPTIONS = frozenset(each.name for each in fields(Outgoing))


@dataclass(frozen=True, slots=True)
class Published:
    """A message that a saga published in a test."""

    exchange: str
    routing_key: str
    body: Any
    """The object that was given."""
    message_id: str
    at: datetime
    """When it was published."""
    due: datetime
    """When it is to come: later than `at` with a delay."""
    message: Message
    """As it would be written, with its properties and its body's bytes."""
    key: str | None = None

    @property
    def delay(self) -> float:
        """Seconds for which the broker holds it."""
        return (self.due - self.at).total_seconds()


class MemoryStore:
    """Holds the rows of sagas and their histories."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.rows: dict[tuple[str, str], SagaRow] = {}
        self.history: list[SagaEntry] = []


class MemoryTransaction:
    """A transaction of a `MemoryStore`: nothing of it is there before `commit`."""

    __mqkit_runtime_provided__ = True
    __mqkit_asynchronous__ = True
    __mqkit_transaction__ = True

    def __init__(self, store: MemoryStore, on_publish: Callable[[Published], None]) -> None:
        """Begin.

        :param on_publish: takes each message, once it is committed
        """
        self._store = store
        self._on_publish = on_publish
        self._rows = dict(store.rows)
        self._history: list[SagaEntry] = []
        self.messages: list[Published] = []
        self.new_id = uuid.uuid4

    @property
    def saga_rows(self) -> MemoryTransaction:
        """Where sagas are kept: here."""
        return self

    def now(self) -> datetime:
        """Return the time by the test's clock."""
        return self._store.clock()

    async def find(self, name: str, saga_id: str) -> SagaRow | None:
        """Return a saga, or None."""
        return self._rows.get((name, saga_id))

    async def insert(self, row: SagaRow, entry: SagaEntry, *, keep: float | None) -> None:  # noqa: ARG002
        """Write a new saga.

        :raises StoreConflictError: it is there
        """
        if (row.name, row.id) in self._rows:
            raise StoreConflictError(f"saga {row.name} {row.id!r} is there already")
        self._rows[row.name, row.id] = row
        self._history.append(entry)

    async def update(self, row: SagaRow, entry: SagaEntry, *, keep: float | None) -> None:  # noqa: ARG002
        """Write the next version of a saga.

        :raises StoreConflictError: it is not the one that was read
        """
        if self._rows[row.name, row.id].version != row.version - 1:
            raise StoreConflictError(f"saga {row.name} {row.id!r} was changed meanwhile")
        self._rows[row.name, row.id] = row
        self._history.append(entry)

    async def note(self, entry: SagaEntry) -> None:
        """Add an entry to a saga's history."""
        self._history.append(entry)

    async def publish(
        self,
        exchange: Exchange | str,
        routing_key: str,
        body: object,
        *,
        key: str | None = None,
        delay: Seconds | None = None,
        at: datetime | None = None,
        **options: Any,
    ) -> str:
        """Check a message as a store's transaction does, and keep it until the commit.

        :raises InvalidMessageError: it cannot be sent
        """
        now = self.now()
        outgoing = Outgoing(exchange, routing_key, body, delay=delay, at=at, **options)
        message = to_message(outgoing, None, now, new_id=self.new_id, clock=self._store.clock)
        due = now if at is None else max(at, now)
        if delay is not None:
            due = now + timedelta(seconds=as_seconds(delay) or 0.0)
        published = Published(
            message.exchange,
            routing_key,
            body,
            message.properties.message_id or "",
            now,
            due,
            message,
            key,
        )
        self.messages.append(published)
        return published.message_id

    def commit(self) -> None:
        """Let all see what was done."""
        self._store.rows = self._rows
        self._store.history.extend(self._history)
        for each in self.messages:
            self._on_publish(each)


def entries(store: MemoryStore, name: str, saga_id: str) -> Iterator[SagaEntry]:
    """Return the history of a saga."""
    return (each for each in store.history if (each.name, each.id) == (name, saga_id))
