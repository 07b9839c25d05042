"""Rows 5 and 6: the broker runs out of memory or of disk, and blocks publishers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from mqkit import Publisher
from mqkit.errors import BlockedError, PublishError
from tests.faults.matrix.hurt import alarm
from tests.faults.matrix.row import Bench, row
from tests.faults.matrix.services import DRIVERS, applying
from tests.support import eventually

TIMEOUT = 1.0
"""Seconds that a publish is given during an alarm."""

LATE = 1.0
"""Seconds over its timeout that a publish may take to fail."""

WAITING = 20
"""Messages that are in the queue when the alarm begins, and must be handled during it."""

HELD = 5
"""Of which so many are being handled."""


@row(5, "memory alarm")
async def memory(bench: Bench) -> None:
    """`set_vm_memory_high_watermark 0.0001`."""
    await _alarms(bench, "memory", DRIVERS)


@row(6, "disk alarm")
async def disk(bench: Bench) -> None:
    """`set_disk_free_limit` above what the disk has."""
    await _alarms(bench, "disk", DRIVERS[::-1])


async def _alarms(bench: Bench, kind: str, drivers: Sequence[str]) -> None:
    queue = f"matrix.{kind}"
    for number in range(bench.faults):
        driver, gate = drivers[number % len(drivers)], asyncio.Event()
        service = applying(bench.journal, queue, concurrency=HELD, prefetch=HELD, gate=gate)
        async with bench.serving(service, driver=driver) as serving:
            publisher = serving.publisher
            waiting = [await bench.publish(publisher, "", queue) for _ in range(WAITING)]
            await eventually(lambda: bench.journal.running() == HELD, what="the first runs")
            async with bench.goes_on(publisher, "", queue), alarm(bench.broker, kind):
                bench.fault()
                await _blocked(bench, publisher, queue)
                gate.set()
                for key in waiting:
                    await bench.applied(key)
            await bench.all_ended()


async def _blocked(bench: Bench, publisher: Publisher, queue: str) -> None:
    """Publishes must fail in time, and say that the broker blocks and nothing was written."""

    async def publish() -> None:
        began = time.monotonic()
        try:
            await bench.publish(publisher, "", queue, timeout=TIMEOUT)
        except BlockedError:
            pass
        except PublishError as error:
            # What was written right before the broker told of the alarm is unknown.
            bench.check(error.may_be_stored, f"a publish during the alarm: {error!r}")
        else:
            bench.problem("a publish was confirmed during the alarm")
        took = time.monotonic() - began
        bench.check(took < TIMEOUT + LATE, f"a blocked publish took {took:.1f} s to fail")

    # The first may be the one by which the broker notices; those after it are told apart.
    await publish()
    unknown = len(bench.journal.keys("unknown"))
    await asyncio.gather(*(publish() for _ in range(5)))
    bench.check(
        len(bench.journal.keys("unknown")) == unknown,
        "a publish in the middle of an alarm was not refused with BlockedError",
    )
