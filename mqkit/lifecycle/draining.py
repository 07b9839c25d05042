"""Waits for deliveries in flight within the grace period, and gives back those that do not end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from mqkit.consuming.consumer import Consumer
from mqkit.logging.error_reports import log_error

logger = logging.getLogger(__name__)

CANCELLED_HANDLERS_WAIT = 1.0
"""Seconds that cancelled handlers get to clean up after the grace period."""

CANCEL_WAIT_MIN = 0.5
CANCEL_WAIT_MAX = 3.0
"""Seconds, of the grace period, in which the broker is asked for no more messages."""

END_WAIT = 0.3
"""Seconds in which what was cancelled here is seen to end."""


class Drain:
    """Drains the consumers of one service, once."""

    def __init__(self, service: str, grace: float) -> None:
        self._service = service
        self._grace = grace
        self._hurried = asyncio.Event()
        self.doing = ""
        """What is waited for, or ''."""
        self.abandoned = 0
        """Messages given back because their handlers outlasted the grace period."""

    @property
    def is_hurried(self) -> bool:
        """Whether the grace period was ended early."""
        return self._hurried.is_set()

    def hurry(self) -> None:
        """End the grace period now."""
        self._hurried.set()

    async def run(self, consumers: Sequence[Consumer], began: float) -> None:
        """Drain the consumers.

        :param began: when the grace period did, by the loop's clock
        """
        now = asyncio.get_running_loop().time
        self.doing = "waiting for the handlers"
        stopping = [asyncio.create_task(each.stop()) for each in consumers]
        await self._wait(stopping, min(max(self._grace, CANCEL_WAIT_MIN), CANCEL_WAIT_MAX))
        logger.info(
            "%s: draining, %d in flight, up to %g s",
            self._service,
            sum(each.in_flight for each in consumers),
            self._grace,
        )
        finishing = [asyncio.create_task(each.finished(self._grace / 2)) for each in consumers]
        await self._wait(finishing, max(began + self._grace - now(), 0.0))
        if not all(task.done() for task in finishing):
            await self._abandon(consumers)
            await asyncio.wait(finishing, timeout=CANCELLED_HANDLERS_WAIT)
        await self._end([*stopping, *finishing])
        self.doing = ""

    async def _abandon(self, consumers: Sequence[Consumer]) -> None:
        for consumer in consumers:
            count = await consumer.abandon()
            self.abandoned += count
            if count:
                logger.warning(
                    "%s: %d did not finish in time; requeued", consumer.handler.name, count
                )

    async def _wait(self, tasks: list[asyncio.Task[None]], within: float) -> None:
        """Wait until all have ended, the time is over, or nobody wants to wait any longer."""
        all_ended = asyncio.create_task(_all(tasks))
        hurried = asyncio.create_task(self._hurried.wait())
        both: list[asyncio.Task[object]] = [all_ended, hurried]
        await asyncio.wait(both, timeout=within, return_when=asyncio.FIRST_COMPLETED)
        for task in both:
            task.cancel()

    async def _end(self, tasks: list[asyncio.Task[None]]) -> None:
        """Cancel what goes on, and see what became of each."""
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=END_WAIT)
        for task in tasks:
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                text = "%s: a consumer could not be stopped"
                log_error(logger, logging.ERROR, text, self._service, error=error)


async def _all(tasks: list[asyncio.Task[None]]) -> None:
    await asyncio.wait(tasks)
