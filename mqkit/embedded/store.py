"""What is durable, in an SQLite file: it outlives the process once `commit` has returned."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pamqp import decode

from mqkit.embedded import arguments as queue_arguments
from mqkit.embedded.bindings import Binding, Destination
from mqkit.embedded.errors import DataError, ReplyError
from mqkit.embedded.exchanges import Exchange
from mqkit.embedded.frames import MALFORMED, ReceivedHeader
from mqkit.embedded.journal import Journal
from mqkit.embedded.message import Death, Entry, Message
from mqkit.embedded.queue import Queue
from mqkit.embedded.tables import encode_table

if TYPE_CHECKING:
    from mqkit.embedded.clock import Clock
    from mqkit.embedded.node import Node

FILE = "mqkit-broker.sqlite"

APPLICATION = int.from_bytes(b"mqkb")
"""SQLite's `application_id`: another program's file is left alone."""

VERSION = 2
"""Of the tables below; a file of another version is left alone."""

PRIMARY_CODE = 0xFF
"""SQLite's extended result codes have the plain one in their lowest octet."""

MOVE = "put back a copy, or move it away to begin with an empty one"

SCHEMA = """
CREATE TABLE vhosts (name TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE exchanges (
    vhost TEXT, name TEXT, type TEXT, auto_delete INT, internal INT, arguments BLOB,
    PRIMARY KEY (vhost, name)
) WITHOUT ROWID;
CREATE TABLE queues (
    position INTEGER PRIMARY KEY, vhost TEXT, name TEXT, auto_delete INT, arguments BLOB,
    UNIQUE (vhost, name)
);
CREATE TABLE bindings (
    position INTEGER PRIMARY KEY, vhost TEXT, source TEXT, kind TEXT, destination TEXT,
    routing_key TEXT, arguments BLOB
);
CREATE INDEX bindings_of ON bindings (vhost, source);
CREATE TABLE entries (
    vhost TEXT, queue TEXT, number INT, exchange TEXT, routing_keys TEXT, header BLOB, body BLOB,
    deaths TEXT, priority INT, expires_at REAL, delivery_count INT,
    acquired_count INT,
    PRIMARY KEY (vhost, queue, number)
) WITHOUT ROWID;
"""


class Store(Journal):
    """A directory that one broker at a time uses.

    Once something could not be written, nothing more is: what the file has is then what was
    confirmed, and every further call raises the first error again.

    :raises DataError: it cannot be used: not a directory, not writable, in use, not ours
    """

    def __init__(self, directory: Path, *, fsync: bool = True) -> None:
        self._path = directory / FILE
        self._clock: Clock | None = None
        self._changed = False
        self._error: str | None = None
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(
                self._path, isolation_level=None, check_same_thread=False
            )
        except (OSError, sqlite3.Error) as error:
            raise DataError(
                f"the data directory {directory} cannot be used: {error}; name one that this "
                "user may write to"
            ) from error
        try:
            self._open(fsync=fsync)
        except sqlite3.Error as error:
            self._database.close()
            raise DataError(f"{self._file} cannot be used: {_advice(error)}") from error
        except DataError:
            self._database.close()
            raise

    @property
    def _file(self) -> str:
        return f"the broker's file {self._path}"

    def _open(self, *, fsync: bool) -> None:
        execute = self._database.execute
        execute("PRAGMA busy_timeout=0")
        execute("PRAGMA locking_mode=EXCLUSIVE")
        # Before anything is changed in a file that may be somebody else's.
        self._is_new()
        execute("PRAGMA journal_mode=WAL")
        # A confirm says that the message is on disk.
        execute(f"PRAGMA synchronous={'FULL' if fsync else 'OFF'}")
        execute("BEGIN EXCLUSIVE")
        if self._is_new():
            for statement in SCHEMA.split(";\n"):
                execute(statement)
            execute(f"PRAGMA application_id={APPLICATION}")
            execute(f"PRAGMA user_version={VERSION}")
        execute("COMMIT")

    def _is_new(self) -> bool:
        """True for an empty file.

        :raises DataError: it has something else than this broker's data
        """
        (application,) = self._database.execute("PRAGMA application_id").fetchone()
        (version,) = self._database.execute("PRAGMA user_version").fetchone()
        (tables,) = self._database.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if not version and not tables and not application:
            return True
        if (application, version) != (APPLICATION, VERSION):
            raise DataError(
                f"{self._path} is not a file of this version's broker; name another directory, "
                "or move it away"
            )
        return False

    def restore(self, node: Node) -> None:
        """Put what the file has into a new broker.

        :raises DataError: the file is damaged
        """
        self._clock = node.clock
        try:
            for (name,) in self._database.execute("SELECT name FROM vhosts ORDER BY name"):
                node.add_vhost(name)
            self._restore_exchanges(node)
            self._restore_queues(node)
            self._restore_bindings(node)
            self._restore_entries(node)
        except sqlite3.Error as error:
            raise DataError(f"{self._file} cannot be used: {_advice(error)}") from error
        except (*MALFORMED, AttributeError, ReplyError) as error:
            raise DataError(f"{self._file} is damaged: {error!r}; {MOVE}") from error
        node.settle()

    def _restore_exchanges(self, node: Node) -> None:
        for vhost, name, type_, auto_delete, internal, arguments in self._database.execute(
            "SELECT * FROM exchanges"
        ):
            node.vhosts[vhost].exchanges[name] = Exchange(
                name,
                type_,
                durable=True,
                auto_delete=bool(auto_delete),
                internal=bool(internal),
                arguments=_table(arguments),
            )

    def _restore_queues(self, node: Node) -> None:
        for vhost, name, auto_delete, blob in self._database.execute(
            "SELECT vhost, name, auto_delete, arguments FROM queues ORDER BY position"
        ):
            arguments = _table(blob)
            host = node.vhosts[vhost]
            host.queues[name] = Queue(
                name,
                host,
                queue_arguments.parse(arguments, name, vhost),
                durable=True,
                auto_delete=bool(auto_delete),
                arguments=arguments,
            )

    def _restore_bindings(self, node: Node) -> None:
        for vhost, source, kind, destination, key, arguments in self._database.execute(
            "SELECT vhost, source, kind, destination, routing_key, arguments FROM bindings "
            "ORDER BY position"
        ):
            node.vhosts[vhost].exchanges[source].bindings.add(
                Binding(Destination(kind, destination), key, _table(arguments))
            )

    def _restore_entries(self, node: Node) -> None:
        for row in self._database.execute("SELECT * FROM entries ORDER BY vhost, queue, number"):
            vhost, queue, number, exchange, keys, header, body, deaths, *rest = row
            priority, expires_at, delivery_count, acquired_count = rest
            received = ReceivedHeader(header)
            message = Message(
                exchange,
                tuple(json.loads(keys)),
                received.properties,
                body,
                received,
                tuple(_death(each) for each in json.loads(deaths)),
            )
            node.vhosts[vhost].queues[queue].restore(
                Entry(
                    message,
                    number,
                    priority,
                    None if expires_at is None else expires_at - self._wall_offset(),
                    # Whether it had been delivered is not kept; RabbitMQ too then says that it may.
                    redelivered=True,
                    delivery_count=delivery_count,
                    acquired_count=acquired_count,
                )
            )
        for host in node.vhosts.values():
            for each in host.queues.values():
                each.serve()

    def put_vhost(self, vhost: str) -> None:
        self._write("INSERT OR IGNORE INTO vhosts VALUES (?)", vhost)

    def drop_vhost(self, vhost: str) -> None:
        for table in ("exchanges", "queues", "bindings", "entries"):
            self._write(f"DELETE FROM {table} WHERE vhost = ?", vhost)  # noqa: S608 - our own names
        self._write("DELETE FROM vhosts WHERE name = ?", vhost)

    def put_exchange(self, vhost: str, exchange: Exchange) -> None:
        if exchange.durable:
            self._write(
                "INSERT INTO exchanges VALUES (?, ?, ?, ?, ?, ?)",
                vhost,
                exchange.name,
                exchange.type,
                exchange.auto_delete,
                exchange.internal,
                encode_table(exchange.arguments),
            )

    def drop_exchange(self, vhost: str, exchange: str) -> None:
        self._write("DELETE FROM exchanges WHERE vhost = ? AND name = ?", vhost, exchange)
        self._write("DELETE FROM bindings WHERE vhost = ? AND source = ?", vhost, exchange)

    def put_queue(self, vhost: str, queue: Queue) -> None:
        if queue.durable and queue.owner is None:
            self._write(
                "INSERT INTO queues (vhost, name, auto_delete, arguments) VALUES (?, ?, ?, ?)",
                vhost,
                queue.name,
                queue.auto_delete,
                encode_table(queue.arguments),
            )

    def drop_queue(self, vhost: str, queue: str) -> None:
        self._write("DELETE FROM queues WHERE vhost = ? AND name = ?", vhost, queue)
        self._write("DELETE FROM entries WHERE vhost = ? AND queue = ?", vhost, queue)

    def put_binding(
        self, vhost: str, source: str, to: Destination, routing_key: str, arguments: dict[str, Any]
    ) -> None:
        self._write(
            "INSERT INTO bindings (vhost, source, kind, destination, routing_key, arguments) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            vhost,
            source,
            to.kind,
            to.name,
            routing_key,
            encode_table(arguments),
        )

    def drop_binding(
        self,
        vhost: str,
        source: str,
        to: Destination,
        routing_key: str,
        arguments: Mapping[str, Any],
    ) -> None:
        self._write(
            "DELETE FROM bindings WHERE vhost = ? AND source = ? AND kind = ? AND destination = ? "
            "AND routing_key = ? AND arguments = ?",
            vhost,
            source,
            to.kind,
            to.name,
            routing_key,
            encode_table(arguments),
        )

    def drop_bindings_to(self, vhost: str, source: str, to: Destination) -> None:
        self._write(
            "DELETE FROM bindings WHERE vhost = ? AND source = ? AND kind = ? AND destination = ?",
            vhost,
            source,
            to.kind,
            to.name,
        )

    def put_entry(self, vhost: str, queue: str, entry: Entry) -> None:
        message = entry.message
        self._write(
            "INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            vhost,
            queue,
            entry.number,
            message.exchange,
            json.dumps(message.routing_keys),
            message.content_header(),
            message.body,
            json.dumps([asdict(death) for death in message.deaths]),
            entry.priority,
            None if entry.expires_at is None else entry.expires_at + self._wall_offset(),
            entry.delivery_count,
            entry.acquired_count,
        )

    def update_entry(self, vhost: str, queue: str, entry: Entry) -> None:
        self._write(
            "UPDATE entries SET delivery_count = ?, acquired_count = ? "
            "WHERE vhost = ? AND queue = ? AND number = ?",
            entry.delivery_count,
            entry.acquired_count,
            vhost,
            queue,
            entry.number,
        )

    def drop_entry(self, vhost: str, queue: str, entry: Entry) -> None:
        self._write(
            "DELETE FROM entries WHERE vhost = ? AND queue = ? AND number = ?",
            vhost,
            queue,
            entry.number,
        )

    def commit(self) -> None:
        if self._changed or self._error is not None:
            self._execute("COMMIT")
            self._changed = False

    def close(self) -> None:
        self._database.close()

    def _write(self, statement: str, *values: Any) -> None:
        if not self._changed:
            self._execute("BEGIN IMMEDIATE")
            self._changed = True
        self._execute(statement, *values)

    def _execute(self, statement: str, *values: Any) -> None:
        if self._error is not None:
            raise DataError(self._error)
        try:
            self._database.execute(statement, values)
        except sqlite3.Error as error:
            self._error = (
                f"{self._file} cannot be written: {error}; what was confirmed is in it: start the "
                "broker again when the disk can be written"
            )
            raise DataError(self._error) from error

    def _wall_offset(self) -> float:
        assert self._clock is not None
        return self._clock.wall() - self._clock.now()


def _advice(error: sqlite3.Error) -> str:
    """What SQLite says, and what to do about it."""
    if error.sqlite_errorcode & PRIMARY_CODE in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return "another broker uses it; stop that one, or name another directory"
    if error.sqlite_errorcode & PRIMARY_CODE in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return f"it is damaged, or no broker's ({error}); {MOVE}"
    return f"{error}; name a directory that this user may write to"


def _table(blob: bytes) -> dict[str, Any]:
    return dict(decode.field_table(blob)[1])


def _death(fields: dict[str, Any]) -> Death:
    return Death(**{**fields, "routing_keys": tuple(fields["routing_keys"])})
