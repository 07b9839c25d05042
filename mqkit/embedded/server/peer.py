"""One client's socket: passes bytes to its connection and back, with heartbeats and timeouts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from mqkit.embedded.engine.node import Node
from mqkit.embedded.session.connection import Connection, State
from mqkit.embedded.wire import frames

logger = logging.getLogger(__name__)

HANDSHAKE_TIMEOUT = 10.0
"""Seconds that a peer may take to be let in; RabbitMQ's default."""

TURN = 0.01
"""Seconds that a peer may have the broker for, while others wait."""

LEAVE_TIMEOUT = 30.0
"""Seconds that a peer may take to end the stream once its `connection.close` was answered.

As with RabbitMQ, or its heartbeat's interval where that is shorter.
"""

CLOSE_TIMEOUT = 5.0
"""Seconds that a peer may take to end the connection, or to read what is left for it."""

UNREAD_MOST = 16 * 1024 * 1024
"""Bytes that may wait for a peer before nothing more is read from it.

Deliveries stop long before (`connection.OUTPUT_HIGH`); this is for what a peer makes itself:
returns, confirms, messages that it gets one by one.
"""

LOOPBACK = ("127.", "::1", "::ffff:127.")


def is_loopback(address: str) -> bool:
    """Tell whether an address is this machine's own."""
    return address.startswith(LOOPBACK)


class Shell(Protocol):
    """What a peer calls of its server."""

    @property
    def node(self) -> Node: ...

    @property
    def takes_peers(self) -> bool:
        """False once the server stops."""
        ...

    @property
    def is_loopback(self) -> Callable[[str], bool]:
        """Tells whether an address is this machine's own."""
        ...

    def joined(self, peer: Peer) -> None:
        """Add a peer that has connected."""
        ...

    def left(self, peer: Peer) -> None:
        """Remove a peer whose socket is closed."""
        ...

    def attempt(self, work: Callable[[], None]) -> None:
        """Do some work; where that cannot be made durable, the broker ends."""
        ...


class Peer(asyncio.Protocol):
    """A client's socket."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self._loop = asyncio.get_running_loop()
        self.gone: asyncio.Future[None] = self._loop.create_future()
        self._flushing = False
        self._choked = False
        """More waits for the peer than it may leave unread."""
        self._end_at: float | None = None
        """When the socket is closed at the latest, once it is to be."""
        self._received = self._sent = self._loop.time()
        self._watch: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        # None if it is gone already.
        address, port, *_ = transport.get_extra_info("peername") or ("?", 0)
        self._connection = Connection(
            self._shell.node,
            on_output=self._flush_soon,
            on_more=self._continue_soon,
            turn=TURN,
            from_loopback=self._shell.is_loopback(address),
            name=f"{address}:{port}",
        )
        self._shell.joined(self)
        if not self._shell.takes_peers:
            transport.abort()
            return
        self._rewatch(HANDSHAKE_TIMEOUT, self._handshake_is_late)

    def data_received(self, data: bytes) -> None:
        self._received = self._loop.time()
        self._take(data)

    def pause_writing(self) -> None:
        self._connection.is_writable = False

    def resume_writing(self) -> None:
        self._connection.is_writable = True
        self._choked = False
        self._go_on()

    def connection_lost(self, _: Exception | None) -> None:
        self._end_at = 0.0
        if self._watch is not None:
            self._watch.cancel()
        try:
            self._shell.attempt(self._connection.lost)
        finally:
            self._shell.left(self)
            if not self.gone.done():
                self.gone.set_result(None)

    def end(self, *, abruptly: bool) -> None:
        """Close the socket, after what is to be written."""
        if abruptly:
            self._transport.abort()
            return
        self._flush()
        self._close()

    def _take(self, data: bytes) -> None:
        connection = self._connection
        was_open = connection.is_open
        self._shell.attempt(lambda: connection.receive(data))
        if connection.is_open and not was_open:
            self._beat()
        if not self._may_read():
            self._transport.pause_reading()

    def _may_read(self) -> bool:
        connection = self._connection
        return not (connection.is_blocked or connection.has_more or self._choked)

    def _continue_soon(self) -> None:
        self._loop.call_soon(self._continue)

    def _continue(self) -> None:
        """Go on with what one turn was not enough for."""
        if not self.gone.done():
            self._take(b"")
            self._flush()

    def _flush_soon(self) -> None:
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        connection = self._connection
        if self.gone.done():
            return
        if data := connection.output():
            self._transport.write(data)
            self._sent = self._loop.time()
            self._choked = self._transport.get_write_buffer_size() > UNREAD_MOST
        if connection.is_closed:
            self._close()
        elif connection.state is State.CLOSING:
            # Its answer is read, whatever held it up; one that does not answer would stay for ever.
            self._transport.resume_reading()
            self._end_within(CLOSE_TIMEOUT)
        elif connection.state is State.LEAVING:
            self._transport.resume_reading()
            self._end_within(min(connection.heartbeat or LEAVE_TIMEOUT, LEAVE_TIMEOUT))
        else:
            self._go_on()

    def _go_on(self) -> None:
        """Read from the client, and let deliveries go on, as far as they may."""
        if not self._may_read():
            self._transport.pause_reading()
        elif not self._transport.is_reading():
            # What it sent in the meantime was not seen: its silence is counted from here.
            self._received = self._loop.time()
            self._transport.resume_reading()
        self._shell.attempt(self._serve)

    def _serve(self) -> None:
        self._connection.drained()
        self._shell.node.settle()

    def _close(self) -> None:
        self._transport.close()
        # A peer that does not read would keep the socket for ever.
        self._end_within(CLOSE_TIMEOUT)

    def _end_within(self, seconds: float) -> None:
        end_at = self._loop.time() + seconds
        if self._end_at is None or end_at < self._end_at:
            self._end_at = end_at
            self._rewatch(seconds, self._transport.abort)

    def _handshake_is_late(self) -> None:
        if not self._connection.is_open:
            logger.info(
                "%s: closing: no handshake within %g s", self._connection.name, HANDSHAKE_TIMEOUT
            )
            self._transport.abort()

    def _beat(self) -> None:
        """Send a heartbeat if nothing was sent for half its time, and check that the peer does.

        AMQP 0-9-1, section 4.2.7: a peer that is silent for two intervals is gone.
        """
        interval = self._connection.heartbeat
        if not interval:
            if self._watch is not None:
                self._watch.cancel()
            return
        now = self._loop.time()
        if now - self._received > 2 * interval and self._transport.is_reading():
            logger.info("%s: closing: it missed heartbeats", self._connection.name)
            self._transport.abort()
            return
        if now - self._sent >= interval / 2:
            self._transport.write(frames.HEARTBEAT)
            self._sent = now
        self._rewatch(interval / 2, self._beat)

    def _rewatch(self, seconds: float, callback: Callable[[], None]) -> None:
        if self._watch is not None:
            self._watch.cancel()
        self._watch = self._loop.call_later(seconds, callback)
