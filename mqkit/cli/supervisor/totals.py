"""Counts what a service has done, in each process, and sums it over all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace

from mqkit.message import Delivery, Message
from mqkit.middleware import Observer
from mqkit.outcome import Ack, DeadLetter, Lost, Outcome, Requeue, RetryAfter


@dataclass(frozen=True, slots=True)
class Settled:
    """Counts deliveries by their outcome; a message that was retried counts for each delivery."""

    acked: int = 0
    retried: int = 0
    dead_lettered: int = 0
    requeued: int = 0
    """Given back: the service stopped before they were handled, or its handler paused."""
    lost: int = 0
    """Their channel died before they were settled; the broker delivers them again."""

    def __add__(self, other: Settled) -> Settled:
        return Settled(
            *(getattr(self, each.name) + getattr(other, each.name) for each in fields(Settled))
        )

    def __str__(self) -> str:
        named = [(each.name.replace("_", "-"), getattr(self, each.name)) for each in fields(self)]
        return ", ".join(f"{count} {name}" for name, count in named if count) or "none"


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums up what a service has done since it was started; `+` adds those of processes."""

    handlers: Mapping[str, Settled] = field(default_factory=dict)
    """By the handler's name; those that have settled anything."""
    published: int = 0
    """Messages that the service's publisher had confirmed, copies of deliveries among them."""
    in_flight: int = 0
    """Deliveries whose handler ran, or whose outcome was being settled, when it was counted."""
    restarts: int = 0
    """Processes that a supervisor started in the place of one that had ended."""

    @property
    def settled(self) -> Settled:
        """The sum over all handlers."""
        return sum(self.handlers.values(), Settled())

    def __add__(self, other: Totals) -> Totals:
        names = dict.fromkeys([*self.handlers, *other.handlers])
        none = Settled()
        return Totals(
            {n: self.handlers.get(n, none) + other.handlers.get(n, none) for n in names},
            self.published + other.published,
            self.in_flight + other.in_flight,
            self.restarts + other.restarts,
        )

    def at_rest(self) -> Totals:
        """Return the same for a process that has ended: nothing is in flight any more."""
        return replace(self, in_flight=0)

    def __str__(self) -> str:
        handlers = [f"{name}: {settled}" for name, settled in sorted(self.handlers.items())]
        return "; ".join(
            [
                *(handlers or ["none settled"]),
                f"published: {self.published}",
                f"in flight: {self.in_flight}",
                f"restarts: {self.restarts}",
            ]
        )


class Tally(Observer):
    """Counts what a service does in one process."""

    def __init__(self) -> None:
        self._settled: Counter[tuple[str, type[Outcome]]] = Counter()
        self._published = 0

    def settled(self, handler: str, delivery: Delivery, outcome: Outcome) -> None:  # noqa: ARG002
        """Count a delivery that was settled."""
        self._settled[handler, type(outcome)] += 1

    def confirmed(self, message: Message) -> None:  # noqa: ARG002 - the number is all
        """Count a message that was published."""
        self._published += 1

    def totals(self, in_flight: int = 0) -> Totals:
        """Return what has been counted."""
        kinds = (Ack, RetryAfter, DeadLetter, Requeue, Lost)
        handlers = {
            name: Settled(*(self._settled[name, kind] for kind in kinds))
            for name in dict.fromkeys(name for name, _ in self._settled)
        }
        return Totals(handlers, self._published, in_flight)
