"""A window of so many at a time, and deadlines: cheap where nothing has to wait."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from mqkit.clock import loop_clock, monotonic

DEFAULT_TIMEOUT = 30.0
"""Seconds in which a publish must be confirmed, publishing it again included."""

DEFAULT_WINDOW = 1000
"""Publishes that may wait for their confirm at the same time, on one publisher."""

LOOK = 0.25
"""Seconds between two looks, after `close`, at whether anybody still waits."""

T = TypeVar("T")
_T_contra = TypeVar("_T_contra", contravariant=True)


class Waiter(Protocol[_T_contra]):
    """Gets one value, once: a future, or what does without the cost of one."""

    def done(self) -> bool: ...

    def set_result(self, result: _T_contra, /) -> None: ...


class Window:
    """Limits how many are under way at a time; places are given in the order of asking.

    Unlike a semaphore's, a free place is taken without a turn of the loop or a coroutine.
    """

    def __init__(self, places: int) -> None:
        self._places = self._free = places
        self._idle: asyncio.Future[None] | None = None
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def has_place(self) -> bool:
        """Return whether a place can be taken now: one is free, and nobody waits for it."""
        return self._free > 0 and not self._waiting

    def try_acquire(self) -> bool:
        """Take a place if one is free and nobody waits for it; `release` must follow."""
        if not self._free or self._waiting:
            return False
        self._free -= 1
        return True

    async def acquire(self) -> None:
        """Take a place as soon as it is one's turn; `release` must follow."""
        if self.try_acquire():
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.release()  # it was given while its caller went
            raise

    def release(self) -> None:
        """Give a place back, to whoever has waited longest."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
        if self._idle is not None and self.is_idle and not self._idle.done():
            self._idle.set_result(None)

    @property
    def is_idle(self) -> bool:
        """Whether nobody has a place, or waits for one."""
        return self._free == self._places and not self._waiting

    async def idle(self) -> None:
        """Wait until nobody has a place any more. For one caller at a time."""
        while not self.is_idle:
            self._idle = asyncio.get_running_loop().create_future()
            await self._idle
            # Who has just given a place back may take one for what it holds.
            await asyncio.sleep(0)


class Deadlines(Generic[T]):
    """Gives `late` to each waiter that has nothing else in time.

    There is one timer for all that are given as many seconds, and not one for each.
    """

    def __init__(self, late: T) -> None:
        self._late = late
        self._now: Callable[[], float] = monotonic
        self._lines: dict[float, deque[tuple[float, Waiter[T]]]] = {}
        self._timers: dict[float, asyncio.TimerHandle] = {}
        self._is_closed = False

    def watch(self, waiter: Waiter[T], seconds: float) -> None:
        """Give a waiter `late` unless it has a value within so many seconds from now."""
        line = self._lines.get(seconds)
        if line is None:
            self._now = loop_clock()  # it may have been made where no loop ran
            line = self._lines[seconds] = deque()
            self._look_in(seconds, seconds)
        while line and line[0][1].done():
            line.popleft()
        line.append((self._now() + seconds, waiter))

    def close(self) -> None:
        """Cancel each timer as soon as nobody waits for what it gives, and not at its deadline."""
        self._is_closed = True
        for seconds, timer in list(self._timers.items()):
            timer.cancel()
            self._look(seconds)

    def _look_in(self, left: float, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        self._timers[seconds] = loop.call_later(left, self._look, seconds)

    def _look(self, seconds: float) -> None:
        line = self._lines[seconds]
        while line:
            end, waiter = line[0]
            if not waiter.done():
                left = end - self._now()
                if left > 0:
                    self._look_in(min(left, LOOK) if self._is_closed else left, seconds)
                    return
                waiter.set_result(self._late)
            line.popleft()
        del self._lines[seconds], self._timers[seconds]
