"""Watches that no delivery waits in this process until the broker takes it back.

A message that was sent ahead counts as delivered while it waits for its turn: RabbitMQ takes it
back after the consumer timeout, and gives it to somebody else, while it may be about to run here.
The queue's own timeout is known, and the broker's only once it has closed a channel by it. Looking
at what is here now and then costs a message nothing.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Hashable, Iterable
from typing import Protocol

from mqkit.message import Delivery
from mqkit.registration.handler import Handler
from mqkit.topology import consumer_timeout

logger = logging.getLogger(__name__)

SHARE = 0.15
"""The share of the consumer timeout after which what waits is given back, to be sent anew."""

LOOKS = 0.05
"""The share of the consumer timeout between two looks; so nothing waits for more than a fifth."""

EVERY = 5.0
"""Seconds between two looks at most."""

CROWD = 10
"""Messages of one id that wait for each other, from which on it is said."""

QUIET = 600.0
"""Seconds in which it is said once."""

_TIMEOUT = re.compile(r"timed out\. Timeout value used: (\d+) ms")


class Holder(Protocol):
    """A consumer, as far as it says what deliveries it holds."""

    def held(self) -> tuple[list[Delivery], list[Delivery]]:
        """Return what waits, and what runs."""
        ...

    def longest_line(self) -> tuple[Hashable, int]:
        """Return the id for which most messages wait, and how many; 0 where ids do not matter."""
        ...

    async def hold_less(self) -> None:
        """Give back what waits, and hold no more from now on than can run."""
        ...


class Waits:
    """Watches the deliveries that one consumer holds, and has it hold fewer if they wait long."""

    def __init__(self, handler: Handler, queue: str) -> None:
        self._queue = queue
        self._timeout = consumer_timeout(handler.queue)
        self._since: dict[Delivery, float] = {}
        self._quiet_until = 0.0
        self._is_told = False

    async def run(self, holder: Holder) -> None:
        """Watch what a consumer holds, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(min(EVERY, LOOKS * self._timeout))
            self._tell_of_a_crowd(*holder.longest_line(), loop.time())
            if self.is_slow(*holder.held(), loop.time()):
                self._tell_of_slowness()
                await holder.hold_less()

    def closed(self, text: str) -> None:
        """Learn the broker's consumer timeout from why it closed a channel, if it is that."""
        if (found := _TIMEOUT.search(text)) is not None:
            self._timeout = min(self._timeout, max(int(found[1]), 1) / 1000)

    def is_slow(self, waiting: list[Delivery], running: list[Delivery], now: float) -> bool:
        """Return whether a message waits, and one has been held for too long."""
        here: Iterable[Delivery] = (*waiting, *running)
        self._since = {each: self._since.get(each, now) for each in here if not each.lost}
        longest = SHARE * self._timeout
        return bool(waiting) and any(now - since >= longest for since in self._since.values())

    def _tell_of_slowness(self) -> None:
        if not self._is_told:
            self._is_told = True
            logger.warning(
                "%s: messages wait here for a good part of the broker's consumer timeout of %g s: "
                "what has not begun is given back, and no more is held than can run. Give the "
                "handler a smaller prefetch, or the queue a longer x-consumer-timeout",
                self._queue,
                self._timeout,
            )

    def _tell_of_a_crowd(self, key: Hashable, count: int, now: float) -> None:
        if count >= CROWD and now >= self._quiet_until:
            self._quiet_until = now + QUIET
            logger.warning(
                "%s: %d messages wait for one that has the same id, %.100r: those of one id are "
                "handled one at a time, as each is taken for the same message. Its publisher must "
                "give every message an id of its own (message_id)",
                self._queue,
                count,
                key,
            )
