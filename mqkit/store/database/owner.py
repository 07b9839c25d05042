"""Keeps a store on the event loop that it is open on: its connections work on no other."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator
from typing import Self

from mqkit.errors import ConfigurationError


class Owner:
    """Counts the `users` who have a store open, and knows the event loop that they are on."""

    def __init__(self) -> None:
        self.users = 0
        # Loops of other threads come here, too.
        self._guard = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = asyncio.Lock()
        self._changing = 0

    @contextlib.asynccontextmanager
    async def changing(self) -> AsyncIterator[Self]:
        """Serialize opening and closing; `users` is changed within the block.

        :raises ConfigurationError: it is open on another event loop
        """
        loop = asyncio.get_running_loop()
        with self._guard:
            if self._loop is not loop:
                self._take(loop)
            self._changing += 1
            lock = self._lock
        try:
            async with lock:
                yield self
        finally:
            with self._guard:
                self._changing -= 1
                if not self._changing and not self.users:
                    self._loop = None

    def _take(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._loop is not None and not self._loop.is_closed():
            raise _elsewhere()
        # What a loop that ended left open is of no use any more.
        self._loop, self._lock, self._changing, self.users = loop, asyncio.Lock(), 0, 0

    def check(self) -> None:
        """Check that the store is used on the event loop that it is open on.

        :raises ConfigurationError: it is not
        """
        if asyncio.get_running_loop() is not self._loop:
            raise _elsewhere()


def _elsewhere() -> ConfigurationError:
    return ConfigurationError(
        "this Store is open on another event loop, and can be used on that one only: give each "
        "event loop (each thread that runs a service) a Store(...) of its own; stores of one "
        "database get on with each other"
    )
