"""Places for transactions: so many at a time, in the order in which they were asked for.

Whoever waits for one waits for other transactions of this process, which says nothing about the
database: there is no timeout but for a transaction that is begun within another.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
from collections import deque
from collections.abc import AsyncIterator

logger = logging.getLogger(__name__)

TELL_AFTER = 30.0
"""Seconds without any place becoming free after which the log says so."""


class _Held:
    """A place, as the tasks that its holder starts see it."""

    def __init__(self, places: Places) -> None:
        self.places: Places | None = places


_held: contextvars.ContextVar[tuple[_Held, ...]] = contextvars.ContextVar("held", default=())


class Places:
    """So many places; `front` ones go ahead of all others that wait."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._free = count
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._told = float("-inf")
        self._freed = float("-inf")

    @contextlib.asynccontextmanager
    async def one(self, *, front: bool, nested_timeout: float) -> AsyncIterator[None]:
        """Hold a place for as long as the block lasts.

        :param nested_timeout: seconds to wait from within a block that holds a place already: it
            may be what this waits for
        :raises TimeoutError: within another one, no place became free in time
        """
        held = _held.get()
        is_nested = any(each.places is self for each in held)
        async with asyncio.timeout(nested_timeout if is_nested else None):
            await self._take(front=front)
        mine = _Held(self)
        token = _held.set((*(each for each in held if each.places is not None), mine))
        try:
            yield
        finally:
            # Tasks that were started inside and go on have no place any more.
            mine.places = None
            with contextlib.suppress(ValueError):  # closed in another context: a dropped generator
                _held.reset(token)
            self._give()

    async def _take(self, *, front: bool) -> None:
        if self._free and not self._waiting:
            self._free -= 1
            return
        loop = asyncio.get_running_loop()
        place: asyncio.Future[None] = loop.create_future()
        if front:
            self._waiting.appendleft(place)
        else:
            self._waiting.append(place)
        began = loop.time()
        try:
            while not (await asyncio.wait([place], timeout=TELL_AFTER))[0]:
                self._tell(began)
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self._give()
            else:
                place.cancel()
                with contextlib.suppress(ValueError):
                    self._waiting.remove(place)
            raise

    def _give(self) -> None:
        self._freed = asyncio.get_running_loop().time()
        while self._waiting:
            place = self._waiting.popleft()
            if not place.done():
                place.set_result(None)
                return
        self._free += 1

    def _tell(self, began: float) -> None:
        now = asyncio.get_running_loop().time()
        if now - max(self._freed, self._told, began) < TELL_AFTER * 0.9:
            return
        self._told = now
        logger.warning(
            "%d transactions wait for their turn: %s of this store's went on for over %g s; SQLite "
            "has one writer at a time, PostgreSQL as many as Store(pool=...) says",
            len(self._waiting),
            "the one" if self.count == 1 else f"all {self.count}",
            TELL_AFTER,
        )
