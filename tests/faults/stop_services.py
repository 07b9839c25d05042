"""Services that stop badly, for `stops`; the environment names the queue and the way.

`MQKIT_TEST_QUEUE` names the queue, `MQKIT_TEST_OUT` a file to which each run appends a line.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Iterator

from mqkit import Queue, Retry, Service
from mqkit.middleware import CallNext, HandlerCall
from mqkit.store import Store
from tests.faults.services import QUEUE, note

LONG = 600.0
"""Seconds: for ever, as far as a test goes."""

queue = Queue(QUEUE)

if os.environ.get("MQKIT_TEST_IMPORT"):
    note("began")
    time.sleep(LONG)

quick = Service("quick", retry=Retry.never())


@quick.handler(queue, concurrency=1)
async def take_half_a_second(body: dict[str, int]) -> None:
    """Ends within any grace period."""
    note("began")
    await asyncio.sleep(0.5)
    note("done")


slow = Service("slow", retry=Retry.never())


@slow.handler(queue, concurrency=2)
async def wait(body: dict[str, int]) -> None:
    """Can be cancelled."""
    note("began")
    await asyncio.sleep(LONG)


stubborn = Service("stubborn", retry=Retry.never())


@stubborn.handler(queue, concurrency=2)
async def refuse_to_be_cancelled(body: dict[str, int]) -> None:
    """Goes on when it is cancelled, as often as it is."""
    note("began")
    while True:
        try:
            await asyncio.sleep(LONG)
        except asyncio.CancelledError:
            note("refused")


threaded = Service("threaded", retry=Retry.never())


@threaded.handler(queue, concurrency=2)
def never_return(body: dict[str, int]) -> None:
    """A thread that never ends."""
    note("began")
    time.sleep(LONG)


delegating = Service("delegating", retry=Retry.never())


@delegating.handler(queue, concurrency=2)
async def wait_for_a_thread(body: dict[str, int]) -> None:
    """A thread of the loop's own executor, for which the loop waits at its end."""
    note("began")
    await asyncio.to_thread(time.sleep, LONG)


blocking = Service("blocking", retry=Retry.never())


@blocking.handler(queue, prefetch=2, concurrency=1)
async def block_the_loop(body: dict[str, int]) -> None:
    """Nothing else runs in its process any more."""
    note("began")
    time.sleep(LONG)  # noqa: ASYNC251 - the mistake that it is about


async def hang(call: HandlerCall, call_next: CallNext) -> object:
    """A middleware that never comes back."""
    try:
        return await call_next(call)
    finally:
        note("began")
        await asyncio.Event().wait()


hanging = Service("hanging", retry=Retry.never(), middleware=[hang])


@hanging.handler(queue, concurrency=2)
async def do_nothing(body: dict[str, int]) -> None:
    """Is done at once."""


class Resource(str):
    """What a provider makes."""

    __slots__ = ()


def fail_to_close() -> Iterator[Resource]:
    """A provider that raises when it is closed."""
    yield Resource()
    raise RuntimeError("this resource cannot be closed")


async def hang_on_close() -> AsyncIterator[Resource]:
    """A provider that waits for ever when it is closed."""
    yield Resource()
    await asyncio.Event().wait()


def block_on_close() -> Iterator[Resource]:
    """A provider that blocks the loop when it is closed."""
    yield Resource()
    time.sleep(LONG)


def providing(name: str, provider: object) -> Service:
    """A service with this provider, and a thread that never ends."""
    service = Service(name, retry=Retry.never())
    service.provide(Resource, provider, scope="service")  # type: ignore[arg-type]
    service.handler(queue, concurrency=2)(never_return)
    return service


failing_provider = providing("failing-provider", fail_to_close)
hanging_provider = providing("hanging-provider", hang_on_close)
blocking_provider = providing("blocking-provider", block_on_close)

loud = Service("loud", retry=Retry.never())


@loud.handler(queue, prefetch=1, concurrency=1)
async def write_much(body: dict[str, int]) -> None:
    """Fills the pipe that its output goes to."""
    note("began")
    while True:
        sys.stdout.write("x" * 1000 + "\n")
        sys.stdout.flush()
        await asyncio.sleep(0)


if os.environ.get("MQKIT_STORE"):
    stored = Service("stored", retry=Retry.never(), store=Store())

    # What became of its messages is to be written to a database that is dead by then.
    stored.handler(queue, concurrency=2)(wait)
