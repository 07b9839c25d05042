"""The database of the services: SQLite in memory, which fills up, locks, and loses answers."""

from __future__ import annotations

import asyncio
import atexit
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

from mqkit.store import Store
from mqkit.store.database.sqlite.jobs import Job
from tests.simulation.simulated.loop import PROCESS, Process

EFFECTS = """CREATE TABLE effect (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL, key TEXT NOT NULL, event TEXT NOT NULL
)"""

_MEMORY = Path("/dev/shm")
_DIRECTORIES: dict[int, Path] = {}
"""Where this process has its files, by its number: a fork has its own."""


def _directory() -> Path:
    number = os.getpid()
    if number not in _DIRECTORIES:
        where = _MEMORY if _MEMORY.is_dir() else None
        made = _DIRECTORIES[number] = Path(tempfile.mkdtemp(prefix="mqkit-sim-", dir=where))
        atexit.register(shutil.rmtree, made, ignore_errors=True)
    return _DIRECTORIES[number]


def forget() -> None:
    """Delete this process's files, where it ends without what is to be done at its exit."""
    shutil.rmtree(_DIRECTORIES.pop(os.getpid(), _MEMORY / "none"), ignore_errors=True)


def prepare() -> Path:
    """Make the file that every database begins as a copy of: with mqkit's tables, and effects.

    A fork has its parent's.
    """
    made = [path for each in _DIRECTORIES.values() if (path := each / "template.sqlite").exists()]
    path = made[0] if made else _directory() / "template.sqlite"
    if not made:

        async def create() -> None:
            store = Store(f"sqlite:///{path}")
            store.keep_sagas()
            async with store:
                pass

        asyncio.run(create())
        database = sqlite3.connect(path)
        database.execute(EFFECTS)
        database.commit()
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        database.close()
    return path


@dataclass(eq=False)
class AtCommit:
    """What happens at a commit to come."""

    skipped: int
    """Commits before it."""
    is_done: bool
    """Whether it is done nevertheless."""
    error: sqlite3.OperationalError | None
    """What its answer is; None: as if it was done."""
    then: Callable[[], None]
    process: Process | None = None
    """Whose it is; None: whoever's is the next."""


def lost() -> sqlite3.OperationalError:
    """Make the error of a commit of which nobody knows whether it is done."""
    return _error("disk I/O error", sqlite3.SQLITE_IOERR)


class Disk:
    """The file, and what is wrong with it now."""

    waits = False
    """Whether who connects may wait for a lock."""

    def __init__(self) -> None:
        self.path = _directory() / "store.sqlite"
        shutil.copyfile(prepare(), self.path)
        self.url = f"sqlite:///{self.path}"
        self.is_full = False
        self.at_commits: list[AtCommit] = []
        """What is to happen at one of the next commits."""
        self._locker: sqlite3.Connection | None = None
        self._reader = sqlite3.connect(self.path, isolation_level=None)

    def connect(self, *args: Any, **kwargs: Any) -> sqlite3.Connection:
        """Connect to it."""
        disk = self

        class Connection(sqlite3.Connection):
            def execute(self, statement: str, *parameters: Any) -> sqlite3.Cursor:
                if disk.is_full and statement.lstrip()[:6].upper() in ("INSERT", "UPDATE"):
                    # SQLite may end the whole transaction by itself then.
                    self.rollback()
                    raise _error("database or disk is full", sqlite3.SQLITE_FULL)
                return super().execute(statement, *parameters)

            def commit(self) -> None:
                # By a thread's own connection; those of the event loop commit in `run`.
                _, error = disk.committed(self, super().commit)
                if error is not None:
                    raise error

            def cursor(self, *_: Any) -> sqlite3.Cursor:  # type: ignore[override]
                return super().cursor(Cursor)

        class Cursor(sqlite3.Cursor):
            def execute(self, statement: str, *parameters: Any) -> Self:
                if disk.is_full and statement.lstrip()[:6].upper() in ("INSERT", "UPDATE"):
                    self.connection.rollback()
                    raise _error("database or disk is full", sqlite3.SQLITE_FULL)
                return super().execute(statement, *parameters)

        # A step of the loop cannot wait for another one's lock: it would wait in real time.
        if not self.waits:
            kwargs["timeout"] = 0
        return sqlite3.connect(*args, **kwargs, factory=Connection)

    def run(self, job: Job, run: Callable[[Job], None]) -> None:
        """Do a job of a connection, as `run` does; a commit may go wrong."""
        function = job.function
        if isinstance(function, partial) and function.func is sqlite3.Connection.commit:
            job.outcome = self.committed(function.args[0], function)
        else:
            run(job)

    def committed(
        self, database: sqlite3.Connection, commit: Callable[[], None]
    ) -> tuple[None, BaseException | None]:
        """Commit, or let happen what is due; return the outcome of the job."""
        due = self._due() if self.at_commits and database.in_transaction else None
        try:
            if due is None or due.is_done:
                commit()
            elif due.error is not None:
                database.rollback()
        except sqlite3.Error as error:
            return None, error
        if due is None:
            return None, None
        due.then()
        return None, due.error

    def _due(self) -> AtCommit | None:
        process = PROCESS.get()
        for each in self.at_commits:
            if each.process not in (None, process):
                continue
            if not each.skipped:
                self.at_commits.remove(each)
                return each
            each.skipped -= 1
        return None

    def lock(self) -> None:
        """Let somebody else write, and be long about it."""
        if self._locker is None:
            database = sqlite3.connect(self.path, isolation_level=None, timeout=0)
            try:
                database.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                database.close()  # a service writes right now
            else:
                self._locker = database

    def unlock(self) -> None:
        """Let him end."""
        if self._locker is not None:
            self._locker.execute("ROLLBACK")
            self._locker.close()
            self._locker = None

    def rows(self, query: str) -> list[Any]:
        """Read what is committed."""
        return self._reader.execute(query).fetchall()

    def close(self) -> None:
        """Forget it."""
        self.unlock()
        self._reader.close()
        for suffix in ("", "-wal", "-shm", "-journal"):
            Path(f"{self.path}{suffix}").unlink(missing_ok=True)


def _error(text: str, code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError(text)
    error.sqlite_errorcode = code
    return error
