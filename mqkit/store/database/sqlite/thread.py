"""Runs an SQLite connection in a thread of its own, for code on an event loop.

What goes to the thread is done there in that order, even where the task that waits for it is
cancelled: a rollback that follows undoes all of it.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from time import perf_counter
from typing import Any, TypeVar

from mqkit.store.database.sqlite.inline import Inline
from mqkit.store.database.sqlite.jobs import Job, Worker
from mqkit.system.machine import MACHINE, Machine

T = TypeVar("T")

JOIN_TIMEOUT = 1.0
"""Seconds for a thread to end that has said its last word."""

SHORT = 0.0003
"""Seconds that the event loop may wait for one statement; what takes longer does not hold it up."""

TURN = 0.002
"""Seconds for which statement after statement may be waited for in that way."""


class _Thread(threading.Thread):
    """Does what is put into `jobs`, one after the other, until it is closed."""

    def __init__(self, connect: Callable[[], sqlite3.Connection]) -> None:
        super().__init__(name="mqkit sqlite", daemon=True)
        self._jobs: SimpleQueue[Job] = SimpleQueue()
        self.done = 0
        self.database: sqlite3.Connection | None = None
        self._connect = connect
        self._ended = False

    def put(self, job: Job) -> None:
        """Do a job after all others."""
        self._jobs.put(job)

    def open(self) -> None:
        """Connect; a job."""
        self.database = self._connect()

    def close(self) -> None:
        """Disconnect; the last job."""
        self._ended = True
        if self.database is not None:
            self.database.close()

    def run(self) -> None:
        """Do the jobs."""
        while not self._ended:
            self._do(self._jobs.get())  # which keeps nothing of one while it waits for the next

    def _do(self, job: Job) -> None:
        job.run()
        self.done += 1
        job.tell()


class SqliteConnection:
    """Is SQLite's connection for code on an event loop: `connection.driver_connection`.

    What is not here is reached by `run`, with the connection of `sqlite3`.
    """

    def __init__(self, *args: Any, machine: Machine = MACHINE, **kwargs: Any) -> None:
        """Connect to nothing yet: `open` does, with these arguments of `sqlite3.connect`."""
        self._is_open = False
        self._submitted = 0
        self._waited = 0.0
        # Its thread alone runs statements; others look whether there is a transaction.
        options = {**kwargs, "check_same_thread": False}
        self._worker: Worker
        self._may_wait_shortly = machine.sqlite_in_thread
        if machine.sqlite_in_thread:
            self._worker = _Thread(partial(machine.connect_sqlite, *args, **options))
        else:
            self._worker = Inline(partial(machine.connect_sqlite, *args), options)

    async def open(self) -> None:
        """Connect.

        :raises sqlite3.Error: SQLite cannot
        """
        self._worker.start()
        self._is_open = True
        try:
            await self._submit(self._worker.open).on_loop()
        except Exception:
            await self.close()
            raise
        except BaseException:
            self.end()
            raise

    async def close(self) -> None:
        """Disconnect, after what was submitted before; the thread ends with it."""
        if (ending := self.end()) is not None:
            await ending.on_loop()
            self._worker.join(JOIN_TIMEOUT)

    def end(self) -> Job | None:
        """Let the thread disconnect and end when all is done that was submitted before."""
        if not self._is_open:
            return None
        self._is_open = False
        return self._submit(self._worker.close)

    def __del__(self) -> None:
        # Left open, perhaps by a loop that has ended: its thread does not refer to it.
        self.end()

    async def run(self, function: Callable[[sqlite3.Connection], T]) -> T:
        """Run a function in the thread, with `sqlite3`'s connection; return what it returns.

        It is run even where the task that waits for it is cancelled. Many statements in one
        function cost one way to the thread and back.

        :raises sqlite3.ProgrammingError: it is closed
        """
        result: T = await self._submit(partial(function, self._database)).on_loop()
        self._waited = perf_counter()
        return result

    async def run_short(self, function: Callable[[sqlite3.Connection], T]) -> T:
        """Run a function as `run` does; the event loop may wait for the first microseconds.

        Most statements take fewer of them than waking the loop takes. So that it has its turn all
        the same where one such statement follows the other, it has it every `TURN`.
        """
        is_idle = self._submitted == self._worker.done
        job = self._submit(partial(function, self._database))
        if (
            self._may_wait_shortly
            and is_idle
            and perf_counter() - self._waited < TURN
            and job.finished.acquire(timeout=SHORT)
        ):
            result: T = job.result()
            return result
        result = await job.on_loop()
        self._waited = perf_counter()
        return result

    def _submit(self, function: Callable[[], Any]) -> Job:
        job = Job(function)
        self._submitted += 1
        self._worker.put(job)
        return job

    async def rollback(self) -> None:
        """Roll back all that was submitted; where there is no transaction, it costs nothing."""
        if self._is_open and (self._submitted != self._worker.done or self.in_transaction):
            await self.run(sqlite3.Connection.rollback)

    @property
    def is_open(self) -> bool:
        """Tell whether it is open."""
        return self._is_open and self._worker.database is not None

    @property
    def in_transaction(self) -> bool:
        """Tell whether there is a transaction, as far as the thread has come.

        :raises sqlite3.ProgrammingError: it is closed
        """
        return self._database.in_transaction

    @property
    def _database(self) -> sqlite3.Connection:
        database = self._worker.database
        if not self._is_open or database is None:
            # As sqlite3 says it: SQLAlchemy knows by these words that a connection is lost.
            raise sqlite3.ProgrammingError("Cannot operate on a closed database.")
        return database
