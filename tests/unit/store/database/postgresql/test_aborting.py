"""Ending a transaction that another thread is at."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psycopg
import pytest

from mqkit.store.database.postgresql import aborting
from tests.support import eventually

SLOW = b"SELECT pg_sleep(60)"


class Beginning:
    """A connection whose thread sends a statement just after a cancel has come."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection
        self.pgconn = self

    def fileno(self) -> int:
        """Return its socket's."""
        return self._connection.fileno()

    def cancel_conn(self) -> Late:
        """Return a request to cancel that comes too early the first time."""
        return Late(self._connection.pgconn.cancel_conn(), self)

    def begin(self) -> None:
        """Begin the statement."""
        self._connection.pgconn.send_query(SLOW)
        self._connection.pgconn.flush()


class Late:
    """A request to cancel; a statement begins once the first one was read."""

    def __init__(self, request: Any, connection: Beginning) -> None:
        self._request = request
        self._connection = connection
        self._has_begun = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._request, name)

    def poll(self) -> int:
        """Go on with it."""
        status = int(self._request.poll())
        if status == psycopg.pq.PollingStatus.OK and not self._has_begun:
            self._has_begun = True
            self._connection.begin()
        return status


@pytest.fixture
def url(postgres_database: str) -> str:
    """As psycopg takes it."""
    return postgres_database.replace("+asyncpg", "")


@pytest.fixture
def watching(url: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection that sees what others are at."""
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection


def is_there(watching: psycopg.Connection[Any], process: int) -> bool:
    """Whether a process of the server's is still there."""
    found = watching.execute("SELECT 1 FROM pg_stat_activity WHERE pid = %s", [process])
    return found.fetchone() is not None


async def test_a_statement_that_begins_as_it_is_aborted_ends(
    url: str, watching: psycopg.Connection[Any]
) -> None:
    """A cancel that came before it has ended nothing: the server is told again."""
    with closing(psycopg.connect(url)) as connection:
        connection.execute("SELECT 1")
        process = connection.info.backend_pid
        aborting.abort(Beginning(connection))
        await eventually(lambda: not is_there(watching, process), within=5)


async def test_a_thread_learns_of_it_at_once(url: str, watching: psycopg.Connection[Any]) -> None:
    """What it waits for fails, and so does what it sends after that."""
    failed = threading.Event()

    def work() -> None:
        try:
            connection.execute(SLOW)
        except psycopg.Error:
            failed.set()

    def is_slow() -> bool:
        found = watching.execute("SELECT state FROM pg_stat_activity WHERE pid = %s", [process])
        return found.fetchone() == ("active",)

    with closing(psycopg.connect(url)) as connection:
        process = connection.info.backend_pid
        thread = threading.Thread(target=work)
        thread.start()
        await eventually(is_slow)
        aborting.abort(connection)
        assert failed.wait(5)
        thread.join()
        with pytest.raises(psycopg.Error):
            connection.execute("SELECT 1")
        await eventually(lambda: not is_there(watching, process), within=5)


def test_a_server_that_does_not_hang_up_costs_no_more_than_its_time(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection is shut at the end all the same."""
    monkeypatch.setattr(aborting, "TIMEOUT", 0.2)
    monkeypatch.setattr(aborting, "_canceller", lambda _: lambda _: None)
    with closing(psycopg.connect(url)) as connection:
        connection.pgconn.send_query(SLOW)
        connection.pgconn.flush()
        aborting.abort(connection)
        with pytest.raises(psycopg.Error):
            connection.pgconn.consume_input()
