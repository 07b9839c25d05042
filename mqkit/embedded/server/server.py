"""The broker on a socket: a thin shell around `Connection`, driven by the event loop.

async with EmbeddedServer() as server:
    connect(server.url)
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

from mqkit.embedded.engine.clock import Clock
from mqkit.embedded.engine.durable.sqlite import Store
from mqkit.embedded.engine.memory import default_limit
from mqkit.embedded.engine.node import DEFAULT_USERS, Node
from mqkit.embedded.engine.users import Permissions
from mqkit.embedded.errors import DataError
from mqkit.embedded.server.accepting import stop_accepting
from mqkit.embedded.server.peer import Peer, is_loopback

MAX_PORT = 65535

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ConnectionInfo:
    """A connection as it is now."""

    name: str
    vhost: str
    user: str
    heartbeat: int
    """Seconds, as agreed; 0 is none."""
    client_properties: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class QueueInfo:
    """A queue as it is now."""

    name: str
    ready: int
    unacked: int
    consumers: int
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class MessageInfo:
    """A message that waits in a queue."""

    exchange: str
    routing_key: str
    properties: Mapping[str, Any]
    """Those that are set, but for empty texts, by their AMQP names; `headers` among them."""
    body: bytes


class EmbeddedServer:
    """An AMQP 0-9-1 broker in the running event loop.

    With `data` durable queues outlive it, in a file in that directory; without it everything is in
    memory. With `fsync=False` they outlive this process and not the machine, for tests: nothing
    then waits for the disk. `store` makes another one than that of `data`. Publishers are blocked
    while messages take more than `memory_limit` bytes of memory, by default a share
    (`memory.SHARE`) of what the machine has, or the control group. `clock` makes the clock that
    everything in a queue waits on, and `random_bytes` gives what names and tags are made of.
    `loopback` says which addresses are this machine, from where alone the user guest may come.
    `port` 0 is a free one. `users` are names and passwords; the first of them is in `url`, which
    holds its password: do not log it.

    Where the file cannot be written any more, the broker drops its connections without a confirm
    and stops listening; `failed` tells why, and so does every call that changes what is in the
    file.

    :raises ValueError: there is no user, or the port is none
    :raises DataError: (on entry) the directory cannot be used
    :raises OSError: (on entry) the address cannot be listened on
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        data: Path | str | None = None,
        users: Mapping[str, str] = DEFAULT_USERS,
        fsync: bool = True,
        memory_limit: int | None = None,
        clock: Callable[[], Clock] = Clock,
        store: Callable[[], Store] | None = None,
        random_bytes: Callable[[int], bytes] = os.urandom,
        loopback: Callable[[str], bool] = is_loopback,
    ) -> None:
        if not isinstance(port, int) or isinstance(port, bool) or not 0 <= port <= MAX_PORT:
            raise ValueError(f"a port is a whole number from 0 to {MAX_PORT}, not {port!r}")
        self.host = host
        self.port = port
        self._data = None if data is None else Path(data)
        self._users = dict(users)
        if not self._users:
            raise ValueError("a broker that nobody may log in to is of no use; give it users")
        self._make_store = store or self._store_of_data
        self._fsync = fsync
        self._clock = clock
        self._random_bytes = random_bytes
        self.is_loopback = loopback
        self._memory_limit = default_limit() if memory_limit is None else memory_limit
        self._node: Node | None = None
        self._server: asyncio.Server | None = None
        self._peers: dict[Peer, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._arming = False
        self.failed: asyncio.Future[None] | None = None
        """Gets the error that made the broker stop by itself: its file could not be written.

        None when it was stopped.
        """

    @property
    def url(self) -> str:
        """The broker URL of the first user, for the virtual host '/'."""
        name, password = (quote(each, safe="") for each in next(iter(self._users.items())))
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"amqp://{name}:{password}@{host}:{self.port}/"

    @property
    def node(self) -> Node:
        """The broker itself."""
        assert self._node is not None, "the server was not started"
        return self._node

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen; after `stop` again, at the same port.

        :raises RuntimeError: it listens already
        """
        if self._server is not None:
            raise RuntimeError("the embedded broker runs already")
        loop = asyncio.get_running_loop()
        store = self._make_store()
        try:
            self._node = Node(
                clock=self._clock(),
                journal=store,
                users=self._users,
                memory_limit=self._memory_limit,
                random_bytes=self._random_bytes,
            )
            if store is not None:
                store.restore(self._node)
            # The loop lets an address be listened on again at once where that does not mean, as on
            # Windows, that two may listen on it.
            self._server = await loop.create_server(lambda: Peer(self), self.host, self.port)
        except BaseException:
            if store is not None:
                store.close()
            raise
        self.failed = loop.create_future()
        self.port = self._server.sockets[0].getsockname()[1]
        self._node.clock.on_change = self._arm_soon
        self._arm_soon()

    def _store_of_data(self) -> Store | None:
        return None if self._data is None else Store(self._data, fsync=self._fsync)

    async def stop(self, *, abruptly: bool = False) -> None:
        """End all connections and stop listening; what is durable stays in its file.

        :param abruptly: without a word, as a broker that was killed
        """
        if self._server is None or self.failed is None:
            return
        server, self._server = self._server, None
        await stop_accepting(server)
        try:
            if not abruptly:
                self.attempt(self._close_all)
            for peer in list(self._peers):
                peer.end(abruptly=abruptly or self.failed.done())
            await asyncio.gather(*(peer.gone for peer in list(self._peers)))
            await server.wait_closed()
            self.attempt(self.node.settle)
        finally:
            if self._timer is not None:
                self._timer.cancel()
            self.node.clock.on_change = lambda: None
            self.node.journal.close()
        if not self.failed.done():
            self.failed.set_result(None)

    async def advance(self, seconds: float | timedelta) -> None:
        """Move the clock forward at once, for everything that waits in a queue.

        :raises ValueError: `seconds` is negative, over 1e9, or no time
        """
        with self._change():
            self.node.advance(seconds)

    def add_vhost(self, name: str) -> None:
        """Add a virtual host for the users that the broker began with."""
        with self._change():
            self.node.add_vhost(name)

    def delete_vhost(self, name: str) -> None:
        """Delete a virtual host with all that is in it, and close its connections."""
        with self._change():
            self.node.delete_vhost(name)

    def add_user(self, name: str, password: str) -> None:
        """Add a user without permissions, or give one another password."""
        self.node.users.add(name, password)

    def delete_user(self, name: str) -> None:
        """Let nobody log in by this name any more."""
        self.node.users.delete(name)

    def set_permissions(self, user: str, vhost: str, configure: str, write: str, read: str) -> None:
        """Set what a user may do in a virtual host: three regular expressions on names.

        :raises KeyError: there is no such user or virtual host
        :raises re.error: one of them is no regular expression
        """
        self.node.users[user].permissions[self.node.vhosts[vhost].name] = Permissions.of(
            configure, write, read
        )

    def close_connections(self, reason: str) -> int:
        """Close all connections, as `rabbitmqctl close_all_connections` does; returns how many."""
        connections = [each for each in self.node.connections if each.is_open]
        with self._change():
            for connection in connections:
                connection.force_close(reason)
        return len(connections)

    def block(self, reason: str) -> None:
        """Block publishers, as RabbitMQ does when memory runs out."""
        self.node.block(reason)

    def unblock(self) -> None:
        """Let publishers go on, unless their messages take too much memory."""
        with self._change():
            self.node.unblock()

    def connections(self) -> list[ConnectionInfo]:
        """Return the connections that are open."""
        return [
            ConnectionInfo(
                each.name,
                each.vhost.name if each.vhost is not None else "",
                each.user.name,
                each.heartbeat,
                each.client_properties,
            )
            for each in self.node.connections
            if each.is_open
        ]

    def queues(self, vhost: str = "/") -> list[QueueInfo]:
        """Return the queues of a virtual host, in the order of their declaration.

        :raises KeyError: there is no such virtual host
        """
        return [
            QueueInfo(
                queue.name,
                len(queue.ready),
                len(queue.unacked) + len(queue.held),
                len(queue.consumers),
                dict(queue.arguments),
            )
            for queue in self.node.vhosts[vhost].queues.values()
        ]

    def messages(self, queue: str, vhost: str = "/") -> list[MessageInfo]:
        """Return the messages that wait in a queue, in the order of going out; they stay there.

        :raises KeyError: there is no such queue or virtual host
        """
        found = self.node.vhosts[vhost].queues[queue]
        return [
            MessageInfo(
                message.exchange, message.routing_key, dict(_set(message.properties)), message.body
            )
            for message in (found.outgoing(entry) for entry in found.ready)
        ]

    # What a peer needs around it (`peer.Shell`)

    @property
    def takes_peers(self) -> bool:
        """False once it stops, or has failed."""
        return self._server is not None and self.failed is not None and not self.failed.done()

    def joined(self, peer: Peer) -> None:
        """Add a peer that has connected."""
        self._peers[peer] = None

    def left(self, peer: Peer) -> None:
        """Remove a peer whose socket is closed."""
        self._peers.pop(peer, None)

    def attempt(self, work: Callable[[], None]) -> None:
        """Do some work; where that cannot be made durable, the broker ends and confirms nothing."""
        try:
            work()
        except DataError as error:
            self._fail(error)

    @contextlib.contextmanager
    def _change(self) -> Iterator[None]:
        """Make a change durable, and let it have its effects.

        :raises DataError: it could not be made durable
        """
        try:
            yield
            self.node.settle()
        except DataError as error:
            self._fail(error)
            raise

    def _fail(self, error: DataError) -> None:
        """Stop the broker and confirm nothing more: what was taken cannot be kept."""
        if self.failed is None or self.failed.done():
            return
        logger.critical("the broker stops: %s", error)
        self.failed.set_exception(error)
        # Whoever waits for it gets it; whoever does not has read the log.
        self.failed.exception()
        if self._server is not None:
            self._server.close()
        for peer in list(self._peers):
            peer.end(abruptly=True)

    def _close_all(self) -> None:
        for connection in list(self.node.connections):
            connection.force_close("broker forced connection closure with reason 'shutdown'")

    def _arm_soon(self) -> None:
        """Set the timer after the present call, in which timers may change many times."""
        if not self._arming and self._server is not None:
            self._arming = True
            self._server.get_loop().call_soon(self._arm)

    def _arm(self) -> None:
        self._arming = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        wait = self.node.clock.wait()
        if wait is not None and self._server is not None:
            self._timer = self._server.get_loop().call_later(wait, self._tick)

    def _tick(self) -> None:
        try:
            self.attempt(self.node.run_due)
        finally:
            # Whatever one of them did wrong, the others are still due.
            self._arm()


def _set(properties: Any) -> Iterator[tuple[str, Any]]:
    for name, value in properties:
        if value is not None and value != "":
            yield ("type" if name == "message_type" else name), value
