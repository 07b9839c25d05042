"""Limits how many transactions a store runs at a time, first come, first served.

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

WARN_AFTER = 30.0
"""Seconds without any slot becoming free after which the log says so."""


class _Held:
    """Tells the tasks that a slot's holder starts that they are within it."""

    def __init__(self, slots: TransactionSlots) -> None:
        self.slots: TransactionSlots | None = slots


Held = tuple[_Held, ...]
"""The slots that a task is within."""

_held: contextvars.ContextVar[Held] = contextvars.ContextVar("held", default=())


def held_now() -> Held:
    """Return the slots that the running task is within."""
    return _held.get()


class Within:
    """Puts the running task within the slots of another task, which lends it its transaction."""

    __slots__ = ("_held", "_token")

    def __init__(self, held: Held) -> None:
        self._held = held

    def __enter__(self) -> None:
        self._token = _held.set(self._held)

    def __exit__(self, *_: object) -> None:
        try:  # noqa: SIM105 - this is run for each message
            _held.reset(self._token)
        except ValueError:  # Python throws this coroutine away elsewhere
            pass


Slot = tuple[_Held, contextvars.Token[Held]]
"""One that is held."""


class TransactionSlots:
    """Hands out so many slots in order; a `front` one goes ahead of all others that wait."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._free = count
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._warned = float("-inf")
        self._freed = float("-inf")

    @contextlib.asynccontextmanager
    async def hold(self, *, front: bool, nested_timeout: float) -> AsyncIterator[None]:
        """Hold a slot for as long as the block lasts; see `acquire`."""
        slot = await self.acquire(front=front, nested_timeout=nested_timeout)
        try:
            yield
        finally:
            self.release(slot)

    async def acquire(self, *, front: bool, nested_timeout: float) -> Slot:
        """Take a slot, which `release` gives back.

        :param nested_timeout: seconds to wait from within the time of a slot that is held already:
            it may be what this waits for
        :raises TimeoutError: within another one, no slot became free in time
        """
        held = _held.get()
        if any(each.slots is self for each in held):
            async with asyncio.timeout(nested_timeout):
                await self._take(front=front)
        else:
            await self._take(front=front)
        mine = _Held(self)
        return mine, _held.set((*(each for each in held if each.slots is not None), mine))

    def release(self, slot: Slot) -> None:
        """Give a slot back, in the context that took it, to the first who waits for one."""
        mine, token = slot
        # Tasks that were started inside and go on have no slot any more.
        mine.slots = None
        with contextlib.suppress(ValueError):  # released in another context: a dropped generator
            _held.reset(token)
        self._give()

    async def _take(self, *, front: bool) -> None:
        if self._free and not self._waiting:
            self._free -= 1
            return
        loop = asyncio.get_running_loop()
        slot: asyncio.Future[None] = loop.create_future()
        if front:
            self._waiting.appendleft(slot)
        else:
            self._waiting.append(slot)
        began = loop.time()
        try:
            while not (await asyncio.wait([slot], timeout=WARN_AFTER))[0]:
                self._warn(began)
        except asyncio.CancelledError:
            if slot.done() and not slot.cancelled():
                self._give()
            else:
                slot.cancel()
                with contextlib.suppress(ValueError):
                    self._waiting.remove(slot)
            raise

    def _give(self) -> None:
        self._freed = asyncio.get_running_loop().time()
        while self._waiting:
            slot = self._waiting.popleft()
            if not slot.done():
                slot.set_result(None)
                return
        self._free += 1

    def _warn(self, began: float) -> None:
        now = asyncio.get_running_loop().time()
        if now - max(self._freed, self._warned, began) < WARN_AFTER * 0.9:
            return
        self._warned = now
        logger.warning(
            "%d transactions wait for their turn: %s of this store's went on for over %g s; SQLite "
            "has one writer at a time, PostgreSQL as many as Store(pool=...) says",
            len(self._waiting),
            "the one" if self.count == 1 else f"all {self.count}",
            WARN_AFTER,
        )
