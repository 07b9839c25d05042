"""Runs items in tasks that are used again: making a task costs more than most runs do.

An item whose run waits for nothing takes no task of its own: one runner takes all that is there,
one after the other. Where a run waits, another runner goes on with the rest.
"""

from __future__ import annotations

import asyncio
import contextvars
import decimal
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Mapping
from operator import attrgetter
from typing import Any, Generic, TypeVar

from mqkit.logging.error_texts import log_error

logger = logging.getLogger(__name__)

T = TypeVar("T")

TURN = 0.005
"""Seconds for which a runner takes one item after the other; then it lets the loop do what else
there is: heartbeats, other queues, timers."""


IDLE = 32
"""WorkerPool that are kept while there is nothing to run."""


class WorkerPool(Generic[T]):
    """Runs each item that `take` gives, as many at a time as it gives.

    Each run begins in the context that this was made in, on a task that nobody has cancelled: what
    a run changes there (`_TaskContext`), no other one sees.
    """

    def __init__(
        self,
        take: Callable[[], T | None],
        waiting: Callable[[], int],
        run: Callable[[T], Awaitable[None]],
    ) -> None:
        """Run nothing yet.

        :param take: the next item that may run now, or None
        :param waiting: how many items `take` would give now
        :param run: the run of an item; what it raises ends its task, and is logged
        """
        self._take = take
        self._waiting = waiting
        self._run = run
        self._context = contextvars.copy_context()
        self._current: dict[asyncio.Task[None], T] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._idle: list[asyncio.Future[None]] = []
        self._looking: asyncio.Handle | None = None
        self._yielding = 0
        self._at_once = 1
        """WorkerPool to wake: twice as many each time, while the runs of all of them wait."""
        self._drained: asyncio.Future[None] | None = None
        self._closed = False

    @property
    def current(self) -> Mapping[asyncio.Task[None], T]:
        """What runs now, by its task; to cancel the task is to cancel this one run."""
        return self._current

    def look(self) -> None:
        """Run, soon, what may run now."""
        if self._looking is None:
            loop = asyncio.get_running_loop()
            self._looking = loop.call_soon(self._wake, context=self._context)

    async def drained(self) -> None:
        """Wait until nothing runs."""
        while self._current:
            if self._drained is None:
                self._drained = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._drained)

    def close(self) -> None:
        """Run nothing more. What runs goes on; the tasks that have nothing to run end soon."""
        self._closed = True
        for idle in self._idle:
            if not idle.done():
                idle.set_result(None)
        self._idle.clear()

    def _wake(self) -> None:
        self._looking = None
        if self._closed or self._yielding:  # who yields comes back, and takes what is there
            return
        wanted = min(self._waiting(), self._at_once)
        for _ in range(wanted):
            self._wake_one()
        self._at_once *= 2 if wanted else 1

    def _wake_one(self) -> None:
        while self._idle:
            idle = self._idle.pop()
            if not idle.done():
                idle.set_result(None)
                return
        loop = asyncio.get_running_loop()
        task = loop.create_task(self._serve(), context=self._context.copy())
        self._tasks.add(task)
        task.add_done_callback(self._on_done)

    async def _serve(self) -> None:
        """Take what there is, and wait for more; ends where the task is not fit for another run."""
        task = asyncio.current_task()
        assert task is not None, "it runs in a task"
        surroundings = _TaskContext()
        while not self._closed:
            until = time.monotonic() + TURN
            while not self._closed and (item := self._take()) is not None:
                if self._looking is None and self._waiting():
                    self.look()  # where this run waits, others go on
                looking = self._looking
                self._current[task] = item
                try:
                    await self._run(item)
                finally:
                    del self._current[task]
                    if self._drained is not None and not self._current:
                        self._drained.set_result(None)
                        self._drained = None
                if task.cancelling() or not surroundings.are_unchanged():
                    return
                if looking is None or self._looking is not looking:  # the loop has turned since
                    until = time.monotonic() + TURN
                elif time.monotonic() > until:
                    await self._yield()
                    until = time.monotonic() + TURN
            self._at_once = 1
            if self._looking is not None:
                self._looking.cancel()
                self._looking = None
            if self._closed or len(self._idle) >= IDLE:
                return
            idle: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._idle.append(idle)
            await idle

    async def _yield(self) -> None:
        self._yielding += 1
        try:
            await asyncio.sleep(0)
        finally:
            self._yielding -= 1

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log_error(logger, logging.CRITICAL, "a run ended its task", error=error)
        if not self._closed:
            self.look()


class WorkQueue(Generic[T]):
    """What waits for its turn, in the order in which it came.

    Items of one key take their turns one after the other, in their order; others pass them. A key
    of None is nobody else's.
    """

    def __init__(self, at_a_time: int) -> None:
        self._free = at_a_time
        self._ready: deque[tuple[T, Hashable]] = deque()
        # A key is here from its first item's coming to its last one's end.
        self._behind: dict[Hashable, deque[T] | None] = {}

    def __len__(self) -> int:
        """How many wait."""
        return len(self._ready) + sum(len(line) for line in self._behind.values() if line)

    def add(self, item: T, key: Hashable) -> None:
        """Let it wait behind all of its key."""
        if key is None:
            self._ready.append((item, None))
        elif key not in self._behind:
            self._behind[key] = None
            self._ready.append((item, key))
        elif (line := self._behind[key]) is None:
            self._behind[key] = deque((item,))
        else:
            line.append(item)

    @property
    def startable(self) -> int:
        """How many may run now."""
        return min(self._free, len(self._ready))

    def next(self) -> tuple[T, Hashable] | None:
        """What may run now, with its key; `done` must follow. None: nothing waits, or it must."""
        if not self._free or not self._ready:
            return None
        self._free -= 1
        return self._ready.popleft()

    def done(self, key: Hashable) -> None:
        """What `next` gave has ended, and lets the next one of its key take its turn."""
        self._free += 1
        if key is None:
            return
        if line := self._behind[key]:
            self._ready.append((line.popleft(), key))
        else:
            del self._behind[key]

    def waiting(self) -> list[T]:
        """All that wait, and go on waiting."""
        behind = (item for line in self._behind.values() if line for item in line)
        return [*(item for item, _ in self._ready), *behind]

    def longest_line(self) -> tuple[Hashable, int]:
        """The key behind which most wait, and how many."""
        lines = ((key, len(line)) for key, line in self._behind.items() if line)
        return max(lines, key=lambda line: line[1], default=(None, 0))

    def take_waiting(self) -> list[T]:
        """All that wait, and wait no longer: those of each key in their order."""
        waiting = [item for item, _ in self._ready]
        heads = {key for _, key in self._ready}
        self._ready.clear()
        for key, line in list(self._behind.items()):
            waiting += line or ()
            if key in heads:
                del self._behind[key]
            else:  # one of it runs
                self._behind[key] = None
        return waiting


_SETTINGS = attrgetter("prec", "rounding", "Emin", "Emax", "capitals", "clamp", "traps")


class _TaskContext:
    """The context variables of the current task, and the settings of its decimal arithmetic.

    The latter are one object that is changed in place: a precision set for one payment would
    else hold for the next. So the task gets one of its own, with the settings that it finds.
    """

    def __init__(self) -> None:
        self._as_found = decimal.getcontext().copy()
        self._settings: Any = _SETTINGS(self._as_found)
        self._decimal = self._as_found.copy()
        self._decimal.clear_flags()
        decimal.setcontext(self._decimal)
        self._variables = contextvars.copy_context()

    def are_unchanged(self) -> bool:
        """Whether all is as it was at the beginning; what calculations signalled is cleared."""
        try:
            unchanged = contextvars.copy_context() == self._variables
        except BaseException:  # noqa: BLE001 - the values are anybody's, and so is what compares them
            return False
        self._decimal.clear_flags()
        return unchanged and _SETTINGS(self._decimal) == self._settings
