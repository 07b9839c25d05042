"""How well `mqkit capacity` predicts the wait of messages: predicted beside measured, in one run.

    python -m tests.benchmarks.capacity [--seconds 60] [--replicas 8] [--cv 1.0] [--url URL]

Messages come at random to queues whose handlers have so many workers and sleep for a random time.
Four loads run side by side, from 40 % to 90 % of what the workers can do, each on several queues.
Told are, for each, the wait that is computed from the rate, the mean and the spread of the runs, as
measured (on a busy machine a sleep takes longer); the one that an ideal queue has with the very
same messages, one by one; and the one that was measured, from the publish to the begin of the
handler. The first two differ by chance: so few messages are one draw of many. The last two differ
by what broker, network and mqkit take.

Without a URL it runs on an embedded broker in this process. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import heapq
import json
import random
import secrets
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel

from mqkit import BrokerUrl, Publisher, Queue, Retry, Runtime, Service, drivers
from mqkit.broker.connection import Connection
from mqkit.capacity import Load, Waits, waits
from mqkit.testing.brokers.embedded import EmbeddedBroker

UTILISATIONS = (0.4, 0.6, 0.75, 0.9)
WORKERS = 4
SERVICE_TIME = 0.3
"""Seconds; long beside what the machine adds."""

WARM_UP = 0.1
"""The share of the messages at the beginning that do not count: the queues begin empty."""


class Job(BaseModel):
    """A message: when it was published, and how long it keeps its worker."""

    number: int
    published: float
    """Seconds, on the monotonic clock."""
    runs: float


@dataclass
class Replica:
    """One queue with its handler, and what became of its messages."""

    load: Load
    queue: str
    drawn: random.Random
    arrivals: list[tuple[float, float]] = field(default_factory=list)
    """When each message was published, and how long it runs."""
    waited: dict[int, float] = field(default_factory=dict)
    took: dict[int, float] = field(default_factory=dict)
    """How long each run took."""

    async def publish(self, publisher: Publisher, seconds: float) -> None:
        """Publish at random for so many seconds."""
        shape = 1 / self.load.cv**2 if self.load.cv else 0.0
        due = began = time.monotonic()
        async with asyncio.TaskGroup() as publishing:
            while True:
                due += self.drawn.expovariate(self.load.rate)
                if due > began + seconds:
                    return
                await asyncio.sleep(due - time.monotonic())
                mean = self.load.service_time
                runs = self.drawn.gammavariate(shape, mean / shape) if shape else mean
                job = Job(number=len(self.arrivals), published=time.monotonic(), runs=runs)
                self.arrivals.append((job.published, runs))
                publishing.create_task(publisher.publish("", self.queue, job))

    async def handle(self, job: Job) -> None:
        """Note the wait, and keep the worker."""
        began = time.monotonic()
        self.waited[job.number] = began - job.published
        await asyncio.sleep(job.runs)
        self.took[job.number] = time.monotonic() - began

    @property
    def measured(self) -> list[float]:
        """The waits that count."""
        first = int(len(self.arrivals) * WARM_UP)
        return [wait for number, wait in self.waited.items() if number >= first]

    @property
    def ideal(self) -> list[float]:
        """The waits that these messages have in a queue that takes no time."""
        free_at = [0.0] * WORKERS
        found = []
        for number, (published, _) in enumerate(self.arrivals):
            begins = max(published, free_at[0])
            found.append(begins - published)
            heapq.heapreplace(free_at, begins + self.took[number])
        return found[int(len(found) * WARM_UP) :]


async def measure(url: str, seconds: float, replicas: int, cv: float) -> list[list[Replica]]:
    """Run all loads side by side; return the replicas of each."""
    run = secrets.token_hex(4)
    service = Service("capacity", retry=Retry.never())
    loads = [Load(each * WORKERS / SERVICE_TIME, SERVICE_TIME, cv) for each in UTILISATIONS]
    groups: list[list[Replica]] = []
    for number, load in enumerate(loads):
        groups.append([])
        for copy in range(replicas):
            queue = f"capacity.{run}.{number}.{copy}"
            replica = Replica(load, queue, random.Random(f"{number}.{copy}"))
            groups[-1].append(replica)
            register(service, replica)
    parsed = BrokerUrl.parse(url)
    async with Runtime(service, parsed) as runtime, Publisher(parsed) as publisher:
        every = [replica for group in groups for replica in group]
        await asyncio.gather(*(each.publish(publisher, seconds) for each in every))
        while any(len(each.waited) < len(each.arrivals) for each in every) or runtime.in_flight:
            await asyncio.sleep(0.05)
    await remove(url, [each.queue for each in every])
    return groups


def register(service: Service, replica: Replica) -> None:
    """Have a service handle a replica's messages."""

    async def handle(job: Job) -> None:
        await replica.handle(job)

    handle.__qualname__ = f"handle_{replica.queue.replace('.', '_')}"
    queue = Queue(replica.queue)
    service.handler(queue, concurrency=WORKERS, prefetch=2 * WORKERS)(handle)


async def remove(url: str, queues: Sequence[str]) -> None:
    """Delete the queues, which nobody needs any more."""
    connection = Connection(BrokerUrl.parse(url), name="capacity", driver=drivers.named("pika"))
    await connection.open(15)
    try:
        channel = await connection.channel()
        for name in queues:
            await channel.delete_queue(name)
            await channel.delete_queue(f"{name}.dead")
    finally:
        await connection.close()


def found(group: Sequence[Replica]) -> Load:
    """Return the load of some queues as it was measured."""
    took = [each for replica in group for each in replica.took.values()]
    spans = [each.arrivals[-1][0] - each.arrivals[0][0] for each in group]
    mean = statistics.fmean(took)
    rate = sum(len(each.arrivals) - 1 for each in group) / sum(spans)
    return Load(rate, mean, statistics.pstdev(took) / mean)


def table(groups: Sequence[Sequence[Replica]]) -> list[dict[str, float]]:
    """Return a row for each load; times are in milliseconds."""
    rows = []
    for group in groups:
        predicted: Waits = waits(found(group), WORKERS)
        ideal = sorted(wait for each in group for wait in each.ideal)
        measured = sorted(wait for each in group for wait in each.measured)
        rows.append(
            {
                "load": predicted.utilisation,
                "messages": len(measured),
                "predicted": predicted.mean * 1e3,
                "ideal": statistics.fmean(ideal) * 1e3,
                "measured": statistics.fmean(measured) * 1e3,
                "predicted_99": predicted.quantile(0.99) * 1e3,
                "ideal_99": ideal[int(0.99 * len(ideal))] * 1e3,
                "measured_99": measured[int(0.99 * len(measured))] * 1e3,
            }
        )
    return rows


def lines(rows: Sequence[dict[str, float]]) -> list[str]:
    """Say it for a person."""
    return [
        f"{WORKERS} workers, {SERVICE_TIME * 1e3:g} ms a message; ms: predicted / ideal / measured",
        *(
            f"{row['load']:4.0%}  {row['messages']:6,.0f} messages   mean "
            f"{row['predicted']:6.1f} / {row['ideal']:6.1f} / {row['measured']:6.1f}   99 % "
            f"{row['predicted_99']:7.1f} / {row['ideal_99']:7.1f} / {row['measured_99']:7.1f}"
            for row in rows
        ),
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and print the table; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.capacity")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--replicas", type=int, default=8, help="queues for each load")
    parser.add_argument("--cv", type=float, default=1.0, help="the spread of the handlers' times")
    parser.add_argument("--url", help="a broker; by default an embedded one in this process")
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    options = parser.parse_args(argv)
    with contextlib.ExitStack() as stack:
        url = options.url or stack.enter_context(EmbeddedBroker(durable=False)).url
        groups = asyncio.run(measure(url, options.seconds, options.replicas, options.cv))
    rows = table(groups)
    if options.json is not None:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")
    sys.stdout.write("\n".join(lines(rows)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
