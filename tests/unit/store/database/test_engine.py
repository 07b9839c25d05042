"""How connections to SQLite are set up."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import URL
from sqlalchemy.exc import OperationalError

from mqkit.store.database import engine as engines
from mqkit.store.database.engine import make_engine

AT_ONCE = 0.1
"""Seconds. SQLite refuses to switch to a write-ahead log in less, where another one writes."""


@pytest.fixture
def url(tmp_path: Path) -> URL:
    """Of a new database."""
    return URL.create("sqlite+aiosqlite", database=str(tmp_path / "new.sqlite"))


@pytest.fixture
def other(url: URL) -> Iterator[sqlite3.Connection]:
    """Another connection, which writes to it before it has a write-ahead log."""
    connection = sqlite3.connect(str(url.database), isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    yield connection
    connection.close()


async def test_who_opens_a_new_file_waits_for_another_that_writes_to_it(
    url: URL, other: sqlite3.Connection
) -> None:
    """SQLite itself does not: it refuses to switch the journal's mode at once."""
    asyncio.get_running_loop().call_later(AT_ONCE, other.rollback)
    engine = make_engine(url, 1)
    async with engine.connect() as connection:
        mode = await connection.exec_driver_sql("PRAGMA journal_mode")
    await engine.dispose()
    assert mode.scalar() == "wal"


@pytest.mark.usefixtures("other")
async def test_it_waits_no_longer_than_for_other_locks(
    url: URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then SQLite's refusal is raised."""
    monkeypatch.setattr(engines, "LOCK_TIMEOUT", AT_ONCE)
    engine = make_engine(url, 1)
    with pytest.raises(OperationalError, match="locked"):
        await engine.connect()
    await engine.dispose()
