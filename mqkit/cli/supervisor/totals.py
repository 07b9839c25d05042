"""Sums up what a service has done in each process, and over all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace

from mqkit.observability.metrics.results import CONFIRMED
from mqkit.observability.states.tally import Tally


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


def totals_of(tally: Tally, in_flight: int = 0) -> Totals:
    """Return what has been counted in this process, by handler."""
    handlers: dict[str, Settled] = {}
    for (name, _), counted in tally.counted:
        settled = Settled(*(getattr(counted, each.name) for each in fields(Settled)))
        if settled != Settled():
            handlers[name] = handlers.get(name, Settled()) + settled
    return Totals(handlers, tally.published.get(CONFIRMED, 0), in_flight)
