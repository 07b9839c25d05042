"""The broker of a schedule: the embedded one, whose durable data outlives its process."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from mqkit import BrokerUrl
from mqkit.embedded import EmbeddedServer
from mqkit.embedded.engine.clock import Clock
from mqkit.embedded.engine.durable import file as durable_file
from mqkit.embedded.engine.durable.sqlite import Store
from mqkit.embedded.engine.vhost import VirtualHost
from tests.simulation.simulated.environment import Clocks
from tests.simulation.simulated.loop import Loop, Process, ended
from tests.simulation.simulated.network import Network

HOST = "127.0.0.9"
PORT = 5672
EVENTS = "events"

_TEMPLATE: list[bytes] = []


def _empty() -> bytes:
    if not _TEMPLATE:
        database = sqlite3.connect(":memory:", isolation_level=None)
        for statement in durable_file.SCHEMA:
            database.execute(statement)
        _TEMPLATE.append(database.serialize())
        database.close()
    return _TEMPLATE[0]


class Disk:
    """What is durable of a broker; what was not committed goes with its process."""

    def __init__(self) -> None:
        self.database = sqlite3.connect(":memory:", isolation_level=None)
        self.database.deserialize(_empty())
        self.store: Store | None = None

    def open(self) -> Store:
        """Make the store of a broker that starts."""
        store = self.store = _Kept.__new__(_Kept)
        store._path = Path("memory")
        store._clock = None
        store._changed = False
        store._error = None
        store._ids = {}
        store._gone = 0
        store._shrinking = None
        store._database = self.database
        return store

    def lose_what_is_not_durable(self) -> None:
        """Forget what was not committed."""
        if self.database.in_transaction:
            self.database.execute("ROLLBACK")

    def close(self) -> None:
        """Forget everything."""
        self.database.close()


class _Kept(Store):
    """A store whose file stays open: it is in memory."""

    def close(self) -> None:
        """Keep what is committed."""
        if self._database.in_transaction:
            self._database.execute("ROLLBACK")

    def commit(self) -> None:
        self._gone = 0  # it has no pages to give back
        super().commit()


class BrokerHost:
    """The host that the broker runs on; it is killed and started again."""

    def __init__(self, loop: Loop, network: Network, clocks: Clocks, heartbeat: int) -> None:
        self._loop = loop
        self._network = network
        self._clocks = clocks
        self.disk = Disk()
        self.host = HOST
        self.process: Process | None = None
        self.server: EmbeddedServer | None = None
        self.url = BrokerUrl.parse(f"amqp://guest:guest@{HOST}:{PORT}/?heartbeat={heartbeat}")

    @property
    def is_up(self) -> bool:
        """Whether it takes connections."""
        return self.process is not None and self.process.alive

    @property
    def vhost(self) -> VirtualHost:
        """The virtual host that everybody uses."""
        assert self.server is not None
        return self.server.node.vhosts["/"]

    async def start(self) -> None:
        """Start it, with what is durable."""
        if self.is_up:
            return
        loop = self._loop
        process = self.process = loop.new_process(HOST)
        with loop.inside(process):
            server = self.server = EmbeddedServer(
                host=HOST,
                port=PORT,
                memory_limit=1 << 40,
                clock=lambda: Clock(monotonic=loop.time, wall=self._clocks.wall),
                store=self.disk.open,
                random_bytes=loop.rng.randbytes,
            )
            process.keep.append(server)
            await loop.create_task(server.start(), name="broker")
            self._declare_events(server)

    def _declare_events(self, server: EmbeddedServer) -> None:
        """Declare the queue that nobody consumes: what transactions publish is counted in it."""
        with server._change():
            server.node.vhosts["/"].declare_queue(
                EVENTS,
                durable=True,
                auto_delete=False,
                owner=None,
                connection=self,
                arguments={"x-queue-type": "quorum"},
            )

    async def stop(self) -> None:
        """Stop it as SIGTERM does."""
        process, server = self.process, self.server
        if process is None or server is None or not process.alive:
            return
        with self._loop.inside(process):
            stopping = self._loop.create_task(server.stop(), name="stop broker")
        await ended(process, stopping)
        if process.alive:
            self.kill()

    def kill(self, *, power: bool = False) -> None:
        """Kill it without a word; with `power`, its host is gone as well."""
        if self.process is None or not self.process.alive:
            return
        if power:
            self._network.cut_power(self.process)
        else:
            self._network.die(self.process)
        self._loop.kill(self.process)
        self.disk.lose_what_is_not_durable()
