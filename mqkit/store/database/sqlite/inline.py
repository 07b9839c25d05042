"""Runs an SQLite connection on the event loop, where there may be no thread: in a simulation."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from mqkit.store.database.sqlite.jobs import Job

LOOK = 0.01
"""Seconds between two attempts to get a lock that another connection has."""


class Inline:
    """Does jobs one after the other, each in a callback of its own.

    SQLite itself would wait for a lock in real time, and hold up who has it. So it does not wait,
    and what met a lock is tried again until the connection's `timeout` has passed on the loop.
    """

    def __init__(
        self, connect: Callable[..., sqlite3.Connection], options: Mapping[str, Any]
    ) -> None:
        """Connect to nothing yet.

        :param options: those of `sqlite3.connect`, its `timeout` among them
        """
        self.done = 0
        self.database: sqlite3.Connection | None = None
        self._connect = connect
        self._options = dict(options)
        self._timeout = float(self._options.pop("timeout", 5.0))
        self._jobs: deque[Job] = deque()
        self._locked_since: float | None = None
        self._loop: asyncio.AbstractEventLoop

    def start(self) -> None:
        """Belong to the running loop."""
        self._loop = asyncio.get_running_loop()

    def put(self, job: Job) -> None:
        """Do a job after all others."""
        self._jobs.append(job)
        if self._loop.is_closed():
            self._next()
        elif self._locked_since is None:
            # One callback for each job, and each takes the first: a loop that shuffles its
            # callbacks cannot shuffle the jobs.
            self._loop.call_soon(self._next)

    def open(self) -> None:
        """Connect; a job."""
        self.database = self._connect(**self._options, timeout=0)

    def close(self) -> None:
        """Disconnect; the last job."""
        if self.database is not None:
            self.database.close()

    def join(self, timeout: float) -> None:
        """Do nothing: its last job has been waited for."""

    def _next(self) -> None:
        if self._locked_since is not None or not self._jobs:
            return  # it goes on by itself
        self._do()

    def _do(self) -> None:
        job = self._jobs[0]
        job.run()
        if self._is_to_wait(job):
            self._loop.call_later(LOOK, self._do)
            return
        self._jobs.popleft()
        self.done += 1
        job.tell()
        if self._locked_since is not None:
            self._locked_since = None
            for _ in self._jobs:
                self._loop.call_soon(self._next)

    def _is_to_wait(self, job: Job) -> bool:
        """Tell whether a job met another connection's lock, and may yet get it."""
        error = job.outcome and job.outcome[1]
        if not isinstance(error, sqlite3.OperationalError) or self._loop.is_closed():
            return False
        if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
            return False
        if self.database is None or self.database.in_transaction:
            return False  # a part of it may be done
        now = self._loop.time()
        if self._locked_since is None:
            self._locked_since = now
        return now - self._locked_since < self._timeout
