"""The database of the services: SQLite in memory, which fills up, locks, and loses answers."""

from __future__ import annotations

import asyncio
import atexit
import os
import shutil
import sqlite3
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from mqkit.store import Store
from mqkit.store.database.sqlite.jobs import Job

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


def prepare() -> Path:
    """Make the file that every database begins as a copy of: with mqkit's tables, and effects."""
    path = _directory() / "template.sqlite"
    if not path.exists():

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


class Disk:
    """The file, and what is wrong with it now."""

    def __init__(self) -> None:
        self.path = _directory() / "store.sqlite"
        shutil.copyfile(prepare(), self.path)
        self.url = f"sqlite:///{self.path}"
        self.is_full = False
        self.lost_answers = 0
        """So many commits are done, and their answer is an error."""
        self.doubts = 0
        """So many were."""
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

        return sqlite3.connect(*args, **kwargs, factory=Connection)

    def ran(self, job: Job) -> None:
        """Lose the answer of a commit that was done, where that is due."""
        function = job.function
        is_commit = isinstance(function, partial) and function.func is sqlite3.Connection.commit
        if self.lost_answers and is_commit and job.outcome == (None, None):
            self.lost_answers -= 1
            self.doubts += 1
            job.outcome = (None, _error("disk I/O error", sqlite3.SQLITE_IOERR))

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
