"""Rows 1 to 4: the broker itself crashes, hangs, stops, or closes every connection."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable

from tests.faults.matrix.row import Bench, row

SERVICE = "tests.faults.matrix.processes:service"

SETTLED = (3.0, 10.0)
"""Seconds, in the short and the long form, from a quorum queue's declaration to a kill.

A node that is killed within some 1.5 s of it may come back with a queue that has no leader.
"""


def a_while(longest: float) -> Callable[[], dict[str, object]]:
    """Messages whose handler takes up to so many seconds."""
    return lambda: {"seconds": random.uniform(0, longest)}


@row(1, "broker crash under load")
async def crash(bench: Bench) -> None:
    """SIGKILL the node while it confirms and delivers, and start it again."""
    queue = "matrix.crash"
    with bench.process(SERVICE, MQKIT_MATRIX_QUEUE=queue) as process:
        await process.says("consuming")
        declared = time.monotonic()
        async with bench.client() as client:
            for _ in range(bench.faults):
                settled = declared + SETTLED[not bench.short]
                async with bench.load(client.publisher, "", queue, fields=a_while(0.01)):
                    await asyncio.sleep(max(settled - time.monotonic(), 0) + random.random())
                    async with bench.goes_on(client.publisher, "", queue):
                        await asyncio.to_thread(bench.broker.kill)
                        bench.fault()
                        await asyncio.to_thread(bench.broker.start)
                await bench.all_ended()


@row(4, "forced close of all connections", short=3)
async def forced_close(bench: Bench) -> None:
    """`rabbitmqctl close_all_connections` again and again, under handlers that take a while."""
    queue = "matrix.close"
    with bench.process(SERVICE, MQKIT_MATRIX_QUEUE=queue) as process:
        await process.says("consuming")
        async with bench.client() as client:
            async with bench.load(client.publisher, "", queue, fields=a_while(1.0)):
                for _ in range(bench.faults):
                    async with bench.goes_on(client.publisher, "", queue):
                        await asyncio.to_thread(bench.broker.ctl, "close_all_connections", "matrix")
                        bench.fault()
            await bench.all_ended()
    together = bench.journal.together()
    bench.check(not together, f"{len(together)} messages were handled twice at the same time")
