"""Replays dead letters to the queue that they came from, while it watches what comes back.

Each is published and confirmed before it is acked here, and the next one is published only then.
So where the process dies, one message at most is in both queues: its confirm has come and its ack
was not applied. Nothing is lost, and the next run goes on with what is left.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from mqkit.checks import checked
from mqkit.dead_letters.audit import NAMED, Audit
from mqkit.dead_letters.filters import Filter
from mqkit.dead_letters.letters import Letter, read
from mqkit.dead_letters.reader import Reader
from mqkit.errors import OptionError

READ_AHEAD = 64 * 1024 * 1024
"""Bytes of bodies that are held to be replayed. Until the whole queue was read, whatever arrives
in it counts as failed again; after that, what was replayed alone."""

HOLD = 300.0
"""Seconds for which messages are held at most, before all are given back and read again. RabbitMQ
takes back what nobody has acked for half an hour."""

LOOK_AFTER = 10
"""Messages after which it looks at what has come back."""

LOOK = 0.2
"""Seconds between two looks when it waits."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast to replay, and when to stop.

    :raises OptionError: a value cannot be one
    """

    rate: float = 100.0
    """Messages a second at most."""
    stop_at: float = 0.2
    """The share of the replayed messages that may come back: from there on it stops."""
    at_least: int = 10
    """Messages that are replayed before the share counts."""
    watch: float = 2.0
    """Seconds that it watches, after the last one, what comes back."""

    def __post_init__(self) -> None:
        checked.seconds(self.rate, "rate", over=0)
        checked.seconds(self.watch, "watch")
        checked.count(self.at_least, "at_least")
        if isinstance(self.stop_at, bool) or not (
            isinstance(self.stop_at, int | float) and 0 < self.stop_at <= 1
        ):
            raise OptionError(
                f"stop_at is a share, over 0 and 1 at most, not {checked.shown(self.stop_at)}"
            )


@dataclass(slots=True)
class Replayed:
    """What came of a replay."""

    run: str
    """Names it: in the audit, and in the header `mqkit-replay` of what it has replayed."""
    replayed: int = 0
    """Messages that are in their queue again, and no dead letters any more."""
    came_back: int = 0
    """Those of them that were dead letters again while it watched."""
    left: int = 0
    """Dead letters that were there at the beginning and still are."""
    stopped: str | None = None
    """Why it stopped before its end; None where it did not."""


class Replay:
    """One run over a dead letter queue."""

    def __init__(
        self,
        *,
        queue: str,
        chosen: Filter,
        pace: Pace,
        audit: Audit,
        store: Callable[[Letter], Awaitable[None]],
    ) -> None:
        """Replay nothing yet.

        :param store: publishes a message to where it came from, and waits until it is confirmed
        """
        self._queue = queue
        self._filter = chosen
        self._pace = pace
        self._audit = audit
        self._store = store
        self.result = Replayed(audit.run)
        self._next_at = 0.0
        self._left: int | None = None
        self._counted = 0
        """Messages that arrived since it began and were looked at."""
        self._tail = 0
        """Those of them that this reader has read."""
        self._unread = 0
        self._held: deque[tuple[int, Letter]] = deque()
        self._size = 0
        """Bytes of the bodies that are held."""
        self._named = 0
        """Of those that are held, how many the audit names already."""
        self._since_look = 0

    async def go_on(self, reader: Reader) -> bool:
        """Replay until it is done, or stopped, or has held messages for long; True if it is over.

        :param reader: at the head of the queue: another one at each call
        """
        self._tail, self._named, self._size = 0, 0, 0
        self._held.clear()
        if self._left is None:
            self._left = await reader.ready()
        self._unread = self._left
        end = time.monotonic() + HOLD
        try:
            while await self._fill(reader):
                if time.monotonic() > end:
                    return False
                tag, letter = self._held[0]
                await self._replay(reader, tag, letter)
                if await self._is_to_stop(reader):
                    return True
            await self._watch(reader)
            return True
        finally:
            self.result.left = self._left

    async def _fill(self, reader: Reader) -> bool:
        """Read ahead; return whether there is something to replay."""
        while self._unread and (self._size < READ_AHEAD or not self._held):
            for incoming in await reader.read(self._unread):
                self._unread -= 1
                letter = read(incoming, queue=self._queue, has_body=True)
                if letter.replay != self.result.run and self._filter.matches(letter):
                    self._held.append((incoming.tag, letter))
                    self._size += letter.size
        return bool(self._held)

    async def _replay(self, reader: Reader, tag: int, letter: Letter) -> None:
        if not self._named:
            next_ones = [each for _, each in list(self._held)[:NAMED]]
            await self._audit.moves(next_ones)
            self._named = len(next_ones)
        now = time.monotonic()
        if self._next_at > now:
            await asyncio.sleep(self._next_at - now)
        self._next_at = max(self._next_at, now - 1 / self._pace.rate) + 1 / self._pace.rate
        reader.check()
        await self._store(letter)
        reader.take_out(tag)
        self._held.popleft()
        self._size -= letter.size
        self._named -= 1
        self._since_look += 1
        assert self._left is not None
        self._left -= 1
        self.result.replayed += 1

    async def _is_to_stop(self, reader: Reader) -> bool:
        if self._since_look < LOOK_AFTER and 1 / self._pace.rate < LOOK:
            return False
        self._since_look = 0
        failed = await self._failed(reader)
        done = self.result.replayed
        if done < self._pace.at_least or failed < self._pace.stop_at * done:
            return False
        exactly = "" if self._unread == 0 else ", if all that arrived meanwhile is of it"
        self.result.stopped = (
            f"of {done} replayed messages {failed} failed again{exactly}: "
            f"{failed / done:.0%}, where it stops at {self._pace.stop_at:.0%}"
        )
        return True

    async def _failed(self, reader: Reader) -> int:
        """Count what has failed again: exactly, once the whole queue was read."""
        ready = await reader.ready()
        if self._unread:
            arrived = ready - self._unread + self._tail - self._counted
            return self.result.came_back + max(arrived, 0)
        while ready > 0:
            for incoming in await reader.read(ready):
                ready -= 1
                self._tail += 1
                if self._tail > self._counted:
                    self._counted += 1
                    letter = read(incoming, queue=self._queue)
                    self.result.came_back += letter.replay == self.result.run
        return self.result.came_back

    async def _watch(self, reader: Reader) -> None:
        end = time.monotonic() + self._pace.watch
        if not self.result.replayed:
            return
        while True:
            await self._failed(reader)
            if (left := end - time.monotonic()) <= 0:
                return
            await asyncio.sleep(min(left, LOOK))
