"""Relays one connection through the proxy: two pipes, with the faults of their directions.

Everything here runs in the event loop of the proxy's own thread, and nothing in it is locked.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable

from mqkit.testing.proxy.faults import Faults, Garble, Trap

READ_SIZE = 65536
"""Bytes that are read, and relayed as one piece, at most."""

HEARTBEAT = b"\x08\x00\x00\x00\x00\x00\x00\xce"
"""A heartbeat frame (AMQP 0-9-1, section 4.2.7)."""

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""`SO_LINGER` on, for 0 seconds: the close sends a reset."""


class _ReceiverGoneError(Exception):
    pass


class Pipe:
    """Relays the bytes of one direction of one connection."""

    def __init__(
        self,
        source: socket.socket,
        target: socket.socket,
        faults: Faults,
        spring: Callable[[Trap], None],
    ) -> None:
        self.source = source
        self.target = target
        self.finished = False
        """True once the end of the stream was relayed, by its sender or by `finish`."""
        self.faults = faults
        self._spring = spring
        self._forgotten = False
        self._tail = b""
        self._garble: Garble | None = None
        self._garbled = 0
        self._loop = asyncio.get_running_loop()

    @property
    def is_held_up(self) -> bool:
        """True while what is read here does not go on, or not at once."""
        faults = self.faults
        return self._tells_nothing or not faults.flowing.is_set() or faults.delay > 0

    def forget(self) -> None:
        """From now on, relay nothing, not even the end of the stream."""
        self._forgotten = True

    def finish(self) -> None:
        """Tell the receiver that nothing more comes, and drop what still does."""
        if not self.finished:
            self.finished = True
            with contextlib.suppress(OSError):
                self.target.shutdown(socket.SHUT_WR)

    async def run(self) -> None:
        """Relay until the sender's end of stream was passed on, or the receiver is gone.

        :raises OSError: the sender's socket is broken; what it had sent was passed on
        """
        try:
            while data := await self._loop.sock_recv(self.source, READ_SIZE):
                self._count_heartbeats(data)
                await self._relay_all(data)
        except _ReceiverGoneError:
            # What it sent before may still wait to be read, so the other pipe goes on.
            return
        except OSError:
            if not self._tells_nothing:
                raise
        await self.faults.flowing.wait()
        if self._tells_nothing:
            self._forgotten = True  # its end is past: what comes later could not be told apart
            await self._loop.create_future()  # until the connection is ended from outside
        self.finish()

    @property
    def _tells_nothing(self) -> bool:
        return self._forgotten or self.faults.dropping

    async def _relay_all(self, data: bytes) -> None:
        start = 0
        while start < len(data):
            # Asked anew each time: `split` holds for what was read before it as well.
            end = start + (self.faults.piece or len(data))
            await self._relay(data[start:end])
            start = end

    async def _relay(self, piece: bytes) -> None:
        if self.faults.delay:
            await asyncio.sleep(self.faults.delay)
        await self.faults.flowing.wait()
        if self.finished or self._tells_nothing:
            return
        trap = self.faults.trap
        length = trap.closes_at(self, piece) if trap else None
        piece = piece[:length]
        # Counted first: who has received it may look at the count.
        self.faults.relayed += len(piece)
        await self._send(self._flipped(piece))
        if trap is not None and length is not None:
            self._spring(trap)
            await self._loop.create_future()
        if self.faults.piece:
            await asyncio.sleep(0)  # lets the receiver's side see the piece by itself

    async def _send(self, piece: bytes) -> None:
        try:
            await self._loop.sock_sendall(self.target, piece)
        except OSError as error:
            raise _ReceiverGoneError from error

    def _flipped(self, piece: bytes) -> bytes:
        garble = self.faults.garble
        if garble is not self._garble:
            self._garble, self._garbled = garble, 0
        if garble is not None:
            piece = garble.apply(piece, self._garbled)
            self._garbled += len(piece)
        return piece

    def _count_heartbeats(self, data: bytes) -> None:
        self.faults.heartbeats += (self._tail + data).count(HEARTBEAT)
        self._tail = (self._tail + data)[-len(HEARTBEAT) + 1 :]


class Link:
    """Relays between a client's connection and the one to the broker behind it."""

    def __init__(
        self,
        client: socket.socket,
        broker: socket.socket,
        to_broker: Faults,
        to_client: Faults,
    ) -> None:
        self.to_broker = Pipe(client, broker, to_broker, self._spring)
        self.to_client = Pipe(broker, client, to_client, self._spring)
        self.sockets = (client, broker)
        self._end: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._sprung: Trap | None = None

    def end(self, *, reset: bool = False) -> None:
        """Close both sides; with `reset` by a reset, which the peers see as an error."""
        if not self._end.done():
            self._end.set_result(reset)

    def drain(self) -> None:
        """Read what has arrived and no more; the link then ends by itself once that is relayed."""
        if self.to_broker.is_held_up or self.to_client.is_held_up:
            self.end()
        for each in self.sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RD)

    async def run(self) -> None:
        """Relay in both directions until both have ended, one is broken, or `end` is called."""
        pipes = [asyncio.create_task(pipe.run()) for pipe in (self.to_broker, self.to_client)]

        def on_done(pipe: asyncio.Task[None]) -> None:
            if pipe.cancelled() or pipe.exception() or all(each.done() for each in pipes):
                self.end()

        for pipe in pipes:
            pipe.add_done_callback(on_done)
        try:
            await asyncio.shield(self._end)
        finally:
            for pipe in pipes:
                pipe.cancel()
            results = await asyncio.gather(*pipes, return_exceptions=True)
            self._close(reset=self._end.done() and self._end.result())
        if self._sprung is not None:
            self._sprung.sprung.set_result(None)
        for result in results:
            if isinstance(result, Exception) and not isinstance(result, OSError):
                raise result

    def _spring(self, trap: Trap) -> None:
        self._sprung = trap
        self.end(reset=trap.reset)

    def _close(self, *, reset: bool) -> None:
        for each in self.sockets:
            with contextlib.suppress(OSError):
                if reset:
                    each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
                else:
                    # Before the close: where bytes are left unread, that alone sends a reset.
                    each.shutdown(socket.SHUT_WR)
            each.close()
