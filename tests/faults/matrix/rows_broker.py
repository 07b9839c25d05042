"""Rows 1 to 4: the broker itself crashes, hangs, stops, or closes every connection."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import random
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

from mqkit import Publisher
from mqkit.errors import ConnectionLostError
from tests.faults.matrix.bench import RECOVERY_BUDGET, RECOVERY_LIMIT
from tests.faults.matrix.hurt import hanging
from tests.faults.matrix.links import all_noticed, connections, heartbeat
from tests.faults.matrix.row import Bench, row
from tests.faults.matrix.services import DRIVERS, applying
from tests.support import ServiceProcess, eventually

SERVICE = "tests.faults.matrix.processes:service"

SETTLED = (3.0, 10.0)
"""Seconds, in the short and the long form, from a quorum queue's declaration to a kill.

A node that is killed within some 1.5 s of it may come back with a queue that has no leader.
"""

LOST = "connection lost"
"""What a service logs of its connections, which are lost together."""

HANG = (0.0, 40.0)
"""Seconds that a hanging broker hangs at least, in the short and the long form."""

SIDE_BY_SIDE = 10
"""Services that a hang hits at the same time in the long form; each is a fault."""


@dataclass(frozen=True, slots=True)
class Served:
    """A service in a process of its own, and its queue."""

    process: ServiceProcess
    queue: str


@contextlib.asynccontextmanager
async def served(bench: Bench) -> AsyncIterator[tuple[list[Served], Publisher]]:
    """A process on each driver, each with its queue, and a publisher for both."""
    async with contextlib.AsyncExitStack() as stack:
        found = []
        for driver in DRIVERS:
            queue = f"matrix.{driver}"
            process = bench.process(SERVICE, "--driver", driver, MQKIT_MATRIX_QUEUE=queue)
            found.append(Served(stack.enter_context(process), queue))
        for each in found:
            await each.process.says("consuming")
        client = await stack.enter_async_context(bench.client())
        yield found, client.publisher


@contextlib.asynccontextmanager
async def loaded(
    bench: Bench, services: list[Served], publisher: Publisher, longest: float, pause: float
) -> AsyncIterator[None]:
    """Load on all of them, of messages whose handler takes up to `longest` seconds."""
    async with contextlib.AsyncExitStack() as stack:
        for each in services:
            load = bench.load(
                publisher,
                "",
                each.queue,
                writers=1,
                pause=pause,
                fields=lambda: {"seconds": random.uniform(0, longest)},
            )
            await stack.enter_async_context(load)
        yield


async def go_on(
    bench: Bench,
    services: list[Served],
    publisher: Publisher,
    since: float,
    budget: float = RECOVERY_LIMIT,
) -> None:
    """A message must go all the way through each of them."""
    for each in services:
        await bench.applied(await bench.publish(publisher, "", each.queue))
    bench.recovered(since, budget)


@row(1, "broker crash under load")
async def crash(bench: Bench) -> None:
    """SIGKILL the node while it confirms and delivers, and start it again."""
    async with served(bench) as (services, publisher):
        settled = time.monotonic() + SETTLED[not bench.short]
        for _ in range(bench.faults):
            async with loaded(bench, services, publisher, 0.01, 0.005):
                await asyncio.sleep(max(settled - time.monotonic(), 0) + random.random())
                await asyncio.to_thread(bench.broker.kill)
                bench.fault()
                await asyncio.to_thread(bench.broker.start)
                await go_on(bench, services, publisher, time.monotonic(), RECOVERY_BUDGET)
            await bench.all_ended()


@row(2, "broker hangs", short=2)
async def hang(bench: Bench) -> None:
    """Stop the node's processes until each service has noticed it by itself, and for longer."""
    side_by_side = len(DRIVERS) if bench.short else SIDE_BY_SIDE
    url = bench.at(heartbeat=heartbeat(bench), connect_timeout=heartbeat(bench))
    async with contextlib.AsyncExitStack() as stack:
        client = await stack.enter_async_context(bench.client(url))
        queues = [f"matrix.hang.{n}" for n in range(side_by_side)]
        services = [
            await stack.enter_async_context(
                bench.serving(applying(bench.journal, queue), url, driver=DRIVERS[n % len(DRIVERS)])
            )
            for n, queue in enumerate(queues)
        ]
        while bench.figures.faults < bench.faults:
            async with contextlib.AsyncExitStack() as loads:
                for queue, service in zip(queues, services, strict=True):
                    # A publish whose deadline passes in the hang was perhaps never written.
                    load = bench.load(
                        service.publisher, "", queue, writers=1, tolerate=(ConnectionLostError,)
                    )
                    await loads.enter_async_context(load)
                await bench.applied(await bench.publish(client.publisher, "", queues[0]))
                with hanging(bench.broker):
                    began = time.monotonic()
                    bench.fault(side_by_side)
                    await all_noticed(bench, connections(services), began, "the broker hangs")
                    left = began + HANG[not bench.short] - time.monotonic()
                    await asyncio.sleep(max(left, 0))
                woken = time.monotonic()
                for queue, service in zip(queues, services, strict=True):
                    await bench.applied(await bench.publish(service.publisher, "", queue))
                bench.recovered(woken)
            await bench.all_ended()


@row(3, "broker app stops")
async def app_stops(bench: Bench) -> None:
    """`rabbitmqctl stop_app` and `start_app` under load."""
    async with served(bench) as (services, publisher):
        for _ in range(bench.faults):
            async with loaded(bench, services, publisher, 0.01, 0.005):
                for each in services:
                    await bench.applied(await bench.publish(publisher, "", each.queue))
                await asyncio.to_thread(bench.broker.ctl, "stop_app")
                bench.fault()
                await asyncio.to_thread(bench.broker.ctl, "start_app")
                await go_on(bench, services, publisher, time.monotonic(), RECOVERY_BUDGET)
            await bench.all_ended()


@row(4, "forced close of all connections", short=2)
async def forced_close(bench: Bench) -> None:
    """`rabbitmqctl close_all_connections` again and again, under handlers that take a while."""
    close = ("close_all_connections", "--vhost", bench.room.name, "matrix")
    async with served(bench) as (services, publisher):
        async with loaded(bench, services, publisher, 1.5, 0.05):
            for _ in range(bench.faults):
                await eventually(lambda: bench.journal.running() > 5, what="some runs")
                lost = [each.process.text().count(LOST) for each in services]
                began = time.monotonic()
                await asyncio.to_thread(bench.broker.ctl, *close)
                bench.fault()
                await go_on(bench, services, publisher, began)
                for each, before in zip(services, lost, strict=True):
                    await eventually(
                        functools.partial(_has_lost, each, before + 1), what="the loss"
                    )
        await bench.all_ended()
    together = bench.journal.together()
    bench.check(not together, f"{len(together)} messages were handled twice at the same time")


def _has_lost(served: Served, count: int) -> bool:
    return served.process.text().count(LOST) >= count
