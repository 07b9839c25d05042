"""Runs items in worker tasks: so many at a time, and those of one key in their order.

Tasks are used again, since making one costs more than most runs do. A run that waits for nothing
takes no task of its own: one worker takes all that is there, one after the other. Where a run
waits, another worker goes on with the rest.
"""

from __future__ import annotations

import asyncio
import contextvars
import decimal
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Mapping
from operator import attrgetter
from typing import Any, Generic, Protocol, TypeVar

from mqkit.clock import loop_clock
from mqkit.logging.error_reports import log_error

logger = logging.getLogger(__name__)

T = TypeVar("T")

TURN = 0.005
"""Seconds for which a worker takes one item after the other; then it lets the loop do what else
there is: heartbeats, other queues, timers."""


IDLE = 256
"""Workers that are kept while there is nothing to run, a few kilobytes each. Where many messages
share a commit so many end at a time, and take the next ones a moment later."""


class Cancellable(Protocol):
    """Is what an item's run goes on by: a task, or what waits without one."""

    def cancel(self) -> object:
        """Give the run up."""
        ...


class Waiting(Cancellable, Protocol):
    """Is what an item's run goes on by that waits without a task."""

    def hurry(self) -> None:
        """Wait for nothing that need not be: others wait for the end of this run."""
        ...


class WorkerPool(Generic[T]):
    """Runs what is submitted, so many items at a time, and those of one key one after the other.

    Each run begins in the context that this was made in, on a task that nobody has cancelled: what
    a run changes there (`_TaskContext`), no other one sees.
    """

    def __init__(self, limit: int, run: Callable[[T], Awaitable[Waiting | None]]) -> None:
        """Run nothing yet.

        :param limit: how many items run at the same time
        :param run: the run of an item; what it raises ends its task, and is logged. What it returns
            waits without a task from then on: the run goes on until `leave` or `go_on` is called
            with it. None: the run has ended.
        """
        self._queue: WorkQueue[T] = WorkQueue(limit)
        self._run = run
        self._now = loop_clock()
        self._context = contextvars.copy_context()
        self._current: dict[asyncio.Task[None], T] = {}
        self._beside: dict[asyncio.Task[None], T] = {}
        self._outside: dict[Cancellable, tuple[T, Hashable]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._idle: list[asyncio.Future[None]] = []
        self._waking: asyncio.Handle | None = None
        self._yielding = 0
        self._at_once = 1
        """Workers to wake: twice as many each time, while the runs of all of them wait."""
        self._drained: asyncio.Future[None] | None = None
        self._closed = False

    @property
    def current(self) -> Mapping[asyncio.Task[None], T]:
        """What runs now, by its task; to cancel the task is to cancel this one run."""
        return self._current

    @property
    def count(self) -> int:
        """How much is being worked on."""
        return len(self._current) + len(self._outside) + len(self._beside)

    @property
    def is_paused(self) -> bool:
        """Whether no run may begin."""
        return self._queue.is_paused

    def set_limit(self, limit: int) -> None:
        """Set how many items run at the same time from now on; what runs goes on."""
        if self._queue.set_limit(limit) and self._waking is None:
            self._wake_soon()

    def submit(self, item: T, key: Hashable) -> None:
        """Queue an item; it runs once all of its key that came before it have ended."""
        self._queue.add(item, key)
        if self._waking is None:
            self._wake_soon()

    def leave(self, waiting: Cancellable) -> None:
        """End the run of what has waited without a task."""
        _, key = self._outside.pop(waiting)
        self._done(key)
        if self._waking is None and self._queue.startable:
            self._wake_soon()

    def go_on(self, waiting: Cancellable, work: Coroutine[Any, Any, None]) -> None:
        """Do the rest of such a run in a task of its own, whose end is the run's."""
        item, key = self._outside.pop(waiting)
        task = asyncio.get_running_loop().create_task(work, context=self._context.copy())
        self._current[task] = item

        def end(task: asyncio.Task[None]) -> None:
            del self._current[task]
            self._done(key)
            self._on_done(task)

        task.add_done_callback(end)

    def run_beside(self, item: T, work: Coroutine[Any, Any, None]) -> None:
        """Do other work for an item at once, in a task of its own; it counts as in flight."""
        task = asyncio.create_task(work)
        self._beside[task] = item
        task.add_done_callback(self._beside.pop)

    def pause(self) -> None:
        """Begin no more runs; those that have begun go on."""
        self._queue.is_paused = True

    def resume(self) -> None:
        """Begin runs again."""
        self._queue.is_paused = False
        if self._waking is None:
            self._wake_soon()

    def waiting(self) -> list[T]:
        """Return all that wait for their turns."""
        return self._queue.waiting()

    def take_waiting(self) -> list[T]:
        """Take out all that wait for their turns: those of each key in their order."""
        return self._queue.take_waiting()

    def longest_line(self) -> tuple[Hashable, int]:
        """Return the key for whose run most others wait, and how many."""
        return self._queue.longest_line()

    def running(self) -> list[T]:
        """Return all whose runs have begun, and have not ended."""
        return [*self._current.values(), *(item for item, _ in self._outside.values())]

    def in_flight(self) -> list[tuple[Cancellable, T]]:
        """Return all that is being worked on, with what its runs go on by."""
        outside = ((waiting, item) for waiting, (item, _) in self._outside.items())
        return [*self._current.items(), *outside, *self._beside.items()]

    async def drained(self) -> None:
        """Wait until nothing runs."""
        while self._current or self._outside:
            if self._drained is None:
                self._drained = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._drained)

    async def finished(self) -> None:
        """Wait until nothing is in flight."""
        while self._beside:
            await asyncio.wait(self._beside)
        await self.drained()

    def close(self) -> None:
        """Run nothing more. What runs goes on; the tasks that have nothing to run end soon."""
        self._closed = True
        for idle in self._idle:
            if not idle.done():
                idle.set_result(None)
        self._idle.clear()

    def _wake_soon(self) -> None:
        loop = asyncio.get_running_loop()
        self._waking = loop.call_soon(self._wake, context=self._context)

    def _wake(self) -> None:
        self._waking = None
        if self._closed or self._yielding:  # who yields comes back, and takes what is there
            return
        wanted = min(self._queue.startable, self._at_once)
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

    async def _serve(self) -> None:  # noqa: C901 - and no call that each run could do without
        """Take what there is, and wait for more; ends where the task is not fit for another run."""
        task = asyncio.current_task()
        assert task is not None, "it runs in a task"
        surroundings = _TaskContext()
        while not self._closed:
            until = self._now() + TURN
            while not self._closed and (turn := self._queue.next()) is not None:
                item, key = turn
                if self._waking is None and self._queue.startable:
                    self._wake_soon()  # where this run waits, others go on
                waking = self._waking
                self._current[task] = item
                waits = None
                try:
                    waits = await self._run(item)
                finally:
                    del self._current[task]
                    if waits is None:
                        self._done(key)
                if waits is not None:
                    self._outside[waits] = turn
                    if self._queue.is_followed(key):
                        waits.hurry()
                if task.cancelling() or not surroundings.are_unchanged():
                    return
                if waking is None or self._waking is not waking:  # the loop has turned since
                    until = self._now() + TURN
                elif self._now() > until:
                    await self._yield()
                    until = self._now() + TURN
            self._at_once = 1
            if self._waking is not None:
                self._waking.cancel()
                self._waking = None
            if self._closed or len(self._idle) >= IDLE:
                return
            idle: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._idle.append(idle)
            await idle

    def _done(self, key: Hashable) -> None:
        self._queue.done(key)
        if self._drained is not None and not (self._current or self._outside):
            self._drained.set_result(None)
            self._drained = None

    async def _yield(self) -> None:
        self._yielding += 1
        try:
            await asyncio.sleep(0)
        finally:
            self._yielding -= 1

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log_error(logger, logging.CRITICAL, "a run ended its task with an error", error=error)
        if not self._closed and self._waking is None:
            self._wake_soon()


class WorkQueue(Generic[T]):
    """Limits how many items run at the same time, and runs those of one key in their order.

    Items of one key take their turns one after the other; others pass them. A key of None is nobody
    else's. Nothing here waits or runs: the pool runs what `next` gives, and says `done` after it.
    """

    def __init__(self, limit: int) -> None:
        self.is_paused = False
        """Whether nothing may begin."""
        self._limit = self._free = limit
        self._ready: deque[tuple[T, Hashable]] = deque()
        # A key is here from its first item's coming to its last one's end.
        self._behind: dict[Hashable, deque[T] | None] = {}

    def __len__(self) -> int:
        """Return how many items wait."""
        return len(self._ready) + sum(len(line) for line in self._behind.values() if line)

    def set_limit(self, limit: int) -> bool:
        """Set how many items may run at a time, and return whether that is more than before."""
        more = limit - self._limit
        self._limit = limit
        self._free += more  # below zero for as long as more of them run
        return more > 0

    def add(self, item: T, key: Hashable) -> None:
        """Let an item wait behind all of its key."""
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
        return 0 if self.is_paused else max(0, min(self._free, len(self._ready)))

    def next(self) -> tuple[T, Hashable] | None:
        """Return what may run now, with its key; `done` must follow. None: nothing may."""
        if self.is_paused or self._free <= 0 or not self._ready:
            return None
        self._free -= 1
        return self._ready.popleft()

    def done(self, key: Hashable) -> None:
        """End the run of what `next` gave: the next one of its key may take its turn."""
        self._free += 1
        if key is None:
            return
        if line := self._behind[key]:
            self._ready.append((line.popleft(), key))
        else:
            del self._behind[key]

    def is_followed(self, key: Hashable) -> bool:
        """Tell whether others of a key wait behind the one that runs."""
        return bool(key is not None and self._behind[key])

    def waiting(self) -> list[T]:
        """Return all that wait."""
        behind = (item for line in self._behind.values() if line for item in line)
        return [*(item for item, _ in self._ready), *behind]

    def longest_line(self) -> tuple[Hashable, int]:
        """Return the key behind which most wait, and how many."""
        lines = ((key, len(line)) for key, line in self._behind.items() if line)
        return max(lines, key=lambda line: line[1], default=(None, 0))

    def take_waiting(self) -> list[T]:
        """Take out all that wait: those of each key in their order."""
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
    """Sees whether a run changed its task's context variables or decimal settings.

    The settings are one object that is changed in place: a precision set for one payment would
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
