"""Says the same thing in the log once in a while, with how often it would have been said."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable

EVERY = 60.0
"""Seconds between two lines of one cause."""

MAX_CAUSES = 1_000
"""Causes to tell apart; the one that was told of longest ago is forgotten first."""


class LogThrottle:
    """Counts what happens by its cause, and tells when a line of it is due."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._causes: OrderedDict[Hashable, tuple[float, int]] = OrderedDict()

    def due(self, cause: Hashable, count: int = 1) -> int:
        """How many to tell of now, with those that were not told of before; 0: nothing yet."""
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
