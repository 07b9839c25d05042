"""The server inside the proxy's event loop: accepts connections, relays and ends them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Sequence
from typing import Any

from mqkit.errors import ConnectError
from mqkit.testing.brokers import probe
from mqkit.testing.proxy.faults import Faults
from mqkit.testing.proxy.relay import Link

HOST = "127.0.0.1"

BIND_ATTEMPTS = 20
"""Ports to try; another process may take one between the look and the bind."""

CONNECT_TIMEOUT = 5.0
"""Seconds to connect to the broker for a new client; one for whom that fails is closed."""

DRAIN_TIMEOUT = 1.0
"""Seconds at the end for the peers to take what is on its way to them."""

Address = tuple[socket.AddressFamily, tuple[Any, ...]]


class RelayServer:
    """Listens on a port of 127.0.0.1 that it keeps, even while it refuses connections.

    All methods that are coroutines run in one event loop; the others only read.
    """

    def __init__(self, host: str, port: int) -> None:
        """Find the broker's addresses and a port.

        :raises ConnectError: the host has no address, or no port is free
        """
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise ConnectError(f"no address of {host}: {error}") from error
        self._addresses: Sequence[Address] = [(info[0], info[4]) for info in found]
        self._socket = _bind_anywhere()
        self.port = int(self._socket.getsockname()[1])
        self.to_broker = Faults(asyncio.Event())
        self.to_client = Faults(asyncio.Event())
        self.connections = 0
        self._ignoring = False
        self._finishing = False
        self._ignored: list[socket.socket] = []
        self._serving: set[asyncio.Task[None]] = set()
        self._links: dict[Link, asyncio.Task[None]] = {}
        self._failure: BaseException | None = None

    @property
    def links(self) -> Sequence[Link]:
        """The connections that are relayed now."""
        return tuple(self._links)

    async def accept(self, *, ignoring: bool) -> None:
        """Take new connections, to relay them or to say nothing on them."""
        self._ignoring = ignoring
        self._socket.listen()
        # Not sock_accept: when that is cancelled, a connection that it has just taken is lost.
        asyncio.get_running_loop().add_reader(self._socket, self._accept)

    async def refuse(self) -> None:
        """Take no new connections."""
        self._stop_accepting()
        # Bound, so that nobody else gets the port; not listening, so that the system refuses.
        self._socket = _bind(self.port)

    async def cut(self, *, reset: bool) -> int:
        """End the present connections; returns how many there were, once they are closed."""
        links = dict(self._links)
        for link in links:
            link.end(reset=reset)
        if links:
            await asyncio.wait(links.values())
        self._close_ignored()
        return len(links)

    async def finish(self) -> None:
        """Deliver what has arrived and close everything; raises what the relay itself did wrong."""
        self._finishing = True
        self._stop_accepting()
        self._close_ignored()
        for link in self._links:
            link.drain()
        if self._serving:
            _, late = await asyncio.wait(self._serving, timeout=DRAIN_TIMEOUT)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        for faults in (self.to_broker, self.to_client):
            faults.heal()
        if self._failure is not None:
            raise self._failure

    def _stop_accepting(self) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()

    def _close_ignored(self) -> None:
        for each in self._ignored:
            each.close()
        self._ignored.clear()

    def _accept(self) -> None:
        try:
            client, _ = self._socket.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return  # it was gone before it was taken
        except OSError as error:
            # No more file descriptors, for one: told at the end, and not tried without pause.
            self._failure = self._failure or error
            asyncio.get_running_loop().remove_reader(self._socket)
            return
        client.setblocking(False)
        if self._ignoring:
            self._ignored.append(client)
            return
        task = asyncio.create_task(self._serve(client))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        task.add_done_callback(self._note_failure)

    def _note_failure(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failure = self._failure or error

    async def _serve(self, client: socket.socket) -> None:
        broker = None
        try:
            broker = await self._connect()
        finally:
            if broker is None:
                client.close()
        if broker is None:
            return
        for each in (client, broker):
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link = Link(client, broker, self.to_broker, self.to_client)
        task = asyncio.current_task()
        assert task is not None
        self._links[link] = task
        self.connections += 1
        if self._finishing:
            link.drain()
        try:
            await link.run()
        finally:
            del self._links[link]

    async def _connect(self) -> socket.socket | None:
        for family, address in self._addresses:
            broker = socket.socket(family, socket.SOCK_STREAM)
            broker.setblocking(False)
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT):
                    await asyncio.get_running_loop().sock_connect(broker, address)
            except (OSError, TimeoutError):
                broker.close()
            except BaseException:
                broker.close()
                raise
            else:
                return broker
        return None


def _bind_anywhere() -> socket.socket:
    for _ in range(BIND_ATTEMPTS):
        # A port below the range of outgoing ones: a client that keeps connecting while it refuses
        # could otherwise be given that very port to connect from, and reach itself.
        (port,) = probe.free_ports(1)
        with contextlib.suppress(OSError):
            return _bind(port)
    raise ConnectError(f"no free port for a proxy in {BIND_ATTEMPTS} attempts")


def _bind(port: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        # Connections of its own that are closing hold the port for a minute otherwise.
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setblocking(False)
        bound.bind((HOST, port))
    except BaseException:
        bound.close()
        raise
    return bound
