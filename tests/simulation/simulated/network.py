"""The network of a schedule: detangle's, with links cut one way, and processes that die."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from detangle import NetConfig
from detangle.net import SimNetwork, SimTransport, _Connection

if TYPE_CHECKING:
    from tests.simulation.simulated.loop import Loop, Process

TCP_TIMEOUT = 30.0
"""Seconds after which what is not acknowledged by the peer's system ends a connection."""


class Network(SimNetwork):
    """Links with a latency of their own each, that can be cut in one direction."""

    loop: Loop

    def __init__(self, loop: Loop, *, latency: tuple[float, float], fragment: float = 0.0) -> None:
        super().__init__(
            loop,
            NetConfig(latency=latency, fragment=fragment, tcp_timeout=TCP_TIMEOUT),
        )
        self._shortest, self._longest = latency
        self.one_way: set[tuple[str, str]] = set()
        self.slow: dict[str, float] = {}
        """Seconds that everything takes longer to and from a host; only one at a time is."""
        self.bytes = 0

    def latency(self) -> float:
        extra = sum(self.slow.values()) if self.slow else 0.0
        return extra + self._shortest + (self._longest - self._shortest) * self.loop.rng.random()

    def can_deliver(self, src: str, dst: str) -> bool:
        if self.one_way and (src, dst) in self.one_way:
            return False
        return not self._cut or super().can_deliver(src, dst)

    def _fragment(self, data: bytes) -> list[bytes]:
        rng, share = self.loop.rng, self.config.fragment
        if len(data) < 2 or not share or rng.random() >= share:
            return [data]
        at = rng.randrange(1, len(data))
        return [data[:at], data[at:]]

    def _trace(self, text: str) -> None:
        # The text has the first bytes of what is sent; that and its length say enough.
        self.loop.note(text)

    async def create_connection(
        self,
        protocol_factory: Callable[[], Any],
        host: Any = None,
        port: Any = None,
        **options: Any,
    ) -> tuple[SimTransport, Any]:
        own_port = self._next_port + 1
        try:
            client, protocol = await super().create_connection(
                protocol_factory, host, port, **options
            )
        except BaseException:
            # Given up by its caller: its system closes the socket, which the peer may have taken.
            for each in self._connections:
                if each.client.sockname[1] == own_port:
                    each.client.abort()
            raise
        if client._closed:
            # It was reset while nobody was there yet to be told.
            error = ConnectionResetError(104, "Connection reset by peer")
            self.loop.call_soon(protocol.connection_lost, error)
        return client, protocol

    def of(self, host: str) -> list[_Connection]:
        """Return the open connections that a host is one end of, the oldest first."""
        return [
            each
            for each in self._connections
            if not each.closed() and host in (each.client.host, each.server.host)
        ]

    def die(self, process: Process) -> None:
        """End the sockets of a process that was killed, as its operating system does."""
        self._unlisten_all(process.host)
        for each in self.of(process.host):
            for side in each.sides():
                if side.host == process.host and not side._closed:
                    # What it wrote before still comes, and then the end.
                    if side._out is not None and not side._eof_sent:
                        side._out.send("rst")
                    _vanish(side)

    def cut_power(self, process: Process) -> None:
        """End the sockets of a host that is gone at once: its peers hear nothing any more."""
        self._unlisten_all(process.host)
        for each in self.of(process.host):
            for side in each.sides():
                if side.host == process.host and not side._closed:
                    if side._out is not None:
                        side._out.clear()
                    _vanish(side)

    def reset(self, connection: _Connection, *, torn: bool) -> None:
        """Reset a connection; `torn` delivers a part of what is on its way before, a frame torn."""
        if torn:
            for pipe in (connection.c2s, connection.s2c):
                if pipe.queue and not pipe.dst._closed:
                    _, kind, payload = pipe.queue[0]
                    if kind == "data" and len(payload) > 1:
                        pipe.dst._ctx.run(pipe.dst._receive, kind, payload[: len(payload) // 2])
        connection.reset(ConnectionResetError(104, "Connection reset by peer"))

    def _unlisten_all(self, host: str) -> None:
        for address, server in list(self._listeners.items()):
            if address[0] == host:
                server._closed = True
                del self._listeners[address]


def _vanish(side: SimTransport) -> None:
    side._closed = True
    side._closing = True
    side._pending.clear()
    if side._server is not None and side in side._server._transports:
        side._server._transports.remove(side)


def install(loop: Loop, **options: Any) -> Network:
    """Give a loop its network."""
    network = Network(loop, **options)
    loop._net = network
    return network


def is_lost(transport: asyncio.BaseTransport) -> bool:
    """Tell whether a simulated transport is gone."""
    return isinstance(transport, SimTransport) and transport._closed
