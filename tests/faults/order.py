"""`python -m tests.faults.order`: order by key over processes that fail at random and are killed.

Messages of many keys go to a queue with partitions, and several processes handle them. Runs fail
at random, and every few seconds a process dies by SIGKILL. Each run writes to one journal when it
begins and when its effect is there. In the end the effects of each key are in the order of the
queue, without a gap, and no two runs of a key overlapped. Exit codes: 0 it holds; 1 not so.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import random
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pydantic import BaseModel
from rich.console import Console
from tenacity import stop_after_attempt, wait_fixed

from mqkit import BrokerUrl, Delivery, Outgoing, Queue, Retry, Runtime, Service
from mqkit.broker.declare import declare
from mqkit.testing.brokers.finder import find_brokers
from mqkit.testing.brokers.finder import start as start_broker
from tests.faults.deaths import Deaths
from tests.faults.nurseries import Nursery
from tests.support import Client, connected

JOURNAL = "MQKIT_TEST_ORDER_JOURNAL"
"""The environment variable that names the journal."""

# RabbitMQ 4.3.6 keeps who is killed as it makes room for another until this is over (the guide).
QUEUE = Queue(
    "ordered", partitions=8, delivery_limit=1_000_000, arguments={"x-consumer-timeout": 30_000}
)

FAILURES = 0.02
"""The share of runs that fail, and are tried again."""

STILL_WITHIN = 120.0
"""Seconds without any effect after which something is lost."""

DONE, FAILED = 0, 1

console = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)


class Step(BaseModel):
    """One of a key's messages, numbered in their order."""

    key: int
    number: int


class FailedOnPurposeError(Exception):
    """A run that was to fail."""


def service(journal: int) -> Service:
    """The service whose runs are written to a file that all processes append to."""
    made = Service("ordered", retry=Retry(stop=stop_after_attempt(1000), wait=wait_fixed(0.02)))

    @made.handler(QUEUE, prefetch=50, concurrency=20, order_by="key")
    async def step(body: Step, delivery: Delivery) -> None:
        # One write of few bytes to a file that is appended to is not mixed with another's.
        run = (os.getpid(), body.key, body.number)
        os.write(journal, b"begin %d %d %d\n" % run)
        await asyncio.sleep(0)
        if random.random() < FAILURES:
            os.write(journal, b"fail %d %d %d\n" % run)
            raise FailedOnPurposeError
        os.write(journal, b"done %d %d %d\n" % run)

    return made


async def work(url: BrokerUrl, stop: asyncio.Event) -> None:
    """What a process of the nursery runs."""
    journal = os.open(os.environ[JOURNAL], os.O_WRONLY | os.O_APPEND)
    # Not of the nursery's state, or all children would draw the same numbers.
    random.seed()
    await Runtime(service(journal), url).run(stop)


@dataclass
class Report:
    """What came of a run; seconds, messages per second."""

    messages: int
    keys: int
    seconds: float = 0.0
    rate: float = 0.0
    kills: int = 0
    runs: int = 0
    again: int = 0
    """Effects of a message that had one, its process having died before the ack."""
    concurrency: int = 0
    """The most keys that were in work at the same time."""
    problems: list[str] = field(default_factory=list)


async def run(
    url: str, directory: Path, *, messages: int, keys: int, processes: int, kill_every: float
) -> Report:
    """Run it on an empty virtual host; what does not hold is in the report."""
    report = Report(messages, keys)
    path = directory / "journal"
    path.touch()
    began = time.monotonic()
    async with connected(url, "order") as client:
        await declare(client.connection.channel, service(-1).topology)
        nursery = Nursery(
            {"tests.faults.order:work": processes},
            url,
            directory / "log",
            MQKIT_TEST_ORDER_JOURNAL=str(path),
        )
        with nursery:
            deaths = Deaths(nursery, kill_every, lambda: path.stat().st_size)
            async with asyncio.TaskGroup() as group:
                killing = group.create_task(deaths.run())
                await send(client, messages, keys)
                await until_done(client, path)
                killing.cancel()
            await nursery.stop()
        report.seconds = round(time.monotonic() - began, 1)
        report.rate = round(messages / report.seconds, 1)
        report.kills = deaths.kills
        report.problems += deaths.problems()
        left = await client.messages(QUEUE.dead_queue)
        if left:
            report.problems.append(f"{left} messages are dead letters")
    audit(path, report)
    return report


async def send(client: Client, messages: int, keys: int) -> None:
    """Publish them, each key's in order."""

    def steps() -> Iterator[Outgoing]:
        numbers: Counter[int] = Counter()
        for index in range(messages):
            key = random.randrange(keys) if index >= keys else index
            body = Step(key=key, number=numbers[key])
            numbers[key] += 1
            yield Outgoing("", QUEUE.name, body, message_id=f"step-{index}")

    async for result in client.publisher.publish_many(steps()):
        assert result.error is None, result.error


async def until_done(client: Client, journal: Path) -> None:
    """Wait until all queues are empty; fails once nothing moves any more."""
    names = (QUEUE.name, *(each.name for each in QUEUE.partition_queues()))
    size, since = -1, time.monotonic()
    while True:
        # Ready ones only: what is held is written to the journal as it goes on.
        ready = sum([await client.messages(name) for name in names])
        if journal.stat().st_size != size:
            size, since = journal.stat().st_size, time.monotonic()
        elif not ready and time.monotonic() - since > QUIET:
            return
        assert time.monotonic() - since < STILL_WITHIN, f"{ready} messages stay in their queues"
        await asyncio.sleep(0.2)


QUIET = 8.0
"""Seconds without a run after which all is done: a killed process's messages come back sooner."""


def audit(journal: Path, report: Report) -> None:
    """Read what happened, in the order in which it did."""
    done: dict[int, list[int]] = defaultdict(list)
    running: dict[int, int] = {}
    with journal.open() as lines:
        for line in lines:
            word, *numbers = line.split()
            pid, key, number = map(int, numbers)
            if word == "begin":
                report.runs += 1
                running[key] = pid
                report.concurrency = max(report.concurrency, len(running))
                if number > len(done[key]):
                    report.problems.append(f"key {key}: {number} began before {len(done[key])}")
                continue
            if running.pop(key, None) != pid:
                report.problems.append(f"key {key}: {number} ran while another one of it did")
            if word == "done":
                if number == len(done[key]):
                    done[key].append(number)
                else:
                    report.again += 1
                    if number > len(done[key]):
                        report.problems.append(f"key {key}: {number} came out of order")
    missing = report.messages - sum(map(len, done.values()))
    if missing:
        report.problems.append(f"{missing} messages had no effect")
    if report.concurrency < min(2, report.keys):
        report.problems.append("never two keys at the same time")
    del report.problems[20:]


def main(argv: Sequence[str] | None = None) -> int:
    """Run it as the arguments say; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults.order", description="Order by key, under SIGKILL."
    )
    parser.add_argument("--messages", type=int, default=200_000, help="%(default)s by default")
    parser.add_argument("--keys", type=int, default=1000, help="%(default)s by default")
    parser.add_argument("--processes", type=int, default=4, help="%(default)s by default")
    parser.add_argument("--kill-every", type=float, default=5.0, help="seconds (%(default)s)")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the report there, too")
    options = parser.parse_args(argv)
    with (
        tempfile.TemporaryDirectory(prefix="mqkit-order-") as directory,
        start_broker(find_brokers(os.environ)[0]) as broker,
    ):
        report = asyncio.run(
            run(
                broker.url,
                Path(directory),
                messages=options.messages,
                keys=options.keys,
                processes=options.processes,
                kill_every=options.kill_every or math.inf,
            )
        )
    plain = {"broker": broker.version, **asdict(report)}
    text = json.dumps(plain, indent=1)
    console.print(text)
    if options.json is not None:
        options.json.write_text(text + "\n")
    return FAILED if report.problems else DONE


if __name__ == "__main__":
    sys.exit(main())
