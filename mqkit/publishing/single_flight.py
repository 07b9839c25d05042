"""Single flight: callers who want the same thing at the same time share one run of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class SingleFlight(Generic[T]):
    """Runs work once for all who ask for it while it runs, and wakes them together.

    A lock would let them through one after the other, and whoever comes later and need not ask
    would pass all those that wait.
    """

    def __init__(self) -> None:
        self._running: dict[Hashable, asyncio.Task[T]] = {}

    async def do(self, key: Hashable, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Return what `work` does, or the work with the same key that is under way.

        A caller who is cancelled does not end it for the others.
        """
        task = self._running.get(key)
        # One that is done is not waited for: who asks again before the loop has turned would get
        # the same answer again and again, and the loop would never turn.
        if task is None or task.done():
            task = self._running[key] = asyncio.create_task(work())
            task.add_done_callback(lambda done: self._ended(key, done))
        return await asyncio.shield(task)

    def _ended(self, key: Hashable, task: asyncio.Task[T]) -> None:
        if self._running.get(key) is task:
            del self._running[key]
        if not task.cancelled():
            task.exception()  # all who waited have it, or are gone
