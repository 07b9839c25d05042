"""Holds the dead letters that are meant, with their bodies as far as memory is to go."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine

from mqkit.dead_letters.audit import NAMED, Audit
from mqkit.dead_letters.messages.filters import Filter
from mqkit.dead_letters.messages.letters import Letter, read
from mqkit.drivers.base import Incoming

MOST_HELD = 128 * 1024 * 1024
"""Bytes of bodies that are held at a time. What is over it is left for another reading."""


class Holding:
    """What is meant of one reading, in its order; named in the audit before it is taken."""

    def __init__(self, queue: str, chosen: Filter, *, has_body: bool = True) -> None:
        """Hold nothing yet.

        :param queue: whose dead letters they are
        """
        self._queue = queue
        self._filter = chosen
        self._has_body = has_body
        self._held: deque[tuple[int, Letter]] = deque()
        self._size = 0
        self._named = 0
        self.is_all = True
        """Whether all that is meant is held."""

    def __len__(self) -> int:
        return len(self._held)

    def add(self, incoming: Incoming) -> None:
        """Hold a message, if it is meant and fits."""
        letter = read(incoming, queue=self._queue, has_body=self._has_body)
        if not self._filter.matches(letter):
            return
        if self._size >= MOST_HELD:  # and none after it: the order is to stay
            self.is_all = False
            return
        self._held.append((incoming.tag, letter))
        if self._has_body:
            self._size += letter.size

    async def next(self, audit: Audit) -> tuple[int, Letter]:
        """Return the next one, which is held until `done`; the audit names it by then."""
        if not self._named:
            coming = [letter for _, letter in list(self._held)[:NAMED]]
            await audit.moves(coming)
            self._named = len(coming)
        return self._held[0]

    def done(self) -> None:
        """Hold the next one no longer."""
        self._held.popleft()
        self._named -= 1


Store = Callable[[Letter], Awaitable[None]]
"""Stores a message elsewhere, and returns once that is confirmed."""


async def to_its_end(work: Coroutine[object, object, None]) -> None:
    """Await work that is not to be left half done; a cancellation meanwhile holds after its end.

    Whoever is cancelled between a confirm and the ack would leave a message in two queues.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # it ends here in any case
        raise
