"""Keeps what was read of dead letters for some seconds, and reads in the background.

Each reading takes the lock of its queue and goes through all of it. So no page reads by itself
again and again: it shows what was found, and how long ago that was.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar, cast

from mqkit.clock import Clock, monotonic, utc_now
from mqkit.errors import MqkitError
from mqkit.logging.error_reports import log_error

T = TypeVar("T")

logger = logging.getLogger(__name__)

FRESH = 30.0
"""Seconds for which what was found is shown without looking again."""

AGAIN = 5.0
"""Seconds after which a look that failed is tried again."""

PATIENCE = 0.1
"""Seconds that a page waits for a look that is under way, before it says that it is."""

MOST = 24
"""Looks that are kept; the one that was longest not asked for goes first."""

AT_A_TIME = 2
"""Looks that are under way at a time."""

Key = tuple[str, ...]


class LookError(MqkitError):
    """A look ended with an error that is none of mqkit's; the console's log has it."""


@dataclass(slots=True)
class Look(Generic[T]):
    """What was found, and whether it is being looked at again now."""

    found: T | None = None
    at: datetime | None = None
    """When it was found."""
    error: MqkitError | None = None
    """What the last look failed with."""
    is_reading: bool = False


@dataclass(slots=True)
class _Kept:
    look: Look[Any]
    task: asyncio.Task[None] | None = None
    ended_at: float = 0.0
    is_forgotten: bool = False
    """Whether it is to be looked at again, as soon as the look that is under way has ended."""


class Looks:
    """What was read, by what it is of."""

    def __init__(self, clock: Clock = utc_now, seconds: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._seconds = seconds
        self._kept: dict[Key, _Kept] = {}
        self._turn = asyncio.Semaphore(AT_A_TIME)

    async def at(
        self, key: Key, read: Callable[[], Awaitable[T]], *, may_read: bool = True
    ) -> Look[T]:
        """Return what is known, and begin to look if that is old; wait a moment for it.

        :param key: what is looked at
        :param may_read: whether a look may begin now
        """
        kept = self._kept.pop(key, None) or _Kept(Look())
        self._kept[key] = kept  # the last one, of those that were asked for
        if kept.task is None and may_read and self._is_old(kept):
            kept.look.is_reading, kept.is_forgotten = True, False
            kept.task = asyncio.create_task(self._read(kept, read))
        self._forget_the_oldest()
        if kept.task is not None:
            await asyncio.wait([kept.task], timeout=PATIENCE)
        return cast("Look[T]", kept.look)

    def known(self, key: Key) -> Look[Any] | None:
        """Return what is known, and look at nothing."""
        kept = self._kept.get(key)
        return None if kept is None else kept.look

    def forget(self, *begin: str) -> None:
        """Forget what is known of all whose key begins like this; what is under way stays."""
        for key in [key for key in self._kept if key[: len(begin)] == begin]:
            if self._kept[key].task is None:
                del self._kept[key]
            else:
                self._kept[key].is_forgotten = True

    async def ended(self, queue: str) -> None:
        """Wait until no look at a queue is under way: it has the queue's lock."""
        tasks = [each.task for key, each in self._kept.items() if queue in key[1:2] and each.task]
        await asyncio.gather(*tasks, return_exceptions=True)

    async def close(self) -> None:
        """Stop looking."""
        tasks = [each.task for each in self._kept.values() if each.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _is_old(self, kept: _Kept) -> bool:
        look = kept.look
        if kept.is_forgotten or (look.at is None and look.error is None):
            return True
        return self._seconds() >= kept.ended_at + (FRESH if look.error is None else AGAIN)

    async def _read(self, kept: _Kept, read: Callable[[], Awaitable[Any]]) -> None:
        look = kept.look
        try:
            async with self._turn:
                look.found = await read()
            look.error, look.at = None, self._clock()
        except MqkitError as error:
            look.error = error
        except Exception as error:  # noqa: BLE001 - a task's error would be seen by no one
            log_error(logger, logging.ERROR, "looking at dead letters failed", error=error)
            look.error = LookError("looking at the dead letters failed; the console's log says why")
        finally:
            look.is_reading = False
            kept.task, kept.ended_at = None, self._seconds()

    def _forget_the_oldest(self) -> None:
        for key in list(self._kept)[: max(len(self._kept) - MOST, 0)]:
            if self._kept[key].task is None:
                del self._kept[key]
