"""The broker on a socket: a thin shell around `Connection`, driven by the event loop.

async with EmbeddedServer() as server:
    connect(server.url)
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mqkit.embedded import frames
from mqkit.embedded.connection import Connection
from mqkit.embedded.errors import DataError
from mqkit.embedded.node import DEFAULT_USERS, Node
from mqkit.embedded.store import Store
from mqkit.embedded.users import Permissions

logger = logging.getLogger(__name__)

HANDSHAKE_TIMEOUT = 10.0
"""Seconds that a peer may take to be let in; RabbitMQ's default."""

CLOSE_TIMEOUT = 5.0
"""Seconds that a peer may take to end the connection, or to read what is left for it."""

LOOPBACK = ("127.", "::1", "::ffff:127.")


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
    """Those that are set, by their AMQP names; `headers` among them."""
    body: bytes


class EmbeddedServer:
    """An AMQP 0-9-1 broker in the running event loop.

    With `data` durable queues outlive it, in a file in that directory; without it everything is
    in memory. With `fsync=False` they outlive this process and not the machine, for tests:
    nothing then waits for the disk. `port` 0 is a free one. `users` are names and passwords; the
    first of them is in `url`, which holds its password: do not log it.

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
    ) -> None:
        self.host = host
        self.port = port
        self._data = None if data is None else Path(data)
        self._users = dict(users)
        self._fsync = fsync
        self._node: Node | None = None
        self._server: asyncio.Server | None = None
        self._peers: set[_Peer] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._arming = False
        self.failed: asyncio.Future[None] | None = None
        """Gets the error that made the broker stop by itself: its file could not be written."""

    @property
    def url(self) -> str:
        """The broker URL of the first user, for the virtual host '/'."""
        name, password = next(iter(self._users.items()))
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
        """Listen."""
        loop = asyncio.get_running_loop()
        store = Store(self._data, fsync=self._fsync) if self._data is not None else None
        try:
            self._node = Node(journal=store, users=self._users)
            if store is not None:
                store.restore(self._node)
            self._server = await loop.create_server(
                lambda: _Peer(self), self.host, self.port, reuse_address=True
            )
        except BaseException:
            if store is not None:
                store.close()
            raise
        self.failed = loop.create_future()
        self.port = self._server.sockets[0].getsockname()[1]
        self._node.clock.on_change = self._arm_soon
        self._arm_soon()

    async def stop(self, *, abruptly: bool = False) -> None:
        """End all connections and stop listening; what is durable stays in its file.

        :param abruptly: without a word, as a broker that was killed
        """
        if self._server is None:
            return
        server, self._server = self._server, None
        server.close()
        if not abruptly:
            for connection in list(self.node.connections):
                connection.force_close("broker forced connection closure with reason 'shutdown'")
        for peer in list(self._peers):
            peer.end(abruptly=abruptly)
        await asyncio.gather(*(peer.gone for peer in list(self._peers)))
        await server.wait_closed()
        if self._timer is not None:
            self._timer.cancel()
        self.node.clock.on_change = lambda: None
        if self.failed is not None and not self.failed.done():
            self.failed.cancel()
            self.node.settle()
        self.node.journal.close()

    async def advance(self, seconds: float) -> None:
        """Let time pass at once, for everything that waits in a queue.

        :raises ValueError: `seconds` is negative
        """
        self.node.advance(seconds)

    def add_vhost(self, name: str) -> None:
        """Add a virtual host for the users that the broker began with."""
        self.node.add_vhost(name)
        self.node.settle()

    def delete_vhost(self, name: str) -> None:
        """Delete a virtual host with all that is in it, and close its connections."""
        self.node.delete_vhost(name)
        self.node.settle()

    def add_user(self, name: str, password: str) -> None:
        """Add a user without permissions, or give one another password."""
        self.node.users.add(name, password)

    def delete_user(self, name: str) -> None:
        """Let nobody log in by this name any more."""
        self.node.users.delete(name)

    def set_permissions(self, user: str, vhost: str, configure: str, write: str, read: str) -> None:
        """Say what a user may do in a virtual host: three regular expressions on names.

        :raises KeyError: there is no such user or virtual host
        """
        self.node.users[user].permissions[self.node.vhosts[vhost].name] = Permissions.of(
            configure, write, read
        )

    def close_connections(self, reason: str) -> int:
        """Close all connections, as `rabbitmqctl close_all_connections` does; how many."""
        connections = [each for each in self.node.connections if each.is_open]
        for connection in connections:
            connection.force_close(reason)
        self.node.settle()
        return len(connections)

    def block(self, reason: str) -> None:
        """Take no more messages, as RabbitMQ does when memory or disk run out."""
        self.node.block(reason)

    def unblock(self) -> None:
        """Take messages again."""
        self.node.unblock()

    def queues(self, vhost: str = "/") -> list[QueueInfo]:
        """The queues of a virtual host, in the order of their declaration."""
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
        """The messages that wait in a queue, in the order of going out; they stay there.

        :raises KeyError: there is no such queue
        """
        found = self.node.vhosts[vhost].queues[queue]
        return [
            MessageInfo(
                message.exchange, message.routing_key, dict(_set(message.properties)), message.body
            )
            for message in (found.outgoing(entry) for entry in found.ready)
        ]

    def joined(self, peer: _Peer) -> None:
        """A peer has connected."""
        self._peers.add(peer)

    def left(self, peer: _Peer) -> None:
        """A peer's socket is closed."""
        self._peers.discard(peer)

    def fail(self, error: DataError) -> None:
        """Confirm nothing any more: what was taken cannot be kept."""
        if self.failed is None or self.failed.done():
            return
        logger.critical("the broker stops: %s", error)
        self.failed.set_exception(error)
        # Whoever waits for it gets it; whoever does not has read the log.
        self.failed.exception()
        for peer in list(self._peers):
            peer.end(abruptly=True)

    def _arm_soon(self) -> None:
        """Timers change many times in one call; look at them once, after it."""
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
            self.node.run_due()
        except DataError as error:
            self.fail(error)
        self._arm()


class _Peer(asyncio.Protocol):
    """One socket."""

    def __init__(self, server: EmbeddedServer) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self.gone: asyncio.Future[None] = self._loop.create_future()
        self._flushing = False
        self._received = self._sent = self._loop.time()
        self._watch: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        address = str((transport.get_extra_info("peername") or ("?",))[0])
        self._connection = Connection(
            self._server.node,
            on_output=self._flush_soon,
            from_loopback=address.startswith(LOOPBACK),
            name=address,
        )
        self._server.joined(self)
        self._watch = self._loop.call_later(HANDSHAKE_TIMEOUT, self._handshake_is_late)

    def data_received(self, data: bytes) -> None:
        self._received = self._loop.time()
        was_open = self._connection.is_open
        try:
            self._connection.receive(data)
        except DataError as error:
            self._server.fail(error)
            return
        if self._connection.is_open and not was_open:
            self._beat()
        if self._connection.is_blocked:
            self._transport.pause_reading()

    def pause_writing(self) -> None:
        self._connection.is_writable = False

    def resume_writing(self) -> None:
        self._connection.is_writable = True
        self._connection.drained()

    def connection_lost(self, _: Exception | None) -> None:
        if self._watch is not None:
            self._watch.cancel()
        try:
            self._connection.lost()
        except DataError as error:
            self._server.fail(error)
        self._server.left(self)
        if not self.gone.done():
            self.gone.set_result(None)

    def end(self, *, abruptly: bool) -> None:
        """Close the socket, after what is to be written."""
        if abruptly:
            self._transport.abort()
            return
        self._flush()
        self._close()

    def _flush_soon(self) -> None:
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        connection = self._connection
        if data := connection.output():
            self._transport.write(data)
            self._sent = self._loop.time()
        if connection.is_closed:
            self._close()
            return
        if not connection.is_blocked:
            self._transport.resume_reading()
        connection.drained()

    def _close(self) -> None:
        self._transport.close()
        # A peer that does not read would keep the socket for ever.
        self._rewatch(CLOSE_TIMEOUT, self._transport.abort)

    def _handshake_is_late(self) -> None:
        if not self._connection.is_open:
            logger.info("%s: no handshake within %g s", self._connection.name, HANDSHAKE_TIMEOUT)
            self._transport.abort()

    def _beat(self) -> None:
        """Send a heartbeat if nothing was sent for half its time; see whether the peer does.

        AMQP 0-9-1, section 4.2.7: a peer that is silent for two intervals is gone.
        """
        interval = self._connection.heartbeat
        if not interval:
            if self._watch is not None:
                self._watch.cancel()
            return
        now = self._loop.time()
        if now - self._received > 2 * interval and not self._connection.is_blocked:
            logger.info("%s: missed heartbeats", self._connection.name)
            self._transport.abort()
            return
        if now - self._sent >= interval / 2:
            self._transport.write(frames.HEARTBEAT)
            self._sent = now
        self._rewatch(interval / 2, self._beat)

    def _rewatch(self, seconds: float, callback: Any) -> None:
        if self._watch is not None:
            self._watch.cancel()
        self._watch = self._loop.call_later(seconds, callback)


def _set(properties: Any) -> Iterator[tuple[str, Any]]:
    for name, value in properties:
        if value is not None and value != "":
            yield ("type" if name == "message_type" else name), value
