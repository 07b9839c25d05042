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
class Job:
    """What one run is asked to do."""

    url: str
    queue: str
    messages: int
    rate: float = 0.0
    """Messages in a second; 0 is as fast as it goes."""
    latency: bool = False
    skip: int = 0
    """Messages at the start whose latency is not counted."""
    began: float = 0.0
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

    @property
    def rate(self) -> float:
        """Messages handled in a second, from the first to the last."""
        return (self.job.messages - 1) / (self.last[0] - self.first[0])

    @property
    def cost(self) -> float:
        """Microseconds of this process's processor time for each of those."""
        return (self.last[1] - self.first[1]) / (self.job.messages - 1) * 1e6

    def tell(self) -> None:
        """Print the result."""
        figures = {
            "handled_per_s": self.rate,
            "cpu_us_per_message": self.cost,
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


@dataclass(frozen=True)
class System:
    """A system to measure, as its program hands it to `run`.

    `consume` calls `ready` once it listens, waits until the event is set, and then stops in
    order, so that all acks are written.
    """

    settings: str
    """What a reader must know of how it was set up."""
    packages: tuple[str, ...]
    """The distributions whose versions make the system."""
    publish: Callable[[Job], Coroutine[Any, Any, None] | None]
    consume: Callable[[Job, Meter, Any], Coroutine[Any, Any, None] | None]
    loop: str = "uvloop"
    """The event loop on which it is faster, where it has one: `uvloop` or `asyncio`."""


def run_async(system: System) -> None:
    """The program of a system whose `publish` and `consume` are coroutine functions."""
    options = _parser().parse_args()
    loop = options.loop or system.loop
    if options.command == "describe":
        _describe(system, " On uvloop." if loop == "uvloop" else " On asyncio's own loop.")
        return
    job = _job(options)

    async def main() -> None:
        if options.command == "publish":
            await _awaited(system.publish(job))
            return
        done = asyncio.Event()
        meter = Meter(job, done.set)
        async with asyncio.timeout(GIVE_UP):
            await _awaited(system.consume(job, meter, done))
        meter.tell()

    factory = None
    if loop == "uvloop":
        import uvloop  # noqa: PLC0415 - only where it is asked for

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())


def run_blocking(system: System) -> None:
    """The program of a system whose `publish` and `consume` are plain functions."""
    options = _parser().parse_args()
    if options.command == "describe":
        _describe(system, "")
        return
    job = _job(options)
    if options.command == "publish":
        system.publish(job)
        return
    done = threading.Event()
    meter = Meter(job, done.set)
    system.consume(job, meter, done)
    meter.tell()


def wait(done: threading.Event) -> None:
    """Wait until all messages are handled.

    :raises TimeoutError: they were not within `GIVE_UP` seconds
    """
    if not done.wait(GIVE_UP):
        raise TimeoutError(f"not all messages were handled within {GIVE_UP:g} s")


async def _awaited(work: Coroutine[Any, Any, None] | None) -> None:
    assert work is not None
    await work


def _describe(system: System, loop: str) -> None:
    names = (*system.packages, "pydantic", *(["uvloop"] if "uvloop" in loop else []))
    say(
        settings=system.settings + loop,
        versions={name: importlib.metadata.version(name) for name in names}
        | {"Python": platform.python_version()},
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=["describe", "publish", "consume"])
    parser.add_argument("--url", default="")
    parser.add_argument("--queue", default="")
    parser.add_argument("--messages", type=int, default=0)
    parser.add_argument("--rate", type=float, default=0.0)
    parser.add_argument("--latency", action="store_true")
    parser.add_argument("--skip", type=int, default=0)
    parser.add_argument("--began", type=float, default=time.time())
    parser.add_argument("--loop", choices=["asyncio", "uvloop"])
    return parser


def _job(options: argparse.Namespace) -> Job:
    return Job(
        options.url,
        options.queue,
        options.messages,
        options.rate,
        options.latency,
        options.skip,
        options.began,
    )
