"""Watches a broker that may be away when the console starts, and waits until it is there."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from types import TracebackType
from typing import Self

from mqkit.clock import Clock, utc_now
from mqkit.errors import MqkitError
from mqkit.logging.error_reports import log_error
from mqkit.overview.values import Overview
from mqkit.overview.watcher import Watcher

logger = logging.getLogger(__name__)

AGAIN = 3.0
"""Seconds between two attempts to reach the broker for the first time."""

CONNECTING = "not connected to the broker yet"


class PatientWatcher:
    """Watches a system as soon as its broker can be reached; while it is entered."""

    def __init__(self, make: Callable[[], Watcher], *, clock: Clock = utc_now) -> None:
        """Watch nothing yet.

        :param make: makes a watcher, for each attempt a new one
        """
        self._make = make
        self._clock = clock
        self._watcher: Watcher | None = None
        self._problem = CONNECTING
        self._connecting: asyncio.Task[None] | None = None
        self._entered = contextlib.AsyncExitStack()

    def overview(self) -> Overview:
        """Return what is known of the system now."""
        if self._watcher is not None:
            return self._watcher.overview()
        return Overview(self._clock(), "", (self._problem,), (), ())

    async def fresh(self) -> None:
        """Look at the system, unless that was done a moment ago, or the broker is away."""
        if self._watcher is not None:
            await self._watcher.fresh()

    async def __aenter__(self) -> Self:
        self._connecting = asyncio.create_task(self._connect(), name="mqkit console connecting")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._connecting is not None, "it is entered"
        self._connecting.cancel()
        await asyncio.wait([self._connecting])
        await self._entered.aclose()

    async def _connect(self) -> None:
        while True:
            watcher = self._make()
            try:
                await self._entered.enter_async_context(watcher)
            except MqkitError as error:
                if self._problem != f"{CONNECTING}: {error}":
                    logger.warning("%s: %s", CONNECTING, error)
                self._problem = f"{CONNECTING}: {error}"
                await asyncio.sleep(AGAIN)
            except Exception as error:  # noqa: BLE001 - else pages would never say that it failed
                log_error(logger, logging.ERROR, "the broker cannot be watched", error=error)
                self._problem = "the broker cannot be watched; the console's log says why"
                await asyncio.sleep(AGAIN)
            else:
                self._watcher = watcher
                return
