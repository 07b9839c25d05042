"""Databases of single runs: made with their tables, counted, and deleted."""

from __future__ import annotations

import contextlib
import secrets
import sqlite3
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.benchmarks.side_by_side.room import WorkError
from tests.postgres.server import PostgresServer, query

POSTING = """
CREATE TABLE posting (order_id varchar PRIMARY KEY, account varchar NOT NULL, cents bigint NOT NULL)
"""

BY_HAND = """
CREATE TABLE hand_inbox (
    handled_at {time} NOT NULL, keep_until {time} NOT NULL, body_hash bigint,
    attempt integer NOT NULL, message_id varchar(255) NOT NULL, handler varchar(255) NOT NULL,
    queue varchar(255) NOT NULL, result text
);
CREATE UNIQUE INDEX hand_inbox_key ON hand_inbox ({key});
CREATE INDEX hand_inbox_keep_until ON hand_inbox (keep_until);
CREATE TABLE hand_outbox (
    id {number}, shard smallint NOT NULL, order_key text, message_id varchar(255) NOT NULL,
    exchange varchar(255) NOT NULL, routing_key varchar(255) NOT NULL, mandatory boolean NOT NULL,
    properties text NOT NULL, body {binary} NOT NULL, written_at {time} NOT NULL,
    attempts integer NOT NULL, retry_at {time}, error text
);
CREATE INDEX hand_outbox_order ON hand_outbox (shard, id);
CREATE INDEX hand_outbox_message_id ON hand_outbox (message_id);
CREATE INDEX hand_outbox_held ON hand_outbox (order_key) WHERE retry_at IS NOT NULL;
"""
"""Inbox and outbox as the store had them when this benchmark was written: a yardstick stays."""

ON_POSTGRES = {
    "time": "timestamptz",
    "binary": "bytea",
    "number": "bigserial PRIMARY KEY",
    "key": "hashtextextended(message_id, 0), hashtextextended(handler || ' ' || queue, 0)",
}
ON_SQLITE = {
    "time": "timestamp",
    "binary": "blob",
    "number": "integer PRIMARY KEY AUTOINCREMENT",
    "key": "message_id, handler, queue",
}


class Database(Protocol):
    """The database of one run."""

    @property
    def url(self) -> str:
        """As SQLAlchemy and the store take it."""

    @property
    def server(self) -> int:
        """The process id of its server; 0 where it has none, or none that can be looked at."""

    def count(self, table: str) -> int:
        """Count a table's rows."""

    def settle(self) -> None:
        """Write what is to be written, so that no run has the work of the one before it."""


@dataclass(frozen=True)
class OnPostgres:
    """A database of a server."""

    url: str
    server: int

    def count(self, table: str) -> int:
        return int(query(self.url, f"SELECT count(*) FROM {table}"))  # noqa: S608

    def settle(self) -> None:
        query(self.url, "CHECKPOINT")


@dataclass(frozen=True)
class InFile:
    """A file."""

    path: Path
    server: int = 0

    @property
    def url(self) -> str:
        return f"sqlite+aiosqlite:///{self.path}"

    def count(self, table: str) -> int:
        with contextlib.closing(sqlite3.connect(self.path)) as connection:
            return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])  # noqa: S608

    def settle(self) -> None:
        """Do nothing: what the last run wrote is gone with its file."""


class Databases:
    """Makes databases: on a server of PostgreSQL, and in files."""

    def __init__(self, postgres: PostgresServer | None) -> None:
        """Use this server; None is where no system needs one."""
        self._postgres = postgres

    @contextlib.contextmanager
    def database(self, kind: str, *, by_hand: bool = False) -> Iterator[Database]:
        """An empty database of a run, with the tables that its handlers write to themselves.

        :param kind: `postgres` or `sqlite`
        :param by_hand: the tables of the loops by hand, too
        """
        make = self._on_postgres() if kind == "postgres" else self._in_file()
        words = ON_POSTGRES if kind == "postgres" else ON_SQLITE
        tables = [POSTING, *(BY_HAND.format(**words).split(";") if by_hand else [])]
        with make as database:
            for statement in filter(None, map(str.strip, tables)):
                _execute(database, statement)
            database.settle()
            yield database

    @contextlib.contextmanager
    def _on_postgres(self) -> Iterator[Database]:
        assert self._postgres is not None, "a server was started for it"
        name = f"bench-{secrets.token_hex(4)}"
        url = self._postgres.create_database(name)
        try:
            yield OnPostgres(url, server_process(self._postgres))
        finally:
            self._postgres.drop_database(name)

    @contextlib.contextmanager
    def _in_file(self) -> Iterator[Database]:
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            yield InFile(Path(folder, "bench.sqlite"))


def check_rows(database: Database, table: str, messages: int) -> None:
    """See that each message has had its effect once.

    :raises WorkError: there are not as many rows
    """
    count = database.count(table)
    if count != messages:
        raise WorkError(f"{table}: {count} rows where {messages} messages were handled")


def server_process(server: PostgresServer) -> int:
    """The process id of a server that was started here; 0 where it is not to be had."""
    file = Path(getattr(server, "home", ""), "server.pid")
    return int(file.read_text()) if server.kind == "node" and Path("/proc").exists() else 0


def _execute(database: Database, statement: str) -> None:
    if isinstance(database, InFile):
        with contextlib.closing(sqlite3.connect(database.path)) as connection:
            connection.execute(statement)
            connection.commit()
    else:
        query(database.url, statement)
