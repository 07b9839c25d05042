"""What a process of a schedule has for a machine: threads that are steps, files in memory."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from typing import Any

from mqkit.system.machine import Machine
from tests.simulation.simulated.loop import Loop, Process


class Steps(Executor):
    """An executor whose calls are steps of the loop, each as a whole."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call a function in a step to come; its future is finished then."""
        future: Future[Any] = Future()

        def call() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = function(*args, **kwargs)
            except BaseException as error:  # noqa: BLE001 - the future's, as an executor does
                future.set_exception(error)
            else:
                future.set_result(result)

        self._loop.call_soon(call)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Do nothing: there is no thread to end."""


class StepThread:
    """A thread that runs in one step of the loop."""

    def __init__(self, loop: Loop, function: Callable[[], None]) -> None:
        self._loop = loop
        self._function = function
        self._is_alive = False

    def start(self) -> None:
        """Let it run in a step to come."""
        self._is_alive = True
        self._loop.call_soon(self._run)

    def _run(self) -> None:
        try:
            self._function()
        finally:
            self._is_alive = False

    def is_alive(self) -> bool:
        """Tell whether it has yet to run, or runs."""
        return self._is_alive


class Locks:
    """The locks of files on the machine that all services share; a process that dies has none."""

    def __init__(self) -> None:
        self._holders: dict[str, Process] = {}

    def hold(self, process: Process, path: str) -> contextlib.AbstractContextManager[bool]:
        """Hold the lock of a file while the block runs; False where another process has it."""

        @contextlib.contextmanager
        def held() -> Iterator[bool]:
            holder = self._holders.get(path)
            if holder is not None and holder.alive:
                yield False
                return
            self._holders[path] = process
            try:
                yield True
            finally:
                if self._holders.get(path) is process:
                    del self._holders[path]

        return held()


def machine(loop: Loop, process: Process, locks: Locks, disk: Any) -> Machine:
    """Make the machine of a process; its connections to SQLite end with it."""

    def connect(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = disk.connect(*args, **kwargs)
        # Its system closes the file; SQLite takes back what was not committed.
        process.on_death.append(connection.close)
        return connection

    return Machine(
        random_bytes=loop.rng.randbytes,
        executor=lambda _threads, _name: Steps(loop),
        thread=lambda function, _name: StepThread(loop, function),
        watches_stalls=False,
        connect_sqlite=connect,
        sqlite_in_thread=False,
        file_lock=lambda path: locks.hold(process, path),
    )
