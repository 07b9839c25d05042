"""What a row found on a broker, and its verdict."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass, field

HOLDS, FAILS = "holds", "fails"


@dataclass
class Figures:
    """The figures of one row on one broker; seconds throughout."""

    row: int
    title: str
    broker: str
    messages: int = 0
    unknown: int = 0
    """Publishes that timed out: neither their arrival nor their absence is a failure."""
    faults: int = 0
    lost: int = 0
    """Confirmed messages that reached no end."""
    twice: int = 0
    """Messages with more than one effect, or with two different ends."""
    together: int = 0
    """Messages whose handler ran twice at the same time."""
    recoveries: list[float] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What a reader should know, and is no failure."""
    seconds: float = 0.0

    @property
    def verdict(self) -> str:
        """`holds`, unless anything was lost, had two effects, or was otherwise wrong."""
        return FAILS if self.problems or self.lost or self.twice else HOLDS

    @property
    def median(self) -> float | None:
        """The median recovery."""
        return statistics.median(self.recoveries) if self.recoveries else None

    @property
    def worst(self) -> float | None:
        """The longest recovery."""
        return max(self.recoveries, default=None)

    def plain(self) -> dict[str, object]:
        """For JSON."""
        own = asdict(self)
        recoveries = own.pop("recoveries")
        own["recovery"] = {"count": len(recoveries), "median": self.median, "worst": self.worst}
        return own | {"verdict": self.verdict}
