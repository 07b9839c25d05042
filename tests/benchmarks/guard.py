"""Has mqkit become slower? Compared with raw pika in the same run, on any machine.

    python -m tests.benchmarks.guard [--rounds 9] [--messages 4000]

What is compared is processor time for a message, of this process: mqkit's and raw pika's, which
do the same work (`side_by_side/systems/raw_pika.py`) in the same process on the same broker, in
short slices that take turns. Not the time on the clock: on a machine that others use, that is for
the most part theirs, and the two slices of a round may get quite different shares of it. And no
rate: a client that needs half of the processor time for a message handles twice as many where it
is the limit, which it is on an idle machine. What other load does to processor time (caches, the
clock of the processor, smaller reads from the socket) it does to both slices of a round alike; the
median of the rounds' ratios drops the rounds where it did not. The thresholds are a quarter and a
third below the least that was measured, for the same code on several machines: published 0.67 to
1.10, handled 1.18 to 1.25. On two cores with a load of 14, a run still tells up to a sixth more or
less.

Exit codes: 0 both ratios hold; 1 one does not, or there is no broker.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from mqkit import (
    BrokerUrl,
    Middleware,
    MqkitError,
    Outgoing,
    Publisher,
    Queue,
    Retry,
    Runtime,
    Service,
    drivers,
)
from mqkit.broker.connection import Connection
from mqkit.broker.declare import declare
from mqkit.testing.brokers.finder import find_brokers, start
from tests.benchmarks.side_by_side.room import Room, own_vhost
from tests.benchmarks.side_by_side.systems import raw_pika
from tests.benchmarks.side_by_side.systems.base import PREFETCH, WINDOW, Job, Meter, Order

PUBLISHED_SHARE = 0.5
"""Of raw pika's speed at publishing that mqkit must have: confirmed, pipelined, mandatory."""

HANDLED_SHARE = 0.8
"""Of raw pika's speed at handling with single acks that mqkit must have."""

ROUNDS, MESSAGES = 9, 4000
SHORT_ROUNDS, SHORT_MESSAGES = 5, 600


@dataclass(frozen=True)
class Shares:
    """What mqkit has of raw pika's speed, by processor time: the median of the rounds."""

    published: float
    handled: float

    def problems(self) -> list[str]:
        """What is below its threshold."""
        asked = {"published": PUBLISHED_SHARE, "handled": HANDLED_SHARE}
        return [
            f"{what}: {share:.2f} of raw pika's speed, where at least {asked[what]} is asked for"
            for what, share in (("published", self.published), ("handled", self.handled))
            if share < asked[what]
        ]


@dataclass(frozen=True)
class Cost:
    """Microseconds of processor time for a message."""

    published: float
    handled: float


async def compare(
    room: Room, rounds: int, messages: int, middleware: Sequence[Middleware] = ()
) -> Shares:
    """Measure both in turn; `middleware` goes around mqkit's handler."""
    published, handled = [], []
    for number in range(rounds + 1):
        costs = {}
        # Who comes first changes.
        for system in ("pika", "mqkit") if number % 2 else ("mqkit", "pika"):
            with room.queue(f"guard-{system}") as queue:
                job = Job(room.url, queue, messages)
                costs[system] = await (_pika(job) if system == "pika" else _mqkit(job, middleware))
        if number:  # the first one warms up
            published.append(costs["pika"].published / costs["mqkit"].published)
            handled.append(costs["pika"].handled / costs["mqkit"].handled)
    return Shares(statistics.median(published), statistics.median(handled))


async def _pika(job: Job) -> Cost:
    async with raw_pika.channel_of(job) as channel:
        publishing = raw_pika.Publishing(channel, job.queue)
        await publishing.open()
        orders = job.orders()
        began = _begin()
        for order in orders:
            await publishing.room()
            publishing.publish(order)
        await publishing.room(0)
        published = time.process_time() - began
    done = asyncio.Event()
    meter = Meter(job, done.set)
    _begin()
    async with raw_pika.consuming(job, meter):
        await done.wait()
    return Cost(published / job.messages * 1e6, meter.cost)


async def _mqkit(job: Job, middleware: Sequence[Middleware]) -> Cost:
    done = asyncio.Event()
    meter = Meter(job, done.set)
    service = Service("guard", retry=Retry.never(), middleware=middleware)

    @service.handler(Queue(job.queue), prefetch=PREFETCH, concurrency=PREFETCH)
    async def handle(order: Order) -> None:
        meter.handled(order)

    url = BrokerUrl.parse(job.url)
    connection = Connection(url, name="guard", driver=drivers.named("pika"))
    await connection.open(15)
    await declare(connection.channel, service.topology)
    publisher = Publisher.on(connection)
    outgoing = (Outgoing("", job.queue, order) for order in job.orders())
    began = _begin()
    async for result in publisher.publish_many(outgoing, window=WINDOW):
        if result.error is not None:
            raise result.error
    published = time.process_time() - began
    await publisher.close()
    await connection.close()
    _begin()
    async with Runtime(service, url, driver=drivers.named("pika")):
        await done.wait()
    return Cost(published / job.messages * 1e6, meter.cost)


def _begin() -> float:
    """Processor time so far, with no garbage of what was before."""
    gc.collect()
    return time.process_time()


def main(argv: Sequence[str] | None = None) -> int:
    """Compare on the broker that is found; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.guard")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--messages", type=int, default=MESSAGES, help="of each slice")
    options = parser.parse_args(argv)
    try:
        with start(find_brokers(os.environ)[0]) as broker, own_vhost(broker) as url:
            shares = asyncio.run(compare(Room(broker, url), options.rounds, options.messages))
    except MqkitError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(
        f"mqkit by raw pika, processor time of a message, median of {options.rounds} rounds: "
        f"published {shares.published:.2f} (at least {PUBLISHED_SHARE}), "
        f"handled {shares.handled:.2f} (at least {HANDLED_SHARE})\n"
    )
    problems = shares.problems()
    for problem in problems:
        sys.stderr.write(f"{problem}\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
