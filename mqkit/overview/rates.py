"""Works out rates from what a process has counted at several times. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import sub
from typing import NamedTuple

from mqkit.observability.states.state import HandlerState, State

RATE_OVER = 10.0
"""Seconds over which messages a second are counted."""

SHARE_OVER = 60.0
"""Seconds over which failures and the length of runs are counted."""

KEPT = SHARE_OVER + 10.0

ENDS = 2
"""Of a span: what a process said last, and once before, is kept for as long as it lives."""


class HandlerCounts(NamedTuple):
    """What a handler had counted at one time."""

    settled: int
    failed: int
    acked: int
    runs: int
    seconds: float


NO_COUNTS = HandlerCounts(0, 0, 0, 0, 0.0)
"""What a handler has counted when its process begins."""

Handler = tuple[str, str]
"""A handler's name, and its queue's."""


@dataclass(frozen=True, slots=True)
class Counted:
    """What a process had counted at one time: what rates are worked out from, and nothing else.

    Kept in the place of states, which are many times as large.
    """

    up: float
    """Seconds since its start."""
    settled: int
    published: int
    handlers: Mapping[Handler, HandlerCounts]


def counted(state: State) -> Counted:
    """Return what a process has counted by what it says."""
    handlers = {(each.handler, each.queue): _counts_of(each) for each in state.handlers}
    return Counted(state.up, state.settled, sum(state.published.values()), handlers)


def _counts_of(state: HandlerState) -> HandlerCounts:
    return HandlerCounts(state.settled, state.failed, state.acked, state.runs, state.seconds)


Count = Callable[[Counted], float]
"""Reads a counter; it only rises, and is 0 where a process starts."""


class History:
    """Keeps what each process has counted in the last minute, by its id, the oldest first.

    A process that was started again has another id, so that its counters never fall.
    """

    def __init__(self) -> None:
        self._said: dict[str, deque[Counted]] = {}

    def add(self, state: State) -> None:
        """Keep what a process says that it has counted."""
        said = self._said.setdefault(state.id, deque())
        if said and state.up <= said[-1].up:
            return  # it came twice, or late
        said.append(counted(state))
        while len(said) > ENDS and state.up - said[0].up > KEPT:
            said.popleft()

    def of(self, process: str) -> Sequence[Counted]:
        """Return what a process has counted."""
        return self._said.get(process, ())

    def keep_only(self, processes: Sequence[str]) -> None:
        """Forget all others."""
        for each in self._said.keys() - set(processes):
            del self._said[each]


@dataclass(frozen=True, slots=True)
class Span:
    """What a process had counted at the beginning and at the end of some seconds."""

    first: Counted | None
    """None: it began then, and had counted nothing."""
    last: Counted
    seconds: float

    def rise(self, count: Count) -> float:
        """Return by how much a counter has risen."""
        before = 0.0 if self.first is None else count(self.first)
        return max(count(self.last) - before, 0.0)

    def per_second(self, count: Count) -> float:
        """Return how much a counter has risen a second; 0 where that is not known yet."""
        return self.rise(count) / self.seconds if self.seconds > 0 else 0.0

    def risen(self, handler: Handler) -> HandlerCounts:
        """Return by how much a handler's counters have risen."""
        last = self.last.handlers.get(handler, NO_COUNTS)
        first = NO_COUNTS if self.first is None else self.first.handlers.get(handler, NO_COUNTS)
        risen = HandlerCounts(*map(sub, last, first))
        return risen if min(risen) >= 0 else HandlerCounts._make(map(max, risen, NO_COUNTS))

    def settled_per_second(self, handler: Handler) -> float:
        """Return how many deliveries a handler has settled a second."""
        if self.seconds <= 0:
            return 0.0
        last = self.last.handlers.get(handler, NO_COUNTS).settled
        if self.first is None:
            return last / self.seconds
        first = self.first.handlers.get(handler, NO_COUNTS).settled
        return max(last - first, 0) / self.seconds


def latest(said: Sequence[Counted], within: float) -> Span:
    """Return the last seconds of what a process has counted.

    :param said: the oldest first; one at least
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
