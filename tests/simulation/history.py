"""What happened in a schedule, as its handlers and publishers saw it: what the checker judges."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from mqkit import Delivery
from tests.simulation.simulated.loop import PROCESS, Loop

CONFIRMED, UNKNOWN, REFUSED, PENDING = "confirmed", "unknown", "refused", "pending"
"""What a publisher knows of a message: it is stored, it may be, it is not; it has not ended."""


@dataclass
class Run:
    """One run of a handler for one message."""

    name: str
    attempt: int
    process: str
    began: float
    ended: float | None = None
    key: str | int | float = ""
    lost: bool = False
    """Whether its message was given back with its channel before it began."""
    how: str = ""
    """How it ended: 'done', or what it raised; '' if it never did."""


@dataclass
class History:
    """What happened, in its order."""

    loop: Loop
    published: dict[str, str] = field(default_factory=dict)
    runs: list[Run] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    met: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Which fault came while what was going on."""
    excused: set[str] = field(default_factory=set)
    """Messages that somebody deleted, with their queue."""
    problems: list[str] = field(default_factory=list)
    replies: dict[str, str] = field(default_factory=dict)
    given_at: dict[str, float] = field(default_factory=dict)
    """When each message was first given to its publisher."""
    known_at: dict[str, float] = field(default_factory=dict)
    """When its publisher last heard of it."""
    is_down: bool = False
    """Whether what handlers depend on is down now."""
    cut_short: bool = False
    """Whether a stop took all its time: what was under way then is given back, and comes again."""
    quiet_after: float = 0.0
    """Seconds from the last fault until all had ended."""

    def is_over(self, name: str) -> bool:
        """Tell whether a message has been done, or was never stored."""
        return self.published.get(name) == REFUSED or self.done[name] > 0

    def begin(self, name: str, delivery: Delivery, key: str | float = "") -> Run:
        """Note that a run begins."""
        attempt, now = delivery.attempt, self.loop.time()
        run = Run(name, attempt, str(PROCESS.get()), now, key=key, lost=delivery.lost)
        self.runs.append(run)
        self.loop.note(f"run {name} {attempt} in {run.process}")
        return run

    def end(self, run: Run, how: str) -> None:
        """Note how a run ended."""
        run.ended, run.how = self.loop.time(), how
        self.loop.note(f"{how} {run.name} {run.attempt}")

    def publish(self, name: str, how: str) -> None:
        """Note what is known of a message by who publishes it."""
        self.published[name] = how
        self.given_at.setdefault(name, self.loop.time())
        self.known_at[name] = self.loop.time()
        self.loop.note(f"publish {name}: {how}")

    def problem(self, text: str) -> None:
        """Note what must not be."""
        self.problems.append(text)
        self.loop.note(f"PROBLEM {text}")

    def problem_of_each(self, texts: Iterable[str]) -> None:
        """Note all that must not be."""
        for text in texts:
            self.problem(text)

    @property
    def done(self) -> Counter[str]:
        """How many runs of each message ended well."""
        return Counter(run.name for run in self.runs if run.how == "done")
