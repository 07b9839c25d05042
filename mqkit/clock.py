"""The clock that a service reads, and the form in which mqkit's headers have a time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """Return the time of the wall clock, in UTC."""
    return datetime.now(UTC)


def stamp(moment: datetime) -> str:
    """Write a time as mqkit's headers have it: ISO 8601, in UTC, with milliseconds."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")
