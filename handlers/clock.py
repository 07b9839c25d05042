"""The clock that services read, provided to their handlers so that a test can give another."""

from __future__ import annotations

import datetime as dt


class Clock:
    """Gives the current time."""

    def now(self) -> dt.datetime:
        """Return the time of the wall clock, in UTC."""
        return dt.datetime.now(dt.UTC)
