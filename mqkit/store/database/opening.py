"""Opens connections of the drivers, and closes one whose caller is cancelled meanwhile.

A driver forgets what it opens when it is cancelled in the middle of it: a file, a thread, a socket.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from mqkit.store.database.sqlite.thread import SqliteConnection
from mqkit.system.machine import Machine

T = TypeVar("T")

OPENING_TIMEOUT = 1.0
"""Seconds that a cancelled opening may take to come to its end; then it is cancelled itself."""


async def open_postgres(*args: Any, **kwargs: Any) -> Any:
    """Open a connection by `asyncpg.connect`."""
    import asyncpg  # noqa: PLC0415 - an extra, which SQLite does without

    async def close(connection: Any) -> None:
        connection.terminate()

    return await _whole(asyncpg.connect(*args, **kwargs), close)


async def open_sqlite(machine: Machine, *args: Any, **kwargs: Any) -> SqliteConnection:
    """Open a connection with the arguments of `sqlite3.connect`."""
    connection = SqliteConnection(*args, machine=machine, **kwargs)

    async def connect() -> SqliteConnection:
        await connection.open()
        return connection

    return await _whole(connect(), SqliteConnection.close)


async def _whole(opening: Awaitable[T], close: Callable[[T], Awaitable[None]]) -> T:
    task = asyncio.ensure_future(opening)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task], timeout=OPENING_TIMEOUT)
        if not task.done():
            task.cancel()
            await asyncio.wait([task])
        if not task.cancelled() and task.exception() is None:
            with contextlib.suppress(OSError):
                await close(task.result())
        raise
