"""The event loop of a schedule: virtual time, the order of steps from a seed, crashes."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import random
import warnings
import zlib
from asyncio import format_helpers
from collections import deque
from collections.abc import Callable, Iterator
from contextvars import Context, ContextVar, copy_context
from typing import Any

from detangle import SimConfig, SimLoop, _instrument
from detangle._context import current_host

START = 1000.0
"""Virtual seconds at which a schedule begins: a time of 0 is easily taken for none."""

EPOCH = 1_800_000_000.0
"""What `time.time` says at virtual second 0."""

MOST_STEPS = 100_000
"""Steps after which a schedule is taken to run in circles: a sound one has some thousand."""

STEP = 1e-6
"""Seconds that a step takes: the time goes on while code runs."""

LATE_STEPS = 12
"""By how many steps of others one step is late at most."""


class EndlessError(Exception):
    """A schedule took more steps or more virtual time than any sound one."""


class Process:
    """One life of a process on a host: what runs in its context dies with it."""

    __slots__ = ("alive", "host", "keep", "number", "on_death", "tasks")

    def __init__(self, host: str, number: int) -> None:
        self.host = host
        self.number = number
        self.alive = True
        self.tasks: list[asyncio.Task[Any]] = []
        self.keep: list[object] = []
        """What must not be collected before the schedule is over, as `__del__` is code, too."""
        self.on_death: list[Callable[[], None]] = []
        """What the operating system does when the process is gone: it closes files."""

    def __repr__(self) -> str:
        return f"{self.host}#{self.number}"


PROCESS: ContextVar[Process | None] = ContextVar("tests_simulation_process", default=None)
"""The process whose code runs; None is the world itself."""


class NumberedTask(asyncio.Task[Any]):
    """A task that a set orders by its number, and not by its address."""

    number = 0
    process: Process | None = None

    def __hash__(self) -> int:
        return self.number


class NumberedFuture(asyncio.Future[Any]):
    """A future that a set orders by its number, and not by its address."""

    number = 0

    def __hash__(self) -> int:
        return self.number


class Step(asyncio.Handle):
    """A handle that is made without asking its loop whether it debugs."""

    __slots__ = ()

    def __init__(
        self, callback: Callable[..., object], args: Any, loop: Loop, context: Context | None
    ) -> None:
        self._context = copy_context() if context is None else context
        self._loop = loop
        self._callback = callback
        self._args = args
        self._cancelled = False
        self._repr = None
        self._source_traceback = None


class Timer(asyncio.TimerHandle):
    """The same of a timer."""

    __slots__ = ()

    def __init__(
        self,
        when: float,
        callback: Callable[..., object],
        args: Any,
        loop: Loop,
        context: Context | None,
    ) -> None:
        Step.__init__(self, callback, args, loop, context)  # type: ignore[arg-type]
        self._when = when
        self._scheduled = False


class Loop(SimLoop):
    """detangle's loop with its own order of steps, and processes that die in the middle of one.

    detangle keeps what is ready in a lane for each task, sorts the lanes before every step, and
    looks who made each task: for 100,000 schedules that is too slow. Here it is one line, as in
    asyncio, in which a task's step now and then falls back behind those of others. What asyncio
    promises is kept: callbacks run in their order, and so do the steps of one task.
    """

    def __init__(self, rng: random.Random, *, late: float = 0.1) -> None:
        """Start at virtual second `START`.

        :param late: the share of task steps that others overtake
        """
        # Its wrappers of locks are for reports of deadlocks, and cost every lock something.
        _instrument._installed = True
        super().__init__(SimConfig(seed_random=False))
        self.rng = rng
        self.late = late
        self._now = START
        self._line: deque[asyncio.Handle] = deque()
        self._numbers = 0
        self.dead: list[Process] = []
        self.processes: list[Process] = []
        self.armed: dict[Process, tuple[int, Callable[[], None]]] = {}
        self.digest = 0
        self.trace: list[str] | None = None
        """The lines of `note`, where somebody wants to read them."""
        self.until = START

    # What happens, in order

    def note(self, text: str) -> None:
        """Put something that happened into the digest of the schedule."""
        line = f"{self._now:.6f} {text}"
        self.digest = zlib.crc32(line.encode(), self.digest)
        if self.trace is not None:
            self.trace.append(line)

    # Steps

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        handle = Step(callback, args, self, context)
        if self._abandoned or (self.dead and self._is_dead(handle)):
            handle._cancelled = True
        else:
            self._line.append(handle)
        return handle

    call_soon_threadsafe = call_soon

    def call_at(  # type: ignore[override]
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        timer = Timer(when, callback, args, self, context)
        if self._abandoned or (self.dead and self._is_dead(timer)):
            timer._cancelled = True
        else:
            self._push_timer(when, timer)
        return timer

    call_at_exact = call_at

    def _is_dead(self, handle: Any) -> bool:
        process = handle._context.get(PROCESS)
        return process is not None and not process.alive

    def _run_once(self) -> bool:
        if not self._line and not self._advance():
            return False
        handle: Any = self._line.popleft()
        if not handle._cancelled and len(self._line) > 1 and self.rng.random() < self.late:
            handle = self._overtaken(handle)
        if handle._cancelled:
            return True
        self._now += STEP
        # What `handle._run()` does, without calling it.
        try:
            handle._context.run(handle._callback, *handle._args)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:  # noqa: BLE001 - as asyncio does
            self._failed(handle, error)
        self.steps += 1
        if self.armed:
            self._count(handle)
        if self.steps > MOST_STEPS:
            raise EndlessError(f"it is not over after {MOST_STEPS} steps")
        return True

    get_debug = staticmethod(bool)
    """Says no. asyncio asks for every future, and a function of Python would take longer."""

    def _failed(self, handle: Any, error: BaseException) -> None:
        callback = format_helpers._format_callback_source(handle._callback, handle._args)
        self.call_exception_handler(
            {"message": f"Exception in callback {callback}", "exception": error, "handle": handle}
        )

    def _advance(self) -> bool:
        """Go to when the next timer is due, and put what is due then into the line."""
        timers, line = self._timers, self._line
        while timers and not line:
            when, number, timer = heapq.heappop(timers)
            if self._takes(timer):
                if when > self.until:
                    heapq.heappush(timers, (when, number, timer))
                    raise EndlessError(f"it is not over at virtual second {self.until:.0f}")
                self._now = max(self._now, when)
                line.append(timer)
        while timers and timers[0][0] <= self._now:
            timer = heapq.heappop(timers)[2]
            if self._takes(timer):
                line.append(timer)
        return bool(line)

    def _takes(self, timer: Any) -> bool:
        """Take a timer out of its wait; False where it was cancelled."""
        timer._scheduled = False
        if timer._cancelled:
            self._cancelled_timers -= 1
            return False
        return True

    def _overtaken(self, handle: Any) -> Any:
        """Let others overtake a step, where it is a task's; return what runs now."""
        if not isinstance(getattr(handle._callback, "__self__", None), asyncio.Task):
            return handle
        places = min(len(self._line), LATE_STEPS)
        self._line.insert(1 + int(self.rng.random() * places), handle)
        return self._line.popleft()

    def _count(self, handle: Any) -> None:
        process = handle._context.get(PROCESS)
        if process is None or process not in self.armed:
            return
        left, what = self.armed[process]
        if left > 1:
            self.armed[process] = (left - 1, what)
            return
        del self.armed[process]
        what()

    # Tasks and processes

    def create_future(self) -> asyncio.Future[Any]:
        future = NumberedFuture(loop=self)
        self._numbers += 1
        future.number = self._numbers
        return future

    def create_task(
        self, coro: Any, *, name: str | None = None, context: Context | None = None, **_: Any
    ) -> asyncio.Task[Any]:
        self._numbers += 1
        # Before it is made, as asyncio puts it into a set then.
        NumberedTask.number = self._numbers
        name = f"task {self._numbers}" if name is None else name
        process = PROCESS.get()
        if context is not None and PROCESS not in context:
            # Empty, it is nevertheless that of a task of this process, which dies with it.
            context.run(PROCESS.set, process)
            context.run(current_host.set, current_host.get())
        task = NumberedTask(coro, loop=self, name=name, context=context)
        task.number = self._numbers
        self.tasks.append(task)
        task.process = process
        if process is not None:
            process.tasks.append(task)
        return task

    def new_process(self, host: str) -> Process:
        """Begin a process on a host; `inside` runs code in it."""
        process = Process(host, len(self.processes))
        self.processes.append(process)
        return process

    @contextlib.contextmanager
    def inside(self, process: Process) -> Iterator[None]:
        """Run the block in a process: tasks and timers that are made in it are that process's."""
        tokens = PROCESS.set(process), current_host.set(process.host)
        try:
            yield
        finally:
            PROCESS.reset(tokens[0])
            current_host.reset(tokens[1])

    def kill(self, process: Process) -> None:
        """End a process as SIGKILL does: none of its code runs any more, not even a `finally`."""
        if not process.alive:
            return
        process.alive = False
        self.dead.append(process)
        self.armed.pop(process, None)
        for handle in self._line:
            if self._is_dead(handle):
                handle._cancelled = True
        live = [entry for entry in self._timers if not self._is_dead(entry[2])]
        heapq.heapify(live)
        self._timers = live
        self._cancelled_timers = sum(1 for each in live if each[2]._cancelled)
        for call in process.on_death:
            call()

    # The end

    def dispose(self) -> list[str]:
        """Drop all that is left, without a word; return what nobody took notice of before."""
        complaints = [_complaint(each) for each in self.unhandled]
        for task in self.tasks:
            if task.done() and not task.cancelled() and getattr(task, "_log_traceback", False):
                error = task.exception()
                if _of_live(task):
                    complaints.append(f"{task.get_name()} died unseen: {error!r}")
        self.abandon()
        with warnings.catch_warnings():
            # Their `finally` runs, which is of no consequence any more.
            warnings.simplefilter("ignore")
            for task in self.tasks:
                if not task.done():
                    with contextlib.suppress(BaseException):
                        task.get_coro().close()
        self._line.clear()
        self._timers.clear()
        self._closed = True
        return complaints


def _of_live(task: asyncio.Task[Any]) -> bool:
    process = getattr(task, "process", None)
    return process is None or process.alive


def _complaint(context: dict[str, Any]) -> str:
    return f"{context.get('message')}: {context.get('exception')!r}"


async def ended(process: Process, task: asyncio.Task[Any]) -> None:
    """Wait until a task of a process has ended, or the process was killed and it never will."""
    while process.alive and not task.done():
        await asyncio.wait([task], timeout=0.25)
