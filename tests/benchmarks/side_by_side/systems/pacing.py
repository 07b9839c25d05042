"""Publishing as fast as it goes, or at a rate; for clients that await and for those that block."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

from tests.benchmarks.side_by_side.systems.base import WINDOW, Job, Order, now, say

BEHIND = 0.05
"""The share of its time that a paced publisher may be late at the end and still be on time."""

TICK = 0.001
"""Seconds; the shortest sleep that is asked of an event loop's timer."""


class Pace:
    """When each message is due, and the stamp that says so in it.

    A stamp is the moment at which the message was due; where the timer woke late, that at which
    it woke. So a client that cannot keep up is charged for it, and a timer's grain is not.
    """

    def __init__(self, job: Job) -> None:
        self._messages = job.messages
        self._period = 1e9 / job.rate
        self._start = now()
        self._woke = 0

    def wait(self, index: int) -> float:
        """Seconds until a message is due; 0 or less where it is."""
        return (self._due(index) - now()) / 1e9

    def woke(self) -> None:
        """Have slept until now."""
        self._woke = now()

    def stamped(self, index: int, order: Order) -> Order:
        """The order with its stamp."""
        return order.model_copy(update={"sent": max(self._due(index), self._woke)})

    def _due(self, index: int) -> int:
        return self._start + int(index * self._period)

    def end(self) -> None:
        """Tell if the last message came late: the asked rate was not reached."""
        late = -self.wait(self._messages) / (self._messages * self._period / 1e9)
        if late > BEHIND:
            say(behind=late)


async def paced(job: Job) -> AsyncIterator[Order]:
    """The orders of a job, each when it is due."""
    pace = Pace(job)
    for index, order in enumerate(job.orders()):
        while (wait := pace.wait(index)) > 0:
            await asyncio.sleep(max(wait, TICK))
            pace.woke()
        yield pace.stamped(index, order)
    pace.end()


def paced_blocking(job: Job) -> Iterator[Order]:
    """As `paced`, for clients that block."""
    pace = Pace(job)
    for index, order in enumerate(job.orders()):
        while (wait := pace.wait(index)) > 0:
            time.sleep(wait)
            pace.woke()
        yield pace.stamped(index, order)
    pace.end()


def published(job: Job, began: float) -> None:
    """Print the result of publishing since `began`, on `time.perf_counter`'s clock."""
    say(publish_per_s=job.messages / (time.perf_counter() - began))


async def pipelined(
    job: Job, publish: Callable[[Order], Awaitable[object]], window: int = WINDOW
) -> None:
    """Publish a job's orders, up to `window` at a time.

    As fast as it goes, so many coroutines share the orders, which costs less than a task for
    each. At a rate, each is a task that starts when its order is due.
    """
    began = time.perf_counter()
    if job.rate:
        await _in_tasks(job, publish, window)
    else:
        source = job.orders()

        async def some() -> None:
            for order in source:
                await publish(order)

        await asyncio.gather(*(some() for _ in range(window)))
    published(job, began)


async def _in_tasks(job: Job, publish: Callable[[Order], Awaitable[object]], window: int) -> None:
    slots = asyncio.Semaphore(window)

    async def one(order: Order) -> None:
        async with slots:
            await publish(order)

    async with asyncio.TaskGroup() as group:
        async for order in paced(job):
            group.create_task(one(order))


class _Shared:
    """An iterator that several threads may take from."""

    def __init__(self, source: Iterator[Order]) -> None:
        self._source = source
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[Order]:
        while True:
            with self._lock:
                order = next(self._source, None)
            if order is None:
                return
            yield order


def blocking(job: Job, publish: Callable[[Order], object], threads: int = 1) -> None:
    """Publish a job's orders with a function that returns once its message is confirmed."""
    shared = _Shared(paced_blocking(job) if job.rate else job.orders())
    failures: list[BaseException] = []

    def some() -> None:
        try:
            for order in shared:
                publish(order)
        except BaseException as error:  # noqa: BLE001 - raised by the thread that waits
            failures.append(error)

    began = time.perf_counter()
    workers = [threading.Thread(target=some) for _ in range(threads)]
    for each in workers:
        each.start()
    for each in workers:
        each.join()
    if failures:
        raise failures[0]
    published(job, began)
