"""A system's figures over all rounds."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field

FIGURES = {
    "publish_per_s": "publish /s",
    "handled_per_s": "handled /s",
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
    "p99_ms_at_peer_rate": "p99 ms at half of FastStream's peak",
    "rss_mib": "memory MiB",
    "cpu_us_per_message": "CPU µs a message",
    "start_s": "start s",
}
"""What a table shows, and its heading."""


@dataclass(frozen=True)
class Spread:
    """A figure's median and range."""

    median: float
    min: float
    max: float

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        """That of the rounds' values."""
        return cls(statistics.median(values), min(values), max(values))

    def __str__(self) -> str:
        digits = 0 if self.median >= 100 else 1 if self.median >= 10 else 2
        median, low, high = (f"{v:,.{digits}f}" for v in (self.median, self.min, self.max))
        if low == high:
            return median
        return f"{median} ({low} to {high})"


@dataclass
class Row:
    """One system, and what was measured of it in each round."""

    system: str
    title: str
    settings: str
    versions: dict[str, str]
    messages: int = 0
    body_bytes: int = 0
    """A body on the wire: what some systems wrap the message in comes on top of it."""
    samples: dict[str, list[float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, told: Mapping[str, float], *names: str) -> None:
        """Take a round's figures of these names, or all of them."""
        for name in names or told:
            self.samples.setdefault(name, []).append(told[name])

    def note(self, text: str) -> None:
        """Say what a reader must know of a figure."""
        self.notes.append(text)

    @property
    def last_peak(self) -> float:
        """What it could both publish and handle in the last round, in a second."""
        return min(self.samples["publish_per_s"][-1], self.samples["handled_per_s"][-1])

    def spread(self, name: str) -> Spread | None:
        """A figure over all rounds; None where it is not measured for this system."""
        values = self.samples.get(name)
        return Spread.of(values) if values else None

    def median(self, name: str) -> float | None:
        """The median of a figure."""
        spread = self.spread(name)
        return None if spread is None else spread.median

    def last_told(self) -> str:
        """The last round's figures in words."""
        last = {name: values[-1] for name, values in self.samples.items()}
        return (
            f"{last['publish_per_s']:,.0f}/s published, {last['handled_per_s']:,.0f}/s handled, "
            f"{last['p50_ms']:.1f} and {last['p99_ms']:.1f} ms, {last['cpu_us_per_message']:.0f} µs"
        )

    def plain(self) -> dict[str, object]:
        """For JSON."""
        spreads = {name: self.spread(name) for name in self.samples}
        return {
            "system": self.system,
            **{
                name: {"median": spread.median, "min": spread.min, "max": spread.max}
                for name, spread in spreads.items()
                if spread is not None
            },
            "messages": self.messages,
            "body_bytes": self.body_bytes,
            "settings": self.settings,
            "versions": self.versions,
            "notes": self.notes,
        }


RATIOS = {
    "publish_to_faststream": ("publish_per_s", "mqkit", "faststream"),
    "publish_to_go": ("publish_per_s", "mqkit", "go"),
    "publish_to_raw_pika": ("publish_per_s", "mqkit", "raw-pika"),
    "handled_to_faststream": ("handled_per_s", "mqkit", "faststream"),
    "handled_to_go": ("handled_per_s", "mqkit", "go"),
    "handled_to_raw_pika": ("handled_per_s", "mqkit", "raw-pika"),
    "p99_at_peer_rate_to_faststream": ("p99_ms_at_peer_rate", "mqkit", "faststream"),
}
"""Which figure of which system is divided by that of which other one."""


def ratios(rows: Mapping[str, Row]) -> dict[str, float]:
    """The medians of mqkit by those of others, as far as they were measured."""
    found = {}
    for name, (figure, one, other) in RATIOS.items():
        if one in rows and other in rows:
            mine, theirs = rows[one].median(figure), rows[other].median(figure)
            if mine is not None and theirs:
                found[name] = mine / theirs
    return found
