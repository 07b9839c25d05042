"""Holds all metrics of a process at one moment, and makes one of those of several processes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from mqkit.observability.metrics.families import BY_NAME, Kind

Labels = tuple[str, ...]
"""The service, and the values of the family's labels."""


@dataclass(frozen=True, slots=True)
class Number:
    """One counter or gauge."""

    name: str
    labels: Labels
    value: float


@dataclass(frozen=True, slots=True)
class Times:
    """One histogram of seconds."""

    name: str
    labels: Labels
    counts: tuple[int, ...]
    """How many were in each bucket, of which the last has all that is above the others."""
    seconds: float
    """All of them together."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All metrics of a process, as values that can be sent to another one."""

    numbers: tuple[Number, ...] = ()
    times: tuple[Times, ...] = ()
    bounds: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Upper bounds of the buckets, by the histogram's name."""

    @property
    def services(self) -> list[str]:
        """The services that it tells of."""
        return sorted({each.labels[0] for each in self.numbers})

    def at_rest(self) -> Snapshot:
        """Return what is left of a process that has ended: what it has counted."""
        counters = [each for each in self.numbers if BY_NAME[each.name].kind is Kind.COUNTER]
        return replace(self, numbers=tuple(counters))


def together(snapshots: Iterable[Snapshot]) -> Snapshot:
    """Make one snapshot of those of several processes of a service."""
    numbers: dict[tuple[str, Labels], list[float]] = {}
    times: dict[tuple[str, Labels], Times] = {}
    bounds: dict[str, tuple[float, ...]] = {}
    for snapshot in snapshots:
        bounds |= snapshot.bounds
        for number in snapshot.numbers:
            numbers.setdefault((number.name, number.labels), []).append(number.value)
        for each in snapshot.times:
            key = each.name, each.labels
            times[key] = _sum(times[key], each) if key in times else each
    return Snapshot(
        tuple(
            Number(name, labels, BY_NAME[name].together(values))
            for (name, labels), values in numbers.items()
        ),
        tuple(times.values()),
        bounds,
    )


def _sum(one: Times, other: Times) -> Times:
    counts = tuple(a + b for a, b in zip(one.counts, other.counts, strict=True))
    return replace(one, counts=counts, seconds=one.seconds + other.seconds)
