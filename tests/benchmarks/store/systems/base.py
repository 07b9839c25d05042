"""What every measured program shares: its commands, its rows, its clock and its figures.

    python -m tests.benchmarks.store.systems.NAME describe --kind KIND
    python -m tests.benchmarks.store.systems.NAME publish --kind KIND --url URL --queue Q ...
    python -m tests.benchmarks.store.systems.NAME consume ... --database URL [--relay] [--latency]
    python -m tests.benchmarks.store.systems.NAME drain ...

`describe` tells the system's settings and versions, or why it cannot be measured. `publish` fills
the queue. `consume` handles what is in it; with `--latency` it is published meanwhile, and how long
each took from its publish until its commit and its ack is told. `drain` publishes what the outbox
holds. Each prints JSON objects, a line each, of which the last one is the result.

What is timed, for all in the same way: from the first call of a handler until the last message is
known to be done. Connections to the database are made in that time, as they are needed.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib.metadata
import os
import platform
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.side_by_side.systems.base import (
    GIVE_UP,
    POOL,
    Job,
    Order,
    now,
    orders,
    peak_memory,
    percentile,
    say,
)

TABLE = "posting"
"""The handlers' own table: order_id (its primary key), account, cents."""

EVENT = "order.posted"
"""The routing key of what a handler publishes."""

TICKS = os.sysconf("SC_CLK_TCK")
"""Of /proc's clock, in a second."""


@dataclass(frozen=True)
class StoreJob(Job):
    """What one run is asked to do."""

    kind: str = ""
    """Which of the program's ways to do the work."""
    database: str = ""
    events: str = ""
    """The exchange that handlers publish to."""
    relay: bool = False
    """Publish what is in the outbox in this process, too, and wait until it is empty."""
    server: int = 0
    """The process id of the database's server; 0 where there is none to be looked at."""

    def orders(self) -> Iterator[Order]:
        """What to publish: each has an id and, for the first thousand, an account of its own."""
        pool = orders(min(POOL, self.messages))
        for number in range(self.messages):
            named = {"id": f"order-{number:012d}"}
            yield pool[number % len(pool)].model_copy(update=named)


def row_of(order: Order) -> dict[str, Any]:
    """The handler's own row."""
    return {"order_id": order.id, "account": order.account, "cents": int(order.amount * 100)}


def values_of(order: Order) -> tuple[str, str, int]:
    """The handler's own row, as a driver takes it."""
    return order.id, order.account, int(order.amount * 100)


class WorkFailedError(Exception):
    """A message ended otherwise than it must."""


class Meter:
    """Takes the time from the first call of a handler until the last message is done.

    Any thread may tell it.
    """

    def __init__(self, job: StoreJob, finished: Callable[[], object]) -> None:
        """Have counted nothing.

        :param finished: is called once, by whoever tells of the last message
        """
        self._job = job
        self._finished = finished
        self._lock = threading.Lock()
        self._first: tuple[float, float, float] | None = None
        self._last = (0.0, 0.0, 0.0)
        self._done = 0
        self._latencies: list[int] = []
        self._failure = ""

    def began(self) -> None:
        """Be told that a handler is called."""
        if self._first is None:
            with self._lock:
                if self._first is None:
                    # Looking at the server's processes takes a moment: before the clock is read.
                    server = server_seconds(self._job.server)
                    self._first = (time.perf_counter(), time.process_time(), server)

    def done(self, count: int = 1) -> None:
        """Be told that so many messages are done."""
        with self._lock:
            self._done += count
            ended = self._done == self._job.messages
        if ended:
            self.stop()
            self._finished()

    def took(self, sent: int) -> None:
        """Be told when a message that is done was published, by `now`."""
        self._latencies.append(now() - sent)

    def failed(self, why: str) -> None:
        """Be told that a message can no longer be done as it must."""
        self._failure = self._failure or why
        self._finished()

    def stop(self) -> None:
        """Take the time; the last one that was taken counts."""
        mine = (time.perf_counter(), time.process_time())
        self._last = (*mine, server_seconds(self._job.server))

    def tell(self) -> None:
        """Print the result.

        :raises WorkFailedError: a message failed, or none was handled
        """
        if self._failure or self._first is None:
            raise WorkFailedError(self._failure or "no handler was called")
        figures = self.figures(self._job.messages)
        if self._job.latency:
            measured = sorted(self._latencies[self._job.skip :])
            figures["p50_ms"] = percentile(measured, 50) / 1e6
            figures["p99_ms"] = percentile(measured, 99) / 1e6
        say(**figures)

    def figures(self, messages: int) -> dict[str, float]:
        """What so many messages took."""
        assert self._first is not None, "it has begun"
        wall, own, server = (b - a for a, b in zip(self._first, self._last, strict=True))
        found = {
            "per_s": messages / wall,
            "cpu_us": own / messages * 1e6,
            "rss_mib": peak_memory(),
        }
        if self._job.server:
            found["server_us"] = server / messages * 1e6
        return found


def server_seconds(root: int) -> float:
    """Seconds of processor time of a server's process, and of all that it has started.

    A child that has ended counts in what its parent waited for. 0 where there is no /proc.
    """
    if not root:
        return 0.0
    seconds = 0.0
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        with contextlib.suppress(OSError):  # it has just ended
            # The name, in parentheses, may hold anything.
            fields = (process / "stat").read_text().rpartition(")")[2].split()
            if int(process.name) == root:
                seconds += _on_processor(process, fields) + sum(map(int, fields[13:15])) / TICKS
            elif int(fields[1]) == root:
                seconds += _on_processor(process, fields)
    return seconds


def _on_processor(process: Path, fields: Sequence[str]) -> float:
    """Seconds of one process, to the nanosecond where the kernel tells it.

    Its ticks are too coarse for twenty connections, each of which has worked for a moment.
    """
    try:
        return int((process / "schedstat").read_text().split()[0]) / 1e9
    except (FileNotFoundError, IndexError):
        return sum(map(int, fields[11:13])) / TICKS


@dataclass(frozen=True)
class Program:
    """What a program can do, as it hands it to `run`.

    Each is called with the job; `consume` and `drain` print their results.
    """

    settings: Callable[[str], str]
    """What a reader must know of how a kind is set up."""
    packages: tuple[str, ...]
    publish: Callable[[StoreJob], object]
    consume: Callable[[StoreJob], object]
    drain: Callable[[StoreJob], object] | None = None
    missing: Callable[[str], str] = lambda _: ""
    """Why a kind cannot be measured; nothing where it can."""
    more: Callable[[], dict[str, str]] = dict
    """What `describe` tells besides."""


def run(program: Program) -> None:
    """Do what the command line asks for."""
    options = vars(_parser().parse_args())
    command, kind = options.pop("command"), options["kind"]
    if command == "describe":
        _describe(program, kind)
        return
    job = StoreJob(**options)
    work = {"publish": program.publish, "consume": program.consume, "drain": program.drain}[command]
    assert work is not None, "it has no outbox"
    work(job)


def give_up() -> TimeoutError:
    """Make the error of a run that does not end."""
    return TimeoutError(f"not all messages were done within {GIVE_UP:g} s")


def _describe(program: Program, kind: str) -> None:
    say(
        settings=program.settings(kind),
        missing=program.missing(kind),
        versions={name: importlib.metadata.version(name) for name in program.packages}
        | {"Python": platform.python_version()},
        **program.more(),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("command", choices=["describe", "publish", "consume", "drain"])
    kinds: dict[str, Callable[[str], object]] = {"int": int, "float": float, "str": str}
    for field in dataclasses.fields(StoreJob):
        name = f"--{field.name}"
        if field.type == "bool":
            parser.add_argument(name, action="store_true")
        else:
            default = None if field.default is dataclasses.MISSING else field.default
            kind = kinds[str(field.type)]
            parser.add_argument(name, type=kind, default=kind("0") if default is None else default)
    return parser
