"""What every measured program shares: its commands, its message, its clock and its figures.

    python -m tests.benchmarks.side_by_side.systems.NAME describe
    python -m tests.benchmarks.side_by_side.systems.NAME publish --url URL --queue Q --messages N
    python -m tests.benchmarks.side_by_side.systems.NAME consume --url URL --queue Q --messages N

`describe` tells the system's settings and versions. `publish` publishes so many messages, with
`--rate` at so many in a second. `consume` handles so many, and with `--latency` tells how long
each took from publisher to handler. Each prints JSON objects, a line each: `consume` says
`{"ready": true}` once it listens, and the last line is the result. The Go client has the same
commands.

The figures are taken here and in the same way for all: rates from the first to the last message,
processor time (user and system, all threads) from the same first to the same last, memory as the
most that the process ever had resident.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.metadata
import itertools
import json
import platform
import resource
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from pydantic import BaseModel

BODY = 256
"""Bytes of a message's body as JSON."""

PREFETCH = 200
"""Messages that the broker may send ahead of their acks."""

WINDOW = 500
"""Publishes that may wait for their confirm at the same time, where the client can pipeline."""

EPOCH = 10**18
"""Added to the clock's nanoseconds, which then always have 19 digits, and a body `BODY` bytes."""

POOL = 1000
"""Orders that are made beforehand, and published again and again."""

GIVE_UP = 600.0
"""Seconds after which a consumer that has not handled all its messages ends with an error."""


class Order(BaseModel):
    """What every message is, and what every handler gets: a validated model."""

    id: str
    account: str
    amount: Decimal
    currency: str
    sent: int
    """Nanoseconds, on the clock of `now`."""
    memo: str


def now() -> int:
    """Nanoseconds on a clock that all processes of this machine share."""
    return EPOCH + time.monotonic_ns()


def orders(count: int) -> list[Order]:
    """Some orders whose JSON is exactly `BODY` bytes."""
    made = []
    for number in range(count):
        order = Order(
            id=f"order-{number:012d}",
            account=f"account-{number % 1000:06d}",
            amount=Decimal(number % 100_000) / 100,
            currency="EUR",
            sent=now(),
            memo="",
        )
        missing = BODY - len(order.model_dump_json())
        made.append(order.model_copy(update={"memo": "x" * missing}))
    return made


@dataclass(frozen=True)
class Settings:
    """What a reader must know of how a system was set up."""

    text: str
    packages: tuple[str, ...]
    """The distributions whose versions make the system."""


@dataclass(frozen=True)
class Job:
    """What one run is asked to do."""

    url: str
    queue: str
    messages: int
    rate: float
    """Messages in a second; 0 is as fast as it goes."""
    latency: bool
    skip: int
    """Messages at the start whose latency is not counted."""
    began: float
    """When this process was started: seconds on the wall's clock."""

    def orders(self) -> Iterator[Order]:
        """What to publish."""
        pool = orders(min(POOL, self.messages))
        return itertools.islice(itertools.cycle(pool), self.messages)


def say(**values: Any) -> None:
    """One line for whoever started this program."""
    sys.stdout.write(json.dumps(values) + "\n")
    sys.stdout.flush()


def ready() -> None:
    """Tell that this program listens, and messages may be published."""
    say(ready=True)


def peak_memory() -> float:
    """MiB: the most that this process ever had resident.

    Where there is a /proc, not `ru_maxrss`: that begins with what the parent had as it forked.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    unit = 1024 * 1024 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


@dataclass
class Meter:
    """Counts what a handler has handled; `handled` is what every handler calls, and all it does."""

    job: Job
    finished: Callable[[], object]
    """Called once, by whichever thread handles the last message."""
    latencies: list[int] = field(default_factory=list)
    first: tuple[float, float] = (0.0, 0.0)
    last: tuple[float, float] = (0.0, 0.0)
    start: float = 0.0

    def __post_init__(self) -> None:
        # next() of it is one step for all threads.
        self._numbers = itertools.count(1)
        self.handled: Callable[[Order], None] = self._timed if self.job.latency else self._counted

    def _counted(self, _: Order) -> None:
        number = next(self._numbers)
        if number == 1:
            self.start = time.time() - self.job.began
            self.first = (time.perf_counter(), time.process_time())
        if number == self.job.messages:
            self.last = (time.perf_counter(), time.process_time())
            self.finished()

    def _timed(self, order: Order) -> None:
        self.latencies.append(now() - order.sent)
        self._counted(order)

    def tell(self) -> None:
        """Print the result."""
        count = self.job.messages - 1
        figures = {
            "handled_per_s": count / (self.last[0] - self.first[0]),
            "cpu_us_per_message": (self.last[1] - self.first[1]) / count * 1e6,
            "start_s": self.start,
            "rss_mib": peak_memory(),
        }
        if self.job.latency:
            measured = sorted(self.latencies[self.job.skip :])
            figures["p50_ms"] = percentile(measured, 50) / 1e6
            figures["p99_ms"] = percentile(measured, 99) / 1e6
        say(**figures)


def percentile(ordered: list[int], percent: int) -> int:
    """The smallest value that so many percent of all are not above (nearest rank)."""
    rank = max(-(-len(ordered) * percent // 100), 1)
    return ordered[rank - 1]


Publish = Callable[[Job], Coroutine[Any, Any, None]]
Consume = Callable[[Job, Meter, asyncio.Event], Coroutine[Any, Any, None]]


def run_async(settings: Settings, publish: Publish, consume: Consume) -> None:
    """The program of a system that runs on an event loop; `consume` returns once it is done."""

    async def consuming(job: Job) -> Meter:
        done = asyncio.Event()
        meter = Meter(job, done.set)
        async with asyncio.timeout(GIVE_UP):
            await consume(job, meter, done)
        return meter

    loop = _uvloop()
    _main(
        Settings(f"{settings.text}; {loop.__name__ if loop else 'asyncio'}'s loop", (*settings.packages, *(["uvloop"] if loop else []))),
        lambda job: _run(publish(job), loop),
        lambda job: _run(consuming(job), loop),
    )


def run_blocking(
    settings: Settings,
    publish: Callable[[Job], None],
    consume: Callable[[Job, Meter, threading.Event], None],
) -> None:
    """The program of a system that runs in threads."""

    def consuming(job: Job) -> Meter:
        done = threading.Event()
        meter = Meter(job, done.set)
        consume(job, meter, done)
        return meter

    _main(settings, publish, consuming)
