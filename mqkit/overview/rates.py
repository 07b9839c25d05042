"""Works out rates from what a process has counted at several times. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mqkit.observability.states.state import State

RATE_OVER = 10.0
"""Seconds over which messages a second are counted."""

SHARE_OVER = 60.0
"""Seconds over which failures and the length of runs are counted."""

KEPT = SHARE_OVER + 10.0

ENDS = 2
"""Of a span: what a process said last, and once before, is kept for as long as it lives."""

Count = Callable[[State], float]
"""Reads a counter of a state; it only rises, and is 0 where a process starts."""


class History:
    """Keeps what each process has said in the last minute, by its id, the oldest first.

    A process that was started again has another id, so that its counters never fall.
    """

    def __init__(self) -> None:
        self._said: dict[str, deque[State]] = {}

    def add(self, state: State) -> None:
        """Keep what a process says."""
        said = self._said.setdefault(state.id, deque())
        if said and state.up <= said[-1].up:
            return  # it came twice, or late
        said.append(state)
        while len(said) > ENDS and state.up - said[0].up > KEPT:
            said.popleft()

    def of(self, process: str) -> Sequence[State]:
        """Return what a process has said."""
        return self._said.get(process, ())

    def keep_only(self, processes: Sequence[str]) -> None:
        """Forget all others."""
        for each in self._said.keys() - set(processes):
            del self._said[each]


@dataclass(frozen=True, slots=True)
class Span:
    """What a process had said at the beginning and at the end of some seconds."""

    first: State | None
    """None: it began then, and had counted nothing."""
    last: State
    seconds: float

    def rise(self, count: Count) -> float:
        """Return by how much a counter has risen."""
        before = 0.0 if self.first is None else count(self.first)
        return max(count(self.last) - before, 0.0)

    def per_second(self, count: Count) -> float:
        """Return how much a counter has risen a second; 0 where that is not known yet."""
        return self.rise(count) / self.seconds if self.seconds > 0 else 0.0


def latest(said: Sequence[State], within: float) -> Span:
    """Return the last seconds of what a process has said.

    :param said: the oldest first; one state at least
    :param within: how many seconds are asked for; it may be less that is known, and more where it
        speaks, or is listened to, less often
    """
    last = said[-1]
    if last.up <= within:
        return Span(None, last, last.up)  # it has only just started
    first = next(each for each in said if last.up - each.up <= within)
    if first is last and len(said) > 1:
        first = said[-2]
    return Span(first, last, last.up - first.up)
