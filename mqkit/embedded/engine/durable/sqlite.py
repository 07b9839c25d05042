"""Stores what is durable in an SQLite file; it outlives the process once `commit` has returned."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pamqp import decode

from mqkit.embedded.engine import arguments as queue_arguments
from mqkit.embedded.engine.durable.file import FILE, MOVE, advice, open_file, shrink
from mqkit.embedded.engine.durable.journal import Journal
from mqkit.embedded.engine.message import Death, Entry, Message
from mqkit.embedded.engine.queue import Queue
from mqkit.embedded.engine.routing.bindings import Binding, Destination
from mqkit.embedded.engine.routing.exchanges import Exchange
from mqkit.embedded.errors import DataError, ReplyError
from mqkit.embedded.wire.frames import MALFORMED, ReceivedHeader
from mqkit.embedded.wire.tables import encode_table

if TYPE_CHECKING:
    from mqkit.embedded.engine.clock import Clock, Timer
    from mqkit.embedded.engine.node import Node

T = TypeVar("T")

SHRINK_AFTER = 100
"""Messages that have gone before it is seen whether the file can be smaller."""

SHRINK_PAUSE = 0.05
"""Seconds between two steps of making it smaller."""


class Store(Journal):
    """The file in a data directory, which one broker at a time uses.

    Once something could not be written, nothing more is: what the file has is then what was
    confirmed, and every further call raises the first error again.

    :raises DataError: it cannot be used: not a directory, not writable, in use, not ours
    """

    def __init__(self, directory: Path, *, fsync: bool = True) -> None:
        self._path = directory / FILE
        self._clock: Clock | None = None
        self._changed = False
        self._error: str | None = None
        self._ids: dict[tuple[str, str], int] = {}
        """The numbers of the queues in the file, by virtual host and name."""
        self._gone = 0
        """Messages that have gone since the file's size was looked at."""
        self._shrinking: Timer | None = None
        self._database = open_file(directory, fsync=fsync)

    @property
    def _file(self) -> str:
        return f"the broker's file {self._path}"

    def restore(self, node: Node) -> None:
        """Put the content of the file into a new broker.

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
            raise DataError(f"{self._file} cannot be used: {advice(error)}") from error
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
        for position, vhost, name, auto_delete, blob in self._database.execute(
            "SELECT position, vhost, name, auto_delete, arguments FROM queues ORDER BY position"
        ):
            self._ids[vhost, name] = position
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
        queues = {
            number: node.vhosts[vhost].queues[name] for (vhost, name), number in self._ids.items()
        }
        for row in self._database.execute("SELECT * FROM entries ORDER BY queue, number"):
            queue, number, exchange, keys, header, body, deaths, *rest = row
            priority, expires_at, delivery_count, acquired_count = rest
            message = Message(
                exchange,
                tuple(json.loads(keys)),
                ReceivedHeader(header).properties,
                body,
                header,
                tuple(_death(each) for each in json.loads(deaths or "[]")),
            )
            message.condense()
            node.memory.hold(message)
            queues[queue].restore(
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
        for queue in [name for host, name in self._ids if host == vhost]:
            self.drop_queue(vhost, queue)
        for table in ("exchanges", "bindings"):
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
            cursor = self._write(
                "INSERT INTO queues (vhost, name, auto_delete, arguments) VALUES (?, ?, ?, ?)",
                vhost,
                queue.name,
                queue.auto_delete,
                encode_table(queue.arguments),
            )
            assert cursor.lastrowid is not None
            self._ids[vhost, queue.name] = cursor.lastrowid

    def drop_queue(self, vhost: str, queue: str) -> None:
        number = self._ids.pop((vhost, queue), None)
        if number is not None:
            self._write("DELETE FROM queues WHERE position = ?", number)
            self._gone += self._write("DELETE FROM entries WHERE queue = ?", number).rowcount

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
        deaths = [asdict(death) for death in message.deaths]
        self._write(
            "INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            self._ids[vhost, queue],
            entry.number,
            message.exchange,
            json.dumps(message.routing_keys),
            message.content_header(),
            message.body,
            json.dumps(deaths) if deaths else None,
            entry.priority,
            None if entry.expires_at is None else entry.expires_at + self._wall_offset(),
            entry.delivery_count,
            entry.acquired_count,
        )

    def update_entry(self, vhost: str, queue: str, entry: Entry) -> None:
        self._write(
            "UPDATE entries SET delivery_count = ?, acquired_count = ? "
            "WHERE queue = ? AND number = ?",
            entry.delivery_count,
            entry.acquired_count,
            self._ids[vhost, queue],
            entry.number,
        )

    def drop_entry(self, vhost: str, queue: str, entry: Entry) -> None:
        number = self._ids[vhost, queue]
        self._write("DELETE FROM entries WHERE queue = ? AND number = ?", number, entry.number)
        self._gone += 1

    def commit(self) -> None:
        if self._changed or self._error is not None:
            self._execute("COMMIT")
            self._changed = False
            if self._gone >= SHRINK_AFTER and self._shrinking is None:
                self._gone = 0
                self._shrink_soon()

    def close(self) -> None:
        if self._shrinking is not None:
            self._shrinking.cancel()
        self._database.close()

    def _shrink_soon(self) -> None:
        assert self._clock is not None
        self._shrinking = self._clock.call_at(self._clock.now() + SHRINK_PAUSE, self._shrink)

    def _shrink(self) -> None:
        """Make the file smaller by one step; a large one is not done in one go."""
        self._shrinking = None
        # Within a transaction it cannot be done; what makes one goes on to its commit.
        if self._changed or self._attempt(lambda: shrink(self._database)):
            self._shrink_soon()

    def _write(self, statement: str, *values: Any) -> sqlite3.Cursor:
        if not self._changed:
            self._execute("BEGIN IMMEDIATE")
            self._changed = True
        return self._execute(statement, *values)

    def _execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
        return self._attempt(lambda: self._database.execute(statement, values))

    def _attempt(self, work: Callable[[], T]) -> T:
        if self._error is not None:
            raise DataError(self._error)
        try:
            return work()
        except sqlite3.Error as error:
            self._error = (
                f"{self._file} cannot be written: {error}; what was confirmed is in it: start the "
                "broker again when the disk can be written"
            )
            raise DataError(self._error) from error

    def _wall_offset(self) -> float:
        assert self._clock is not None
        return self._clock.wall() - self._clock.now()


def _table(blob: bytes) -> dict[str, Any]:
    return dict(decode.field_table(blob)[1])


def _death(fields: dict[str, Any]) -> Death:
    return Death(**{**fields, "routing_keys": tuple(fields["routing_keys"])})
