"""What an SQLite connection is given to do: functions, whose outcome is waited for on the loop."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
from collections.abc import Callable
from typing import Any, Protocol


class Job:
    """Is a function for the connection, and what became of it."""

    __slots__ = ("finished", "function", "future", "outcome")

    def __init__(self, function: Callable[[], Any]) -> None:
        self.function = function
        self.outcome: tuple[Any, BaseException | None] | None = None
        self.finished = threading.Lock()
        """Is free once there is an outcome."""
        self.finished.acquire()
        self.future: asyncio.Future[Any] | None = None

    def run(self) -> None:
        """Run the function, and keep the outcome."""
        self.outcome = _outcome(self.function)

    def tell(self) -> None:
        """Tell who waits, also from another thread, that there is an outcome."""
        self.finished.release()
        # The outcome came first, then this look; `on_loop` does the same the other way round.
        if (future := self.future) is not None:
            with contextlib.suppress(RuntimeError):  # its loop is closed: nobody waits
                future.get_loop().call_soon_threadsafe(self._settle)

    def on_loop(self) -> asyncio.Future[Any]:
        """Return a future of the outcome; cancelled, it stops nothing."""
        future = self.future = asyncio.get_running_loop().create_future()
        if self.outcome is not None:
            self._settle()
        return future

    def _settle(self) -> None:
        future, self.future = self.future, None
        if future is None:  # settled before, where both saw each other
            return
        result, error = self._take()
        if future.done():  # cancelled
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    def result(self) -> Any:
        """Return or raise the outcome, which there is; once."""
        result, error = self._take()
        if error is None:
            return result
        try:
            raise error
        finally:
            del error  # its traceback has this frame: it would be a cycle

    def _take(self) -> tuple[Any, BaseException | None]:
        # Frames of an error's traceback refer to this job: if it kept the error, directly or with
        # the future, that would be a cycle.
        outcome, self.outcome = self.outcome, None
        assert outcome is not None
        return outcome


class Worker(Protocol):
    """Does the jobs of one connection, in their order."""

    done: int
    """How many it has done."""

    @property
    def database(self) -> sqlite3.Connection | None:
        """What it has connected to."""
        ...

    def start(self) -> None:
        """Begin."""
        ...

    def put(self, job: Job) -> None:
        """Do a job after all others."""
        ...

    def open(self) -> None:
        """Connect; a job."""
        ...

    def close(self) -> None:
        """Disconnect; the last job."""
        ...

    def join(self, timeout: float) -> None:
        """Wait until it has ended, after its last job."""
        ...


def _outcome(function: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    # Without its job, which the error's traceback would hold, and which holds the error.
    try:
        return function(), None
    except StopIteration as error:  # no future takes it
        return None, RuntimeError(f"a function for SQLite's thread raised {error!r}")
    except BaseException as error:  # noqa: BLE001 - it is raised where the outcome is waited for
        return None, error
