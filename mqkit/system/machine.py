"""What mqkit takes from the machine beside the event loop; a simulation hands in its own.

Time, timers, sockets and the default executor are the event loop's. Waits that are drawn at random
come from Python's module `random`, which can be seeded. All else is here.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from mqkit.system.files import lock

_PRIVATE = 0o600


FileLock = contextlib.AbstractContextManager[bool]
"""Holds a lock while its block runs, or gives False: another process has it."""


class Thread(Protocol):
    """What is used of a thread that runs one function."""

    def start(self) -> None:
        """Let it run."""
        ...

    def is_alive(self) -> bool:
        """Tell whether it runs."""
        ...


def thread_pool(threads: int, name: str) -> Executor:
    """Make an executor of so many threads."""
    return ThreadPoolExecutor(threads, thread_name_prefix=name)


def daemon_thread(function: Callable[[], None], name: str) -> Thread:
    """Make a thread that keeps no process from ending, unlike an executor's."""
    return threading.Thread(target=function, name=name, daemon=True)


@contextlib.contextmanager
def file_lock(path: str) -> Iterator[bool]:
    """Lock a file while the block runs; False where another process has it.

    The system lets go of it when the process dies, however it does.

    :raises OSError: the file cannot be opened
    """

    def private(path: str, flags: int) -> int:
        return os.open(path, flags, _PRIVATE)

    with open(path, "ab", opener=private) as file:
        yield lock(file.fileno())


@dataclass(frozen=True, slots=True)
class Machine:
    """Says where random bytes, threads, file locks and SQLite's connections come from."""

    random_bytes: Callable[[int], bytes] = os.urandom
    """Gives so many bytes, of which ids and tokens are made that nobody else has or guesses."""
    executor: Callable[[int, str], Executor] = thread_pool
    """Makes what runs the `def` handlers of one handler: so many at a time, under this name.

    A simulation's runs each call as a step of its own; the future that `submit` returns is
    finished on the event loop then.
    """
    thread: Callable[[Callable[[], None], str], Thread] = daemon_thread
    """Makes the thread of one call of a `def` probe."""
    watches_stalls: bool = True
    """Whether a thread watches for handlers that block the event loop, in real time."""
    connect_sqlite: Callable[..., sqlite3.Connection] = sqlite3.connect
    """Connects to an SQLite database."""
    sqlite_in_thread: bool = True
    """Whether a connection to SQLite runs in a thread of its own, or on the event loop.

    There each statement holds up everything else; it waits for a lock in the loop's time.
    """
    file_lock: Callable[[str], FileLock] = file_lock
    """Holds the lock by which one relay runs on an SQLite database."""


MACHINE = Machine()
"""The real one."""
