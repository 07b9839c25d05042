"""Replays dead letters to the queue that they came from, while it watches what comes back.

Each is published and confirmed before it is acked here, and the next one is published only then.
So where the process dies, one message at most is in both queues: its confirm has come and its ack
was not applied. Nothing is lost, and the next run goes on with what is left.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from mqkit.checks import checked
from mqkit.dead_letters.audit import Audit
from mqkit.dead_letters.holding import Holding, Store, to_its_end
from mqkit.dead_letters.messages.filters import Filter
from mqkit.dead_letters.messages.letters import Letter, read
from mqkit.dead_letters.moving import Reading
from mqkit.dead_letters.reader import Reader
from mqkit.drivers.base import Incoming
from mqkit.errors import OptionError

HOLD = 300.0
"""Seconds for which messages are held at most, before all are given back and read again. RabbitMQ
takes back what nobody has acked for half an hour."""


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
        checked.number(self.rate, "rate", "messages a second", over=0)
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
        reading: Reading,
        store: Store,
    ) -> None:
        """Replay nothing yet.

        :param queue: where they came from
        :param reading: opens a reader of the dead letter queue
        :param store: publishes a message to where it came from, and waits until it is confirmed
        """
        self._queue = queue
        self._filter = chosen
        self._pace = pace
        self._audit = audit
        self._reading = reading
        self._store = store
        self.result = Replayed(audit.run)
        self._next_at = 0.0
        self._counted = 0
        """Messages that arrived since it began and were looked at."""
        self._arrived = 0
        """Those of them that this reader has read."""

    async def run(self) -> None:
        """Replay until it is done or stopped."""
        first: int | None = None
        is_over = False
        while not is_over:
            is_over = await self._read_and_replay(first)
            first = self.result.left

    async def _read_and_replay(self, first: int | None) -> bool:
        """Replay what fits into memory, for as long as it may be held; return whether it is over.

        :param first: messages that were there at the beginning and still are, if that is known
        """
        holding = Holding(self._queue, self._filter)
        self._arrived = 0

        def take(incoming: Incoming, arrived: bool) -> None:
            if arrived:
                self._look_at(incoming)
            else:
                holding.add(incoming)

        async with await self._reading(take, first) as reader:
            self.result.left = reader.first
            end = time.monotonic() + HOLD
            while holding:
                if time.monotonic() > end:
                    return False
                tag, letter = await holding.next(self._audit)
                await self._wait()
                reader.check()
                await to_its_end(self._replay(reader, tag, letter))
                holding.done()
                if self._is_to_stop():
                    return True
            if holding.is_all and self.result.replayed:
                await asyncio.sleep(self._pace.watch)
                reader.check()
            return holding.is_all

    async def _replay(self, reader: Reader, tag: int, letter: Letter) -> None:
        await self._store(letter)
        reader.take_out(tag)
        self.result.replayed += 1
        self.result.left -= 1

    async def _wait(self) -> None:
        """Wait until the next one may be replayed."""
        now = time.monotonic()
        if self._next_at > now:
            await asyncio.sleep(self._next_at - now)
        self._next_at = max(self._next_at, now - 1 / self._pace.rate) + 1 / self._pace.rate

    def _look_at(self, incoming: Incoming) -> None:
        """Count a message that arrived, if it was replayed by this run and has failed again."""
        self._arrived += 1
        if self._arrived > self._counted:  # an earlier reader has not seen it
            self._counted += 1
            letter = read(incoming, queue=self._queue)
            self.result.came_back += letter.replay == self.result.run

    def _is_to_stop(self) -> bool:
        done, failed = self.result.replayed, self.result.came_back
        if done < self._pace.at_least or failed < self._pace.stop_at * done:
            return False
        self.result.stopped = (
            f"of {done} replayed messages {failed} failed again: {failed / done:.0%}, where it "
            f"stops at {self._pace.stop_at:.0%}"
        )
        return True
