"""Opens connections of the drivers, and closes one whose caller is cancelled meanwhile.

The drivers forget what they open when they are cancelled in the middle of it: a file, a thread, a
socket.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

OPENING_TIMEOUT = 1.0
"""Seconds that a cancelled opening may take to come to its end; then it is cancelled itself."""


async def open_postgres(*args: Any, **kwargs: Any) -> Any:
    """Open a connection by `asyncpg.connect`."""
    import asyncpg  # noqa: PLC0415 - an extra, which SQLite does without

    async def close(connection: Any) -> None:
        connection.terminate()

    return await _whole(asyncpg.connect(*args, **kwargs), close)


async def open_sqlite(*args: Any, **kwargs: Any) -> Any:
    """Open a connection by `aiosqlite.connect`; where it fails, its thread has ended, too."""
    import aiosqlite  # noqa: PLC0415 - SQLAlchemy imports it where it is needed only

    connection = aiosqlite.connect(*args, **kwargs)
    thread = connection._thread  # noqa: SLF001 - it has no public name; SQLAlchemy does the same
    thread.daemon = True

    async def connect() -> aiosqlite.Connection:
        try:
            return await connection
        except BaseException:
            # Its last word is to this loop, which may be about to end.
            await asyncio.to_thread(thread.join, OPENING_TIMEOUT)
            raise

    async def close(opened: aiosqlite.Connection) -> None:
        await opened.close()

    return await _whole(connect(), close)


async def _whole(opening: Awaitable[Any], close: Callable[[Any], Awaitable[None]]) -> Any:
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
