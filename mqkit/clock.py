"""The clocks that a service reads, and the form in which mqkit's headers have a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """Return the time of the wall clock, in UTC."""
    return datetime.now(UTC)


def stamp(moment: datetime) -> str:
    """Write a time as mqkit's headers have it: ISO 8601, in UTC, with milliseconds."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")


def loop_clock() -> Callable[[], float]:
    """Return what reads the seconds of the running event loop, which never go back.

    asyncio's own loops and uvloop have the system's monotonic clock, which is read directly:
    uvloop's `time` stands still while callbacks run, and a turn could not be measured with it. Any
    other loop has a time of its own, a simulated one. Without a running loop it is the system's.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return time.monotonic
    kind = type(loop)
    is_real = getattr(kind, "time", None) is asyncio.BaseEventLoop.time
    return time.monotonic if is_real or kind.__module__.startswith("uvloop") else loop.time


def monotonic() -> float:
    """Read the clock that `loop_clock` returns; for what is not read for each message."""
    return loop_clock()()
