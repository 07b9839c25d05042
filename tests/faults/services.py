"""Services that the fault tests run in processes of their own.

`MQKIT_TEST_QUEUE` names the queue, `MQKIT_TEST_OUT` a file to which each run appends a line.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

from tenacity import stop_after_attempt, wait_fixed

from mqkit import BrokerUrl, Delivery, Queue, Retry, Service

QUEUE = os.environ.get("MQKIT_TEST_QUEUE", "unset")
OUT = Path(os.environ.get("MQKIT_TEST_OUT", os.devnull))


def note(line: str) -> None:
    """Append a line, at once."""
    with OUT.open("a") as file:
        file.write(line + "\n")


slow = Service("slow", retry=Retry.never())


@slow.handler(Queue(QUEUE), concurrency=1)
async def sleep_in_the_loop(body: dict[str, float]) -> None:
    """Takes body['seconds']."""
    note("began")
    await asyncio.sleep(body["seconds"])
    note("finished")


threaded = Service("threaded", retry=Retry.never())


@threaded.handler(Queue(QUEUE), concurrency=1)
def sleep_in_a_thread(body: dict[str, float]) -> None:
    """Takes body['seconds'], and cannot be cancelled."""
    note("began")
    time.sleep(body["seconds"])
    note("finished")


stubborn = Service("stubborn", retry=Retry.never())


@stubborn.handler(Queue(QUEUE), concurrency=1)
async def swallow_cancellation(body: dict[str, float]) -> None:
    """Refuses to be cancelled."""
    note("began")
    end = time.monotonic() + body["seconds"]
    while time.monotonic() < end:
        try:
            await asyncio.sleep(0.1)
        except asyncio.CancelledError:
            note("refused")


poisoned = Service("poisoned", retry=Retry.never())


@poisoned.handler(Queue(QUEUE, delivery_limit=3), prefetch=5, concurrency=1)
async def die_of_poison(body: dict[str, bool], delivery: Delivery) -> None:
    """A poisonous message kills the process as a crash would: without a word."""
    note(f"run {delivery.message_id}")
    if body["poison"]:
        os.kill(os.getpid(), signal.SIGKILL)
    note(f"done {delivery.message_id}")


crowded = Service("crowded", retry=Retry.never())


@crowded.handler(Queue(QUEUE), prefetch=20, concurrency=20)
async def die_among_others(body: dict[str, bool], delivery: Delivery) -> None:
    """A poisonous message kills the process while all others that it was sent ahead run."""
    if body["poison"]:
        await asyncio.sleep(0.1)
        os.kill(os.getpid(), signal.SIGKILL)
    await asyncio.sleep(0.2)
    note(f"done {delivery.message_id}")


flaky = Service("flaky", retry=Retry(stop=stop_after_attempt(20), wait=wait_fixed(0.1)))


# A process is killed with one message unacked: more than one would be counted as more deaths.
@flaky.handler(Queue(QUEUE, delivery_limit=1000), prefetch=1, concurrency=1)
async def fail_once(body: dict[str, int], delivery: Delivery) -> None:
    """Fails at the first attempt, and applies the message at any later one."""
    if delivery.attempt == 1:
        note(f"failed {delivery.message_id}")
        raise RuntimeError("the first attempt")
    note(f"applied {delivery.message_id}")


async def idle(url: BrokerUrl, stop: asyncio.Event) -> None:
    """No service: a function, as a relay is one."""
    note(f"idle {os.getpid()}")
    await stop.wait()
    note(f"stopped {os.getpid()}")


async def failing(url: BrokerUrl, stop: asyncio.Event) -> None:
    """Cannot live."""
    raise RuntimeError("no place to be")


interrupting = Service("interrupting", retry=Retry.never())


@interrupting.handler(Queue(QUEUE))
def interrupt(body: dict[str, str]) -> None:
    """Raises what a Ctrl-C raises, in a thread, or exits."""
    note(f"run {body['raises']}")
    if body["raises"] == "KeyboardInterrupt":
        raise KeyboardInterrupt
    if body["raises"] == "SystemExit":
        raise SystemExit(7)


interrupting_loop = Service("interrupting-loop", retry=Retry.never())


@interrupting_loop.handler(Queue(QUEUE))
async def interrupt_the_loop(body: dict[str, str]) -> None:
    """As `interrupt`, on the event loop."""
    interrupt(body)
