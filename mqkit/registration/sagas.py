"""What joins sagas, a service and its store: rows, and the protocols of those who keep them.

`mqkit.sagas` declares and runs sagas, `mqkit.store` keeps them; neither knows the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from mqkit.errors import HandlerError
from mqkit.topology import Queue

SAGA = "__mqkit_saga__"
"""A class with this method is a saga: it returns its name, and the handlers to register."""


@dataclass(frozen=True, slots=True)
class SagaRow:
    """What is kept of a saga."""

    name: str
    id: str
    version: int
    """How often it was written: each change is one to the version that it was read with."""
    state_version: int
    """The version of the class that wrote its state."""
    status: str
    state: str
    """Its state, as JSON."""
    progress: str
    """Its timeouts, its steps that are done and what it compensates, as JSON."""
    started_at: datetime
    updated_at: datetime
    completed_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class SagaEntry:
    """One entry of a saga's history: a message that came, and what it brought about."""

    name: str
    id: str
    at: datetime
    handler: str
    message_id: str
    message_type: str
    result: str
    """`ran`, or why it did nothing."""
    status: str
    """The saga's status after it."""
    changes: str
    """The fields of the state that it changed, with what they are now, as JSON."""
    published: str
    """The messages that it published, as JSON."""


class SagaRows(Protocol):
    """Keeps sagas within one transaction: what a store's transaction has as `saga_rows`."""

    def now(self) -> datetime:
        """Return the time by the store's clock."""
        ...

    async def find(self, name: str, saga_id: str) -> SagaRow | None:
        """Return a saga, which no other transaction may change until this one ends; or None."""
        ...

    async def insert(self, row: SagaRow, entry: SagaEntry, *, keep: float | None) -> None:
        """Write a new saga, and the first entry of its history.

        :param keep: seconds from now for which it is kept; None is until it is completed
        :raises StoreConflictError: another message has started it meanwhile
        """
        ...

    async def update(self, row: SagaRow, entry: SagaEntry, *, keep: float | None) -> None:
        """Write the next version of a saga, one more than what was read, and an entry.

        :raises StoreConflictError: another message has changed it meanwhile
        """
        ...

    async def note(self, entry: SagaEntry) -> None:
        """Add an entry to the history of a saga that is there."""
        ...


class SagaTransaction(Protocol):
    """What a saga needs of the transaction that its message is handled in."""

    @property
    def saga_rows(self) -> SagaRows:
        """Where sagas are kept, within this transaction."""
        ...

    @property
    def publish(self) -> Callable[..., Any]:
        """`Transaction.publish`."""
        ...

    @property
    def new_id(self) -> Callable[[], object]:
        """Makes an id that nothing else has."""
        ...


@dataclass(frozen=True, slots=True)
class SagaHandler:
    """A handler that a saga has for one kind of message."""

    function: Callable[..., Any]
    queue: Queue
    options: Mapping[str, Any]
    """Those of `Service.handler`."""


def handlers_of(
    saga: Any, store: Any, service: str, known: dict[str, Any]
) -> Iterable[SagaHandler]:
    """Return the handlers of a saga, for a service with this store.

    :param known: the sagas that it has already, by their names, to which this one is added
    :raises HandlerError: it is no saga, or one that cannot work; or the store keeps none
    """
    declared = getattr(saga, SAGA, None)
    if not isinstance(saga, type) or not callable(declared):
        raise HandlerError(
            f"service {service!r}: saga takes a class derived from mqkit.sagas.Saga, not {saga!r}"
        )
    if store is None:
        raise HandlerError(
            f"saga {saga.__qualname__}: a store keeps its state, and service {service!r} has "
            "none; say Service(..., store=Store(...))"
        )
    keep_sagas = getattr(store, "keep_sagas", None)
    if keep_sagas is None:
        raise HandlerError(
            f"saga {saga.__qualname__}: the store of service {service!r} keeps no sagas; say "
            "Service(..., store=Store(...)), with mqkit.store.Store"
        )
    name, handlers = declared(keep_sagas())
    if (other := known.setdefault(name, saga)) is not saga:
        raise HandlerError(
            f"saga {saga.__qualname__}: its name, {name!r}, is that of {other.__qualname__}, and "
            "they would share their states; give each a name of its own"
        )
    found: Iterable[SagaHandler] = handlers
    return found
