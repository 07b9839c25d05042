"""Asks a service's store for what its outbox holds, and moves its clock."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from mqkit.logging.shown import shown
from mqkit.testing.harness.journeys import MAX_DESCRIBED

if TYPE_CHECKING:
    # What imports SQLAlchemy is for services with a store only.
    from mqkit.store.outbox import Unpublished

FOLLOWED = 8
"""Refusals of a message after which `advance` does not stop at each of its attempts any more: they
are a minute apart then, and a day has 1,440."""


@runtime_checkable
class HasOutbox(Protocol):
    """A store with an outbox, as a harness uses it: `mqkit.store.Store`."""

    @property
    def relays(self) -> bool:
        """Whether its service runs a relay."""
        ...

    async def unpublished(self) -> Sequence[Unpublished]:
        """List what waits to be published."""
        ...

    def advance(self, seconds: float) -> None:
        """Move the store's clock."""
        ...


class Outbox:
    """The outbox of a service's store; without a store it is empty."""

    def __init__(self, store: object) -> None:
        self._store = store if isinstance(store, HasOutbox) else None
        self._moved = 0.0

    async def all(self) -> Sequence[Unpublished]:
        """List what is not published, the oldest first."""
        return [] if self._store is None else await self._store.unpublished()

    async def due(self) -> Sequence[Unpublished]:
        """List what may be published now, and is not yet."""
        return [each for each in await self.all() if each.wait <= 0]

    async def next_wait(self) -> float | None:
        """Return the seconds until the next refused message is tried again; None if none is."""
        waits = [each.wait for each in await self.all() if each.attempts <= FOLLOWED]
        return min((wait for wait in waits if wait > 0), default=None)

    def advance(self, seconds: float) -> None:
        """Move the clock of the store."""
        if self._store is not None:
            self._store.advance(seconds)
            self._moved += seconds

    def put_back(self) -> None:
        """Put the clock of the store back to where it was, for what uses it next."""
        self.advance(-self._moved)

    def describe(self, messages: Sequence[Unpublished]) -> str:
        """Say what is not published, for a person."""
        found = [_described(each) for each in messages[:MAX_DESCRIBED]]
        if len(messages) > MAX_DESCRIBED:
            found.append(f"and {len(messages) - MAX_DESCRIBED} more")
        if self._store is not None and not self._store.relays:
            found.append("no relay runs in this service, by Store(relay=False)")
        return "; ".join(found)


def _described(message: Unpublished) -> str:
    what = (
        f"message {shown(message.message_id)} in the outbox, to exchange {message.exchange!r} with "
        f"routing key {message.routing_key!r}"
    )
    if message.error is not None:
        return (
            f"{what}: refused {message.attempts} times ({message.error}), tried again in "
            f"{message.wait:,.1f} s"
        )
    if message.wait > 0:
        return f"{what}: waits for one of its key, for {message.wait:,.1f} s"
    return f"{what}: committed, and not published yet"
