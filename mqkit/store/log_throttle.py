"""Logs what happens often only once a minute, with how often it has happened."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable

from mqkit.clock import loop_clock

EVERY = 60.0
"""Seconds between two lines of one cause."""

MAX_CAUSES = 1_000
"""Causes to tell apart; the one that was told of longest ago is forgotten first."""


class LogThrottle:
    """Counts occurrences by their cause, and tells when one is to be logged."""

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        self._clock = clock or loop_clock()
        self._causes: OrderedDict[Hashable, tuple[float, int]] = OrderedDict()

    def due(self, cause: Hashable, count: int = 1) -> int:
        """Count an occurrence; return how many to log now, with those not logged before, or 0."""
        now = self._clock()
        told_at, untold = self._causes.get(cause, (float("-inf"), 0))
        if now - told_at < EVERY:
            self._causes[cause] = (told_at, untold + count)
            return 0
        self._causes.pop(cause, None)
        self._causes[cause] = (now, 0)
        if len(self._causes) > MAX_CAUSES:
            self._causes.popitem(last=False)
        return untold + count
