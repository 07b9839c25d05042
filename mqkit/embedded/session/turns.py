"""Limits what a connection may do before others have their turn."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator


class Turn:
    """The time of one turn, and a piece of work that may take several."""

    def __init__(self, seconds: float | None, now: Callable[[], float]) -> None:
        """Start without work.

        :param seconds: how long a turn is; None is as long as it takes
        :param now: the seconds that pass meanwhile
        """
        self._seconds = seconds
        self._now = now
        self._until = math.inf
        self._work: Iterator[None] | None = None

    def begin(self) -> None:
        """Count the turn's time from now."""
        if self._seconds is not None:
            self._until = self._now() + self._seconds

    @property
    def is_over(self) -> bool:
        """True once the time is over."""
        return self._now() > self._until

    def carry_on(self, work: Iterator[None]) -> None:
        """Do this work before anything else; each step of it is short."""
        self._work = work

    def worked(self) -> bool:
        """Go on with the work; False if the turn is over before it is done."""
        while self._work is not None:
            if next(self._work, self) is self:
                self._work = None
            elif self.is_over:
                return False
        return True

    def finish(self) -> None:
        """Do all that is left of the work, at once."""
        work, self._work = self._work, None
        for _ in work or ():
            pass
