"""The embedded broker as a `Broker` of the tests: in this process, started in milliseconds."""

from __future__ import annotations

import json
import shlex
import shutil
import tempfile
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import NoReturn

from mqkit.embedded import PRODUCT, DataError, ServerThread, version
from mqkit.testing.brokers import probe
from mqkit.testing.brokers.broker import Broker, BrokerControlError, BrokerStartError

LABEL = "embedded"

DEFAULT_VHOST = "/"

CONNECTION_COLUMNS: dict[str, str] = {
    "pid": "name",
    "name": "name",
    "user": "user",
    "vhost": "vhost",
    "timeout": "heartbeat",
    "client_properties": "client_properties",
}
"""What `list_connections` can tell, by rabbitmqctl's names."""

QUEUE_COLUMNS: dict[str, str] = {
    "name": "name",
    "messages_ready": "ready",
    "messages_unacknowledged": "unacked",
    "consumers": "consumers",
}
"""What `list_queues` can tell, by rabbitmqctl's names; `messages` is the sum of two of them."""


class EmbeddedBroker(Broker):
    """mqkit's own broker in a thread, on a free port of 127.0.0.1, which it keeps.

    It is no RabbitMQ: its guide (docs/guides/embedded-broker.md) says what differs.

    :param durable: what is durable is in a directory of its own, so that it outlives `kill` and
        `stop` as it does with RabbitMQ, and goes with `close`; nothing waits for the disk. Without
        it everything is in memory, and tests are faster by a fifth.
    :raises BrokerStartError: it did not come up
    """

    kind = "embedded"
    product = PRODUCT

    def __init__(self, *, durable: bool = True) -> None:
        self.label = LABEL
        self.version = version()
        self._vhosts = {DEFAULT_VHOST}
        self._home = Path(tempfile.mkdtemp(prefix="mqkit-embedded-"))
        # Below the range of outgoing ports, and the same after a restart: while it is stopped,
        # a client that keeps connecting must not be given this very port to connect from.
        (port,) = probe.free_ports(1)
        self._server = ServerThread(port=port, data=self._home if durable else None, fsync=False)
        self._is_running = False
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        self.url = self._server.url

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.version}>"

    def advance(self, seconds: float | timedelta) -> None:
        """Let time pass at once on this broker, for all that waits in its queues.

        What falls due happens in its order: expiry, delays, dead-lettering.

        :raises BrokerControlError: it does not run
        :raises ValueError: `seconds` is negative, or no time
        """
        self._check_running("advance")
        self._server.advance(seconds)

    def ctl(self, *args: str) -> str:
        """Do one of `COMMANDS` as rabbitmqctl does, and return what that would print.

        :raises BrokerControlError: it is another command, or failed
        """
        words = list(args)
        vhost = DEFAULT_VHOST
        if "-p" in words[:-1]:
            place = words.index("-p")
            vhost = words[place + 1]
            del words[place : place + 2]
        command, *rest = words or [""]
        if command not in COMMANDS:
            self._refuse(
                args, f"the embedded broker has only {', '.join(sorted(COMMANDS))}; use a RabbitMQ"
            )
        self._check_running(f"rabbitmqctl {shlex.join(args)}")
        try:
            return COMMANDS[command](self, vhost, *rest)
        except KeyError as error:
            self._refuse(args, f"there is no {error.args[0]}", error)
        except TypeError as error:
            self._refuse(args, f"wrong number of arguments ({error})", error)

    def block(self) -> None:
        self._check_running("block")
        self._server.block("low on memory")

    def unblock(self) -> None:
        self._check_running("unblock")
        self._server.unblock()

    def kill(self) -> None:
        self._server.stop(abruptly=True)
        self._is_running = False

    def stop(self) -> None:
        self._server.stop()
        self._is_running = False

    def start(self) -> None:
        if self._is_running:
            return
        try:
            self._server.start()
        except (DataError, OSError) as error:
            raise BrokerStartError(f"the embedded broker did not start: {error}") from error
        self._is_running = True

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self._home, ignore_errors=True)

    def _check_running(self, what: str) -> None:
        if not self._is_running:
            raise BrokerControlError(f"{what}: the embedded broker is not running")

    def _check_vhost(self, name: str) -> None:
        if name not in self._vhosts:
            raise KeyError(f"virtual host {name!r}")

    @staticmethod
    def _refuse(args: Sequence[str], why: str, cause: BaseException | None = None) -> NoReturn:
        raise BrokerControlError(f"rabbitmqctl {shlex.join(args)}: {why}") from cause

    def _version(self, _: str) -> str:
        return f"{self.version}\n"

    def _close_all_connections(self, _: str, reason: str) -> str:
        self._server.close_connections(reason)
        return ""

    def _add_user(self, _: str, name: str, password: str) -> str:
        self._server.add_user(name, password)
        return ""

    def _delete_user(self, _: str, name: str) -> str:
        self._server.delete_user(name)
        return ""

    def _set_permissions(self, vhost: str, user: str, configure: str, write: str, read: str) -> str:
        self._check_vhost(vhost)
        self._server.set_permissions(user, vhost, configure, write, read)
        return ""

    def _add_vhost(self, _: str, name: str) -> str:
        self._server.add_vhost(name)
        self._vhosts.add(name)
        return ""

    def _delete_vhost(self, _: str, name: str) -> str:
        self._check_vhost(name)
        self._vhosts.remove(name)
        self._server.delete_vhost(name)
        return ""

    def _list_vhosts(self, _: str, *columns: str) -> str:
        if columns not in ((), ("name",)):
            raise KeyError(f"column of virtual hosts in {columns}")
        return _table(["name"], [[name] for name in sorted(self._vhosts)])

    def _list_queues(self, vhost: str, *columns: str) -> str:
        self._check_vhost(vhost)
        columns = columns or ("name", "messages")
        for column in columns:
            if column not in (*QUEUE_COLUMNS, "messages"):
                raise KeyError(f"column {column!r}")
        rows = []
        for queue in self._server.queues(vhost):
            cells = {column: getattr(queue, name) for column, name in QUEUE_COLUMNS.items()}
            cells["messages"] = queue.ready + queue.unacked
            rows.append([str(cells[column]) for column in columns])
        return _table(columns, rows)

    def _list_connections(self, _: str, *columns: str) -> str:
        columns = columns or ("user", "vhost", "name")
        for column in columns:
            if column not in CONNECTION_COLUMNS:
                raise KeyError(f"column {column!r}")
        rows = []
        for each in self._server.connections():
            cells = {column: getattr(each, name) for column, name in CONNECTION_COLUMNS.items()}
            # rabbitmqctl prints Erlang's terms; who reads them looks for a quoted word.
            cells["client_properties"] = json.dumps(cells["client_properties"], default=str)
            rows.append([str(cells[column]) for column in columns])
        return _table(columns, rows)


COMMANDS: dict[str, Callable[..., str]] = {
    "add_user": EmbeddedBroker._add_user,  # noqa: SLF001 - its own table
    "add_vhost": EmbeddedBroker._add_vhost,  # noqa: SLF001
    "close_all_connections": EmbeddedBroker._close_all_connections,  # noqa: SLF001
    "delete_user": EmbeddedBroker._delete_user,  # noqa: SLF001
    "delete_vhost": EmbeddedBroker._delete_vhost,  # noqa: SLF001
    "list_connections": EmbeddedBroker._list_connections,  # noqa: SLF001
    "list_queues": EmbeddedBroker._list_queues,  # noqa: SLF001
    "list_vhosts": EmbeddedBroker._list_vhosts,  # noqa: SLF001
    "set_permissions": EmbeddedBroker._set_permissions,  # noqa: SLF001
    "version": EmbeddedBroker._version,  # noqa: SLF001
}
"""The rabbitmqctl commands that the embedded broker does, each with rabbitmqctl's arguments."""


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Print rows as `rabbitmqctl -q` does: columns by tabs, under their names."""
    return "".join("\t".join(row) + "\n" for row in [columns, *rows])
