"""Services for tests of several processes; the environment says what they do, as in `services`."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
from pathlib import Path

from mqkit import Delivery, Queue, Retry, Service
from tests.faults.services import QUEUE, note

BROKEN = Path(os.environ.get("MQKIT_TEST_BROKEN", os.devnull))
"""While there is such a file, the module does what it says instead of starting."""

if BROKEN.is_file():
    match BROKEN.read_text():
        case "raise":
            raise RuntimeError("this service is broken")
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case words:
            which, _, code = words.rpartition(" ")
            # The number of a process is the last word of its command line.
            if not which or sys.argv[-1] == "2":
                raise SystemExit(int(code))

one_by_one = Service("one-by-one", retry=Retry.never())


@one_by_one.handler(Queue(QUEUE), prefetch=1, concurrency=1)
async def take_one(body: dict[str, float], delivery: Delivery) -> None:
    """Notes the process before and after it takes body['seconds']."""
    note(f"began {delivery.message_id} {os.getpid()}")
    await asyncio.sleep(body["seconds"])
    note(f"done {delivery.message_id} {os.getpid()}")


at_once = Service("at-once", retry=Retry.never())
at_once.handler(Queue(QUEUE), prefetch=10, concurrency=5)(take_one)


printing = Service("printing", retry=Retry.never())


@printing.handler(Queue(QUEUE))
async def print_and_log(body: dict[str, float]) -> None:
    """Writes in all the ways there are."""
    sys.stdout.write("printed\n")
    logging.getLogger("shop").error(
        "a record", exc_info=ValueError("the first line\nthe second line")
    )


blocking = Service("blocking", retry=Retry.never())


@blocking.handler(Queue(QUEUE), prefetch=1, concurrency=1)
async def hold_up_the_loop(body: dict[str, float]) -> None:
    """Nothing else runs in its process for body['seconds']."""
    note(f"began - {os.getpid()}")
    time.sleep(body["seconds"])  # noqa: ASYNC251 - the mistake that it is about
