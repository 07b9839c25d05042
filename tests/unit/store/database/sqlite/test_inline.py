"""An SQLite connection on the event loop: the order of jobs, and locks waited for in its time."""

from __future__ import annotations

import asyncio
import sqlite3
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mqkit.store.database.sqlite.inline import LOOK
from mqkit.store.database.sqlite.thread import SqliteConnection
from mqkit.system.machine import Machine

INLINE = Machine(sqlite_in_thread=False)


async def opened(path: Path, within: float = 5.0) -> SqliteConnection:
    """An open connection; the caller closes it."""
    connection = SqliteConnection(
        path / "t.sqlite", machine=INLINE, isolation_level=None, timeout=within
    )
    await connection.open()
    return connection


def run(statement: str, *values: Any) -> list[tuple[int, ...]]:
    """Run a statement on the connection that comes last, and return its rows."""
    *parameters, database = values
    rows: list[tuple[int, ...]] = database.execute(statement, parameters).fetchall()
    return rows


async def test_jobs_are_done_in_their_order_each_in_a_turn_of_its_own(tmp_path: Path) -> None:
    """Also where who waits for one is cancelled; its answer comes in a later turn."""
    connection = await opened(tmp_path)
    await connection.run(lambda d: run("CREATE TABLE t (n)", d))
    jobs = [
        asyncio.ensure_future(connection.run_short(partial(run, "INSERT INTO t VALUES (?)", n)))
        for n in range(5)
    ]
    await asyncio.sleep(0)
    jobs[2].cancel()
    assert not jobs[0].done()
    await asyncio.wait(jobs)
    assert await connection.run(lambda d: run("SELECT n FROM t", d)) == [(n,) for n in range(5)]
    await connection.close()
    with pytest.raises(sqlite3.ProgrammingError):
        await connection.run(lambda d: run("SELECT 1", d))


async def test_a_lock_is_waited_for_while_the_loop_goes_on(tmp_path: Path) -> None:
    """Who has it lets go of it on the same loop; what was given meanwhile comes after."""
    first, second = await opened(tmp_path), await opened(tmp_path)
    await first.run(lambda d: run("CREATE TABLE t (n)", d))
    await first.run(lambda d: run("BEGIN IMMEDIATE", d))
    begun = asyncio.ensure_future(second.run_short(lambda d: run("BEGIN IMMEDIATE", d)))
    later = asyncio.ensure_future(second.run_short(lambda d: run("INSERT INTO t VALUES (2)", d)))
    await asyncio.sleep(2 * LOOK)
    assert not begun.done()
    await first.run(lambda d: run("INSERT INTO t VALUES (1)", d))
    await first.run(sqlite3.Connection.commit)
    await asyncio.gather(begun, later)
    await second.run(sqlite3.Connection.commit)
    assert await first.run(lambda d: run("SELECT n FROM t", d)) == [(1,), (2,)]
    await asyncio.gather(first.close(), second.close())


async def test_a_lock_that_stays_is_an_error_in_the_end(tmp_path: Path) -> None:
    """After the connection's timeout, by the loop; what comes after it is done all the same."""
    first, second = await opened(tmp_path), await opened(tmp_path, within=3 * LOOK)
    await first.run(lambda d: run("BEGIN IMMEDIATE", d))
    refused = asyncio.ensure_future(second.run(lambda d: run("BEGIN IMMEDIATE", d)))
    asked = asyncio.ensure_future(second.run(lambda d: run("SELECT 1", d)))
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        await refused
    assert await asked == [(1,)]
    await asyncio.gather(first.close(), second.close())
