"""The broker's clock: real time and an offset that can be moved by hand, with timers on it.

Everything that waits in a queue waits on this clock, so that an hour's delay is over as soon as
somebody says that an hour has passed. Heartbeats, which are between a client and the server's
sockets, stay on the event loop's own.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections.abc import Callable
from datetime import timedelta

MAX_ADVANCE = 1_000_000_000
"""Seconds, 31 years."""

CANCELLED_KEPT = 100
"""Cancelled timers that may wait for their time, before it is worth sorting them out."""


class Timer:
    """A call that is due at a time; `cancel` prevents it."""

    __slots__ = ("_callback", "_on_cancel", "due")

    def __init__(
        self, due: float, callback: Callable[[], None], on_cancel: Callable[[], None]
    ) -> None:
        self.due = due
        self._callback: Callable[[], None] | None = callback
        self._on_cancel = on_cancel

    @property
    def is_cancelled(self) -> bool:
        """True once it was cancelled or has run."""
        return self._callback is None

    def cancel(self) -> None:
        """Do not make the call. May be called twice."""
        if self._callback is not None:
            self._callback = None
            self._on_cancel()

    def run(self) -> None:
        """Make the call, once."""
        callback, self._callback = self._callback, None
        if callback is not None:
            callback()


def _of_loop() -> Callable[[], float]:
    """Return what reads the seconds of the running event loop; the system's where none runs.

    asyncio's own loops and uvloop have the system's, which is read directly: uvloop's stands still
    while callbacks run.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return time.monotonic
    kind = type(loop)
    is_real = getattr(kind, "time", None) is asyncio.BaseEventLoop.time
    return time.monotonic if is_real or kind.__module__.startswith("uvloop") else loop.time


class Clock:
    """Tells the time in seconds, and runs timers when they are due.

    `on_change` is called when the next timer may be due at another time than before; whoever
    drives the clock then asks `wait` anew.
    """

    def __init__(
        self,
        monotonic: Callable[[], float] | None = None,
        wall: Callable[[], float] | None = None,
    ) -> None:
        """Start at the real time, or at the running event loop's, where that has its own.

        :param monotonic: seconds that never go back; by default those of the running event loop
        :param wall: seconds since 1970; by default `time.time`, as it is now
        """
        # Looked up here, not where this is defined: whoever replaces them replaces them for this.
        monotonic, wall = monotonic or _of_loop(), wall or time.time
        self.on_change: Callable[[], None] = lambda: None
        self.unmoved = monotonic
        """What it goes by: the seconds that nobody moves by hand."""
        self._wall = wall
        self._offset = 0.0
        self._held: float | None = None
        self._timers: list[tuple[float, int, Timer]] = []
        self._numbers = itertools.count()
        self._cancelled = 0

    @property
    def timers(self) -> int:
        """How many timers are held; those that were cancelled and not yet sorted out count."""
        return len(self._timers)

    def now(self) -> float:
        """Return the seconds since some moment; they never go back."""
        return self.unmoved() + self._offset if self._held is None else self._held

    def wall(self) -> float:
        """Return the seconds since 1970, by as much ahead of the real ones as `now` is."""
        return self._wall() + (self.now() - self.unmoved())

    def call_at(self, due: float, callback: Callable[[], None]) -> Timer:
        """Make a call at `due`, in seconds of `now`."""
        timer = Timer(due, callback, self._was_cancelled)
        heapq.heappush(self._timers, (due, next(self._numbers), timer))
        if self._timers[0][2] is timer:
            self.on_change()
        return timer

    def wait(self) -> float | None:
        """Return the seconds until the next timer is due; None if there is none."""
        while self._timers and self._timers[0][2].is_cancelled:
            heapq.heappop(self._timers)
            self._cancelled -= 1
        return max(self._timers[0][0] - self.now(), 0.0) if self._timers else None

    def run_due(
        self, until: float | None = None, after_each: Callable[[], None] = lambda: None
    ) -> None:
        """Run what is due up to `until` (by default: now), in order, each at its own time.

        :param after_each: called after each timer, at that timer's time
        """
        end = self.now() if until is None else until
        outer = self._held
        try:
            while self.wait() is not None and self._timers[0][0] <= end:
                due, _, timer = heapq.heappop(self._timers)
                # What a timer starts counts from when the timer was due, not from when this
                # process came to it; so a chain of delays takes as long as they say.
                self._held = due if self._held is None else max(due, self._held)
                timer.run()
                after_each()
        finally:
            self._held = outer

    def advance(
        self, seconds: float | timedelta, after_each: Callable[[], None] = lambda: None
    ) -> None:
        """Let `seconds` pass at once, running what falls due on the way.

        What a timer does may call this too; its time is then later by that much.

        :raises ValueError: `seconds` is negative, or no time; time does not go back
        """
        if isinstance(seconds, timedelta):
            seconds = seconds.total_seconds()
        is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
        if not is_number or not 0 <= seconds <= MAX_ADVANCE:
            raise ValueError(
                f"the clock goes forward only, by 0 to {MAX_ADVANCE} seconds; got {seconds!r}"
            )
        target = self.now() + seconds
        self.run_due(target, after_each)
        self._offset += seconds
        if self._held is not None:
            self._held = target
        self.on_change()

    def _was_cancelled(self) -> None:
        """Remove cancelled timers where there are many: their time may be days away."""
        self._cancelled += 1
        if self._cancelled > CANCELLED_KEPT and 2 * self._cancelled > len(self._timers):
            self._timers = [each for each in self._timers if not each[2].is_cancelled]
            heapq.heapify(self._timers)
            self._cancelled = 0
