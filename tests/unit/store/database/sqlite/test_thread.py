"""An SQLite connection in a thread of its own: order, cancellation, the end of the thread."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sqlite3
import subprocess
import sys
import threading
import weakref
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from mqkit.store.database.sqlite import thread as sqlite_thread
from mqkit.store.database.sqlite.thread import SqliteConnection
from tests.support import ROOT


@contextlib.asynccontextmanager
async def connected(path: Path) -> AsyncIterator[SqliteConnection]:
    """A connection with a table."""
    connection = SqliteConnection(path / "t.sqlite", isolation_level=None)
    await connection.open()
    try:
        await connection.run(
            lambda database: database.execute("CREATE TABLE t (n INTEGER)").close()
        )
        yield connection
    finally:
        await connection.close()


def insert(n: int, database: sqlite3.Connection) -> None:
    """Insert a number."""
    database.execute("INSERT INTO t VALUES (?)", (n,))


def numbers(database: sqlite3.Connection) -> list[int]:
    """Return the numbers in their order."""
    return [n for (n,) in database.execute("SELECT n FROM t ORDER BY rowid")]


def threads() -> list[threading.Thread]:
    """Threads that belong to connections."""
    return [thread for thread in threading.enumerate() if thread.name == "mqkit sqlite"]


@pytest.mark.parametrize("short", [False, True])
async def test_a_statement_that_takes_long_does_not_hold_up_the_loop(
    short: bool, tmp_path: Path
) -> None:
    """The loop itself lets this one go on, which it waits for."""
    go_on = threading.Event()
    async with connected(tmp_path) as connection:
        await connection.run(
            lambda database: database.create_function("wait", 0, lambda: go_on.wait(20))
        )
        run = connection.run_short if short else connection.run
        asyncio.get_running_loop().call_later(0.02, go_on.set)
        found: Any = await run(lambda database: database.execute("SELECT wait()").fetchall())
        assert found == [(1,)]


async def test_what_is_cancelled_is_done_in_its_order(tmp_path: Path) -> None:
    """A statement that was submitted later comes later, in whichever way."""
    go_on = threading.Event()
    async with connected(tmp_path) as connection:

        def first(database: sqlite3.Connection) -> None:
            go_on.wait(20)
            insert(1, database)

        cancelled = asyncio.create_task(connection.run(first))
        await asyncio.sleep(0)
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        later = asyncio.create_task(connection.run_short(lambda database: insert(2, database)))
        await asyncio.sleep(0)
        go_on.set()
        await later
        assert await connection.run(numbers) == [1, 2]


async def test_a_cancelled_begin_is_rolled_back(tmp_path: Path) -> None:
    """It waited for the write lock of another; once it has it, it gives it back."""
    async with connected(tmp_path) as connection:
        other = sqlite3.connect(tmp_path / "t.sqlite", isolation_level=None, timeout=20)
        other.execute("BEGIN IMMEDIATE")
        begin = asyncio.create_task(
            connection.run(lambda database: database.execute("BEGIN IMMEDIATE"))
        )
        await asyncio.sleep(0)
        begin.cancel()
        with pytest.raises(asyncio.CancelledError):
            await begin
        rolled_back = asyncio.create_task(connection.rollback())
        await asyncio.sleep(0)
        assert not rolled_back.done()
        other.execute("COMMIT")
        await rolled_back
        assert not connection.in_transaction
        other.execute("PRAGMA busy_timeout = 0")
        other.execute("BEGIN IMMEDIATE")
        other.close()


async def test_a_rollback_of_nothing_does_not_go_to_the_thread(tmp_path: Path) -> None:
    """It is done at the end of every transaction, after its commit."""
    async with connected(tmp_path) as connection:
        before = connection._submitted
        await connection.rollback()
        assert connection._submitted == before
        await connection.run(lambda database: database.execute("BEGIN").close())
        await connection.rollback()
        assert not connection.in_transaction


async def test_short_statements_let_the_loop_have_its_turn(tmp_path: Path) -> None:
    """One after the other, they do not keep others from it for more than so long."""
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with connected(tmp_path) as connection:
        others = asyncio.create_task(take_turns())
        loop = asyncio.get_running_loop()
        began, turns = loop.time(), 0
        while loop.time() - began < 20 * sqlite_thread.TURN:
            await connection.run_short(lambda database: insert(1, database))
        assert turns >= 5
        others.cancel()


async def test_a_short_statement_is_waited_for_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a turn of the loop, and with its error where it has one."""
    monkeypatch.setattr(sqlite_thread, "SHORT", 10)
    monkeypatch.setattr(sqlite_thread, "TURN", 20)
    turns = 0

    def turn() -> None:
        nonlocal turns
        turns += 1

    async with connected(tmp_path) as connection:
        asyncio.get_running_loop().call_soon(turn)
        assert await connection.run_short(numbers) == []
        with pytest.raises(sqlite3.OperationalError, match="no such table"):
            await connection.run_short(lambda database: database.execute("SELECT * FROM no"))
        assert turns == 0


async def test_nothing_is_kept_of_what_was_run(tmp_path: Path) -> None:
    """Neither its parameters and result nor its error, which is part of no cycle."""

    class Parameter:
        pass

    async with connected(tmp_path) as connection:

        async def run(short: bool, fails: bool) -> weakref.ref[Parameter]:
            parameter = Parameter()

            def use(_: sqlite3.Connection, used: Parameter = parameter) -> Parameter:
                if fails:
                    raise ValueError(used)
                return used

            with contextlib.suppress(ValueError):
                await (connection.run_short if short else connection.run)(use)
            return weakref.ref(parameter)

        gc.disable()
        try:
            for short in (False, True):
                for fails in (False, True):
                    kept = await run(short, fails)
                    await asyncio.sleep(0)
                    await connection.run(numbers)
                    assert kept() is None, (short, fails)
        finally:
            gc.enable()


async def test_a_stop_of_iteration_is_told_of(tmp_path: Path) -> None:
    """No future takes it, and who waits would wait for ever."""
    async with connected(tmp_path) as connection:
        with pytest.raises(RuntimeError, match="StopIteration"):
            await connection.run(lambda _: next(iter(())))


async def test_a_connection_that_is_closed_says_so(tmp_path: Path) -> None:
    """Its thread has ended; closing it again does nothing."""
    async with connected(tmp_path) as connection:
        assert len(threads()) == 1
    assert threads() == []
    await connection.close()
    with pytest.raises(sqlite3.ProgrammingError, match="closed database"):
        await connection.run(numbers)


async def test_what_cannot_be_opened_leaves_no_thread(tmp_path: Path) -> None:
    """The error is SQLite's."""
    with pytest.raises(sqlite3.OperationalError, match="unable to open"):
        await SqliteConnection(tmp_path / "no" / "x.sqlite").open()
    assert threads() == []


def test_one_that_its_loop_left_open_ends_as_garbage(tmp_path: Path) -> None:
    """Even in the middle of a transaction, whose lock it gives back, and of a statement."""
    go_on = threading.Event()

    def begin(database: sqlite3.Connection) -> None:
        go_on.wait(20)
        database.execute("BEGIN IMMEDIATE")

    async def leave() -> None:
        connection = SqliteConnection(tmp_path / "t.sqlite", isolation_level=None)
        await connection.open()
        asyncio.get_running_loop().call_soon(asyncio.current_task().cancel)  # type: ignore[union-attr]
        await connection.run(begin)

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(leave())
    gc.collect()
    [thread] = threads()
    go_on.set()
    thread.join(20)
    with contextlib.closing(sqlite3.connect(tmp_path / "t.sqlite", timeout=0)) as other:
        other.execute("BEGIN IMMEDIATE")


EXITS = """
import asyncio, sys
from mqkit.store.database.sqlite.thread import SqliteConnection

kept = SqliteConnection(sys.argv[1], isolation_level=None)

async def main():
    await kept.open()
    count = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
    asyncio.get_running_loop().call_later(0.1, asyncio.current_task().cancel)
    await kept.run(lambda database: database.execute(count).fetchall())

try:
    asyncio.run(main())
except asyncio.CancelledError:
    print("left")
"""


def test_a_statement_that_goes_on_does_not_hold_up_the_interpreters_end(tmp_path: Path) -> None:
    """It would go on for ever."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", EXITS, str(tmp_path / "t.sqlite")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, "left\n"), done.stderr
