"""The faults that a test has set for a proxy: what it does wrong, in each direction."""

from __future__ import annotations

import asyncio
import re
from concurrent.futures import Future
from dataclasses import dataclass, field

PATTERN_REACH = 4096
"""Bytes back from the newest that a pattern can begin at and still be found."""


@dataclass(frozen=True, slots=True)
class Garble:
    """Flips bits in the bytes at `at`, `at + every`, and so on, counted from 0."""

    at: int
    every: int | None
    mask: int

    def apply(self, data: bytes, position: int) -> bytes:
        """Return the data with its bits flipped; `position` is its first byte's number."""
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
    _seen: dict[object, bytes] = field(default_factory=dict)
    _passed: dict[object, int] = field(default_factory=dict)

    def closes_at(self, pipe: object, piece: bytes) -> int | None:
        """Return how many bytes of the piece pass before the trap springs; None if it does not."""
        if self._claimed:
            return None
        length = (
            self._by_count(pipe, piece) if self.pattern is None else self._by_pattern(pipe, piece)
        )
        self._claimed = length is not None
        return length

    def void(self) -> None:
        """Cancel the trap, and those who wait for it, unless it has sprung or is about to."""
        if not self._claimed:
            self._claimed = True
            self.sprung.cancel()

    def _by_count(self, pipe: object, piece: bytes) -> int | None:
        left = (self.count or 0) - self._passed.get(pipe, 0)
        self._passed[pipe] = self._passed.get(pipe, 0) + len(piece)
        return left if left <= len(piece) else None

    def _by_pattern(self, pipe: object, piece: bytes) -> int | None:
        assert self.pattern is not None
        seen = self._seen.get(pipe, b"")
        found = self.pattern.search(seen + piece)
        self._seen[pipe] = (seen + piece)[-PATTERN_REACH:]
        return max(found.end() - len(seen), 0) if found else None


@dataclass(slots=True)
class Faults:
    """The faults of one direction, on all connections."""

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
