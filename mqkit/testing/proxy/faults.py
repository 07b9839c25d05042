"""One connection through the proxy: two lanes, each with the faults of its direction.

Everything here runs in the event loop of the proxy's own thread, and nothing in it is locked.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import struct
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

READ_SIZE = 65536
"""Bytes that are read, and relayed as one piece, at most."""

PATTERN_REACH = 4096
"""Bytes back from the newest that a pattern can begin at and still be found."""

HEARTBEAT = b"\x08\x00\x00\x00\x00\x00\x00\xce"
"""A heartbeat frame (AMQP 0-9-1, section 4.2.7)."""

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""`SO_LINGER` on, for 0 seconds: the close sends a reset."""


@dataclass(frozen=True, slots=True)
class Garble:
    """Which bytes are flipped, counted from 0: each one at `at`, `at + every`, and so on."""

    at: int
    every: int | None
    mask: int

    def apply(self, data: bytes, position: int) -> bytes:
        """The data as it goes on; `position` is its first byte's number."""
        if self.every is None:
            places = [self.at - position] if 0 <= self.at - position < len(data) else []
        else:
            first = max(self.at, position)
            first += (self.at - first) % self.every
            places = list(range(first - position, len(data), self.every))
        flipped = bytearray(data)
        for place in places:
            flipped[place] ^= self.mask
        return bytes(flipped)


@dataclass(slots=True)
class Trap:
    """Ends the first connection on which so many bytes passed, or a pattern did.

    `sprung` is done when it has ended one.
    """

    count: int | None
    pattern: re.Pattern[bytes] | None
    reset: bool
    sprung: Future[None] = field(default_factory=Future)
    _claimed: bool = False
    _seen: dict[Lane, bytes] = field(default_factory=dict)
    _passed: dict[Lane, int] = field(default_factory=dict)

    def closes_at(self, lane: Lane, piece: bytes) -> int | None:
        """How many bytes of the piece still pass before the end; None where it does not come."""
        if self._claimed:
            return None
        length = (
            self._by_count(lane, piece) if self.pattern is None else self._by_pattern(lane, piece)
        )
        self._claimed = length is not None
        return length

    def void(self) -> None:
        """Let nobody wait for it any more, unless it has sprung or is about to."""
        if not self._claimed:
            self._claimed = True
            self.sprung.cancel()

    def _by_count(self, lane: Lane, piece: bytes) -> int | None:
        left = (self.count or 0) - self._passed.get(lane, 0)
        self._passed[lane] = self._passed.get(lane, 0) + len(piece)
        return left if left <= len(piece) else None

    def _by_pattern(self, lane: Lane, piece: bytes) -> int | None:
        assert self.pattern is not None
        seen = self._seen.get(lane, b"")
        found = self.pattern.search(seen + piece)
        self._seen[lane] = (seen + piece)[-PATTERN_REACH:]
        return max(found.end() - len(seen), 0) if found else None


@dataclass(slots=True)
class Faults:
    """What is wrong with one direction, on all connections."""

    flowing: asyncio.Event
    dropping: bool = False
    delay: float = 0.0
    piece: int | None = None
    garble: Garble | None = None
    trap: Trap | None = None
    relayed: int = 0
    heartbeats: int = 0

    def heal(self) -> None:
        """Relay as a good network does."""
        self.flowing.set()
        self.dropping, self.delay, self.piece, self.garble = False, 0.0, None, None
        self.lay(None)

    def lay(self, trap: Trap | None) -> None:
        """Set a trap in the place of the present one, whose waiters learn that it is void."""
        if self.trap is not None and self.trap is not trap:
            self.trap.void()
        self.trap = trap


class _ReceiverGoneError(Exception):
    pass


class Lane:
    """One direction of one connection."""

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
            # What it sent before may still wait to be read, so the other lane goes on.
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
    """A client's connection and the one to the broker behind it."""

    def __init__(
        self,
        client: socket.socket,
        broker: socket.socket,
        to_broker: Faults,
        to_client: Faults,
    ) -> None:
        self.to_broker = Lane(client, broker, to_broker, self._spring)
        self.to_client = Lane(broker, client, to_client, self._spring)
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
        lanes = [asyncio.create_task(lane.run()) for lane in (self.to_broker, self.to_client)]

        def on_done(lane: asyncio.Task[None]) -> None:
            if lane.cancelled() or lane.exception() or all(each.done() for each in lanes):
                self.end()

        for lane in lanes:
            lane.add_done_callback(on_done)
        try:
            await asyncio.shield(self._end)
        finally:
            for lane in lanes:
                lane.cancel()
            results = await asyncio.gather(*lanes, return_exceptions=True)
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
