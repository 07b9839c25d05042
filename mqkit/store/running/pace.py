"""Finds how many transactions of a handler are worth having at a time.

Pure: it is told what runs took, and keeps no time of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

MEASURED = 30
"""Runs whose mean is compared with that of as many others."""

WORTH = 0.5
"""More at a time are kept where they gain so much of what they would, if none of them waited for
another one: twice as many, where messages are handled 1.5 times as fast."""

HOLD = 500
"""Runs after which what was of no use is tried again."""


@dataclass(slots=True)
class _Level:
    """A number of transactions at a time, and how long runs took with it."""

    at_a_time: int
    left_over: int = 0
    """Runs that began before, and say nothing of it."""
    runs: int = 0
    seconds: float = 0.0

    def ran(self, seconds: float) -> None:
        if self.left_over > 0:
            self.left_over -= 1
            return
        if self.runs >= 2 * MEASURED:  # the latest count
            self.runs, self.seconds = self.runs // 2, self.seconds / 2
        self.runs += 1
        self.seconds += seconds

    @property
    def is_measured(self) -> bool:
        return self.runs >= MEASURED

    @property
    def pace(self) -> float:
        """Return the runs in a second: those at a time by what one takes (Little's law)."""
        return self.at_a_time * self.runs / max(self.seconds, 1e-9)


class Pace:
    """Says how many at a time, and tries twice and half as many now and then.

    A run that waits for a bank takes as long, however many go on beside it, and more at a time are
    more in a second. One that waits for the processors, for a lock, or for a database that has all
    hands full, takes the longer the more of them go on, and nothing is gained: fewer at a time are
    the same work in fewer transactions, as more messages share one.
    """

    def __init__(self, first: int, most: int) -> None:
        """Begin with `first` transactions at a time, and go up to `most`."""
        self._first, self._most = min(first, most), most
        self._kept = _Level(self._first)
        self._tried: _Level | None = None
        self._hold_more = self._hold_fewer = 0

    @property
    def at_a_time(self) -> int:
        """Return how many may go on at the same time."""
        return (self._tried or self._kept).at_a_time

    def ran(self, seconds: float) -> None:
        """Note what a run took while others waited for their turn."""
        self._hold_more = max(0, self._hold_more - 1)
        self._hold_fewer = max(0, self._hold_fewer - 1)
        (self._tried or self._kept).ran(seconds)
        if self._tried is not None:
            if self._tried.is_measured:
                self._compare(self._kept, self._tried)
        elif not self._hold_fewer and self._kept.is_measured:
            self._try(max(self._kept.at_a_time // 2, self._first))

    def more(self) -> None:
        """Try twice as many, unless that was of no use just now."""
        if self._tried is None and not self._hold_more and self._kept.is_measured:
            self._try(min(2 * self._kept.at_a_time, self._most))

    def one_more(self) -> None:
        """Let one more go on for now: those that do may not end for long."""
        self._try(min(self.at_a_time + 1, self._most))

    def one_fewer(self) -> None:
        """Let one fewer go on from now on."""
        fewer = max(self.at_a_time - 1, self._first)
        if fewer != self.at_a_time:
            self._kept, self._tried = _Level(fewer, left_over=self.at_a_time), None

    def _try(self, at_a_time: int) -> None:
        before = self.at_a_time
        if at_a_time != before:
            self._tried = _Level(at_a_time, left_over=before)

    def _compare(self, kept: _Level, tried: _Level) -> None:
        self._tried = None
        is_more = tried.at_a_time > kept.at_a_time
        fewer, more = (kept, tried) if is_more else (tried, kept)
        gain = 1 + WORTH * (more.at_a_time / fewer.at_a_time - 1)
        more_is_better = not fewer.is_measured or more.pace >= gain * fewer.pace
        self._kept = more if more_is_better else fewer
        if more_is_better:
            self._hold_fewer = HOLD
        else:
            self._hold_more = HOLD
        if self._kept is kept:
            kept.left_over = tried.at_a_time
