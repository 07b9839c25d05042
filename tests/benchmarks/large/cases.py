"""What is measured of many and of large: each case makes rows of a table."""

from __future__ import annotations

import contextlib
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from tests.benchmarks.large.worker import LATE_UNIT
from tests.benchmarks.side_by_side.process import TIMEOUT, Command, Program, run
from tests.benchmarks.side_by_side.room import Room

MIB = 2**20

WORKER = Command("worker", (sys.executable, "-m", "tests.benchmarks.large.worker"))

MANY_HANDLERS = 500
BACKLOG = 1_000_000
BODIES = 500
SLOW = 1_000
DELAYS = 1_000_000

SPIN = 0.001
"""Seconds of processor time of the handler that two processes share."""

SPINNING = 10.0
"""Seconds for which one process, and two, handle."""

SETTLE = 2.0
"""Seconds at the start of those that are not counted: the processes do not start at once."""

NAP = 0.010
NAPPING = (500, 200, 50)
"""How long a handler sleeps, and how many of them at a time."""

SCHEDULED = 3_000
"""Delays in a second that are reckoned with, for all to be scheduled before the first is due."""

FALLING_DUE = 800
"""Delays in a second that fall due. Each moves several times before: once for each level of the
ladder that its wait takes. The broker of a two-core machine brings up to twice as many back."""

Mark = tuple[int, float, float]
"""Messages so far, the clock's seconds, MiB."""


@dataclass(frozen=True)
class Result:
    """A row: what was measured of what."""

    case: str
    what: str
    figures: dict[str, float]
    text: str
    """The figures in words."""

    def plain(self) -> dict[str, object]:
        """For JSON."""
        return {"case": self.case, "what": self.what, **self.figures}


@dataclass(frozen=True)
class Course:
    """How a run went, from the marks that its worker noted at each tenth of its messages."""

    marks: list[Mark]

    @property
    def rate(self) -> float:
        """Messages in a second, over the whole."""
        return _rate(self.marks[0], self.marks[-1])

    @property
    def first(self) -> float:
        """Messages in a second of the first tenth."""
        return _rate(self.marks[0], self.marks[1])

    @property
    def last(self) -> float:
        """Messages in a second of the last tenth."""
        return _rate(self.marks[-2], self.marks[-1])

    def steady(self, at_once: int) -> float:
        """Messages in a second, where so many end together: those that end first are the start."""
        return (self.marks[-1][0] - at_once) / (self.marks[-1][1] - self.marks[0][1])

    @property
    def memory(self) -> float:
        """MiB at the end."""
        return self.marks[-1][2]

    @property
    def growth(self) -> float:
        """MiB that came on top between the end of the first tenth and the end."""
        return self.marks[-1][2] - self.marks[1][2]

    def figures(self) -> dict[str, float]:
        """For JSON."""
        return {
            "per_s": self.rate,
            "first_tenth_per_s": self.first,
            "last_tenth_per_s": self.last,
            "rss_mib": self.memory,
            "rss_growth_mib": self.growth,
        }

    def __str__(self) -> str:
        return (
            f"{self.rate:,.0f}/s; first tenth {self.first:,.0f}/s, last tenth {self.last:,.0f}/s "
            f"({self.last / self.first:.0%}); {self.memory:.0f} MiB, of which {self.growth:+.1f} "
            "since the first tenth"
        )


def _rate(one: Mark, other: Mark) -> float:
    return (other[0] - one[0]) / max(other[1] - one[1], 1e-9)


@dataclass(frozen=True)
class Bench:
    """Where the cases run, and how many messages they were asked for."""

    room: Room
    messages: int = 0

    def count(self, default: int) -> int:
        """As many as asked for, or so many."""
        return self.messages or default

    def publish(self, queue: str, messages: int, *words: object) -> Course:
        """Publish in a process of its own."""
        return Course(self._run("publish", queue, "--messages", messages, *words)["marks"])

    def handle(
        self, queue: str, messages: int, *words: object, timeout: float = TIMEOUT
    ) -> dict[str, Any]:
        """Handle in a process of its own, within so many seconds."""
        return self._run("handle", queue, "--messages", messages, *words, timeout=timeout)

    def _run(
        self, command: str, queue: str, *words: object, timeout: float = TIMEOUT
    ) -> dict[str, Any]:
        begin = (command, "--url", self.room.url, "--queue", queue)
        return run(WORKER, *begin, *words, timeout=timeout)

    @contextlib.contextmanager
    def handling(self, queue: str, *words: object) -> Iterator[Program]:
        """A process that handles until its input is closed."""
        begin = ("handle", "--url", self.room.url, "--queue", queue)
        with Program(WORKER, *begin, *words) as program:
            program.wait_until_ready()
            yield program


def handlers(bench: Bench) -> Iterator[Result]:
    """One service with many handlers, each with a queue of its own, beside one with one."""
    messages = bench.count(20_000)
    for many in (1, MANY_HANDLERS):
        words = ("--queues", many, "--prefetch", 20, "--concurrency", 20)
        with bench.room.queue("large", many) as queue:
            with bench.handling(queue, *words) as program:
                fresh = program.close()
            bench.publish(queue, messages, "--queues", many)
            told = bench.handle(queue, messages, *words)
        course = Course(told["marks"])
        figures = course.figures() | {"fresh_s": fresh["start_s"], "start_s": told["start_s"]}
        text = (
            f"runs after {told['start_s']:.1f} s ({fresh['start_s']:.1f} s where nothing was "
            f"declared); {messages:,} messages: {course}"
        )
        yield Result("handlers", f"{many} in one service", figures, text)


def backlog(bench: Bench) -> Iterator[Result]:
    """A queue with very many messages, published from a generator and handled to the end."""
    messages = bench.count(BACKLOG)
    with bench.room.queue("large") as queue:
        published = bench.publish(queue, messages)
        yield Result("backlog", f"{messages:,} published", published.figures(), str(published))
        told = bench.handle(queue, messages)
    course = Course(told["marks"])
    text = f"{course}; the loop was never held up for more than {told['lag_s'] * 1000:.0f} ms"
    figures = course.figures() | {"lag_s": told["lag_s"]}
    yield Result("backlog", f"{messages:,} handled", figures, text)


def bodies(bench: Bench) -> Iterator[Result]:
    """Bodies of 1 MiB."""
    messages = bench.count(BODIES)
    with bench.room.queue("large") as queue:
        published = bench.publish(queue, messages, "--size", MIB, "--window", 20)
        what = f"{messages:,} of 1 MiB"
        yield Result("bodies", f"{what} published", published.figures(), str(published))
        told = bench.handle(queue, messages, "--prefetch", 20, "--concurrency", 20)
    course = Course(told["marks"])
    figures = course.figures() | {"peak_mib": told["peak_mib"], "lag_s": told["lag_s"]}
    text = f"{course}; {told['peak_mib']:.0f} MiB at most, with 20 of them prefetched"
    yield Result("bodies", f"{what} handled", figures, text)


def slow(bench: Bench) -> Iterator[Result]:
    """Very many handlers that wait for something, at the same time."""
    messages = bench.count(SLOW * 10)
    words = ("--do", "sleep", "--seconds", 1, "--prefetch", SLOW, "--concurrency", SLOW)
    with bench.room.queue("large") as queue:
        bench.publish(queue, messages)
        told = bench.handle(queue, messages, *words)
    course = Course(told["marks"])
    rate = course.steady(SLOW)
    figures = {
        "per_s": rate,
        "ideal_per_s": SLOW,
        "most": told["most"],
        "rss_mib": course.memory,
        "rss_growth_mib": course.growth,
        "lag_s": told["lag_s"],
    }
    text = (
        f"{rate:,.0f}/s, {rate / SLOW:.0%} of the ideal {SLOW:,}/s, {told['most']:,} at a time at "
        f"most; {course.memory:.0f} MiB, of which {course.growth:+.1f} since the first tenth; the "
        f"loop was never held up for more than {told['lag_s'] * 1000:.0f} ms"
    )
    yield Result("slow", f"{SLOW:,} handlers of 1 s at a time", figures, text)


def sleeping(bench: Bench) -> Iterator[Result]:
    """A handler that sleeps for 10 ms, so many at a time, beside one that does not sleep."""
    messages = bench.count(60_000)
    most = max(NAPPING)
    words = ("--prefetch", most * 2, "--concurrency")
    with bench.room.queue("large") as queue:
        bench.publish(queue, messages)
        empty = Course(bench.handle(queue, messages, *words, most)["marks"]).rate
    yield Result("sleeping", "does nothing", {"per_s": empty}, f"{empty:,.0f}/s")
    for at_once in NAPPING:
        allowed = at_once / NAP
        ideal = min(allowed, empty)
        asked = min(messages, round(ideal * SPINNING))
        with bench.room.queue("large") as queue:
            bench.publish(queue, asked)
            nap = ("--do", "sleep", "--seconds", NAP)
            told = bench.handle(queue, asked, *words, at_once, *nap)
        rate = Course(told["marks"]).steady(at_once)
        figures = {
            "per_s": rate,
            "allowed_per_s": allowed,
            "ideal_per_s": ideal,
            "most": told["most"],
        }
        text = (
            f"{rate:,.0f}/s, {rate / ideal:.0%} of the ideal {ideal:,.0f}/s: the lesser of what "
            f"{at_once} sleepers allow, {allowed:,.0f}/s, and what is handled without sleep; "
            f"{told['most']} at a time at most"
        )
        yield Result("sleeping", f"{NAP * 1000:.0f} ms, {at_once} at a time", figures, text)


def processes(bench: Bench) -> Iterator[Result]:
    """One process, and two, with a handler that takes 1 ms of processor time."""
    rates = []
    for many in (1, 2):
        with bench.room.queue("large") as queue, contextlib.ExitStack() as stack:
            bench.publish(queue, round(many * (SPINNING + 2 * SETTLE) / SPIN))
            words = ("--do", "spin", "--seconds", SPIN, "--prefetch", 50, "--concurrency", 50)
            programs = [stack.enter_context(bench.handling(queue, *words)) for _ in range(many)]
            time.sleep(SPINNING + SETTLE)
            told = [program.close() for program in programs]
        rates.append(together([each["tenths"] for each in told]))
        speedup = rates[-1] / rates[0]
        yield Result(
            "processes",
            f"{many}, a handler of {SPIN * 1000:.0f} ms",
            {"per_s": rates[-1], "by_one": speedup},
            f"{rates[-1]:,.0f}/s, {speedup:.2f} times what one does",
        )


def together(tenths: list[dict[str, int]], settle: float = SETTLE) -> float:
    """Messages in a second of all processes, while all of them handled; of each, the tenths."""
    begin = max(min(map(int, each)) for each in tenths) + round(settle * 10)
    end = min(max(map(int, each)) for each in tenths)
    handled = sum((Counter(each) for each in tenths), Counter[str]())
    counted = sum(count for tenth, count in handled.items() if begin <= int(tenth) < end)
    return counted / (end - begin) * 10


def delays(bench: Bench) -> Iterator[Result]:
    """Messages that ask to come back later, all of them held by the broker at the same time."""
    messages = bench.count(DELAYS)
    hold, spread = max(messages / SCHEDULED, 5.0), max(messages / FALLING_DUE, 2.0)
    with bench.room.queue("large") as queue:
        bench.publish(queue, messages, "--numbered")
        words = ("--do", "later", "--hold", hold, "--spread", spread)
        told = bench.handle(queue, messages, *words, timeout=TIMEOUT + 3 * (hold + spread))
    scheduled, back = Course(told["scheduled"]), Course(told["marks"])
    what = f"{messages:,} delayed by {hold:.0f} to {hold + spread:.0f} s"
    yield Result("delays", what, scheduled.figures(), f"scheduled: {scheduled}")
    late = lateness({int(tick): count for tick, count in told["late"].items()})
    late["scheduled_late"] = told["moved"]
    text = (
        f"back: {back}; {late['late_p50_s']:.1f} s late in the median, "
        f"{late['late_p99_s']:.1f} s at the 99th percentile, "
        f"{late['late_p100_s']:.1f} s at most, {late['early']:.0f} early; "
        f"{told['moved']:,} were scheduled only after they were due"
    )
    yield Result("delays", what, back.figures() | late, text)


def lateness(ticks: dict[int, int]) -> dict[str, float]:
    """Percentiles in seconds of what was counted by ticks of `LATE_UNIT`, each to its end."""
    found = {f"late_p{percent}_s": _percentile(ticks, percent) for percent in (50, 99, 100)}
    found["early"] = sum(count for tick, count in ticks.items() if tick < 0)
    return found


def _percentile(counted: dict[int, int], percent: int) -> float:
    """Seconds that so many percent are not above."""
    asked = -(-sum(counted.values()) * percent // 100)
    for tick, count in sorted(counted.items()):
        asked -= count
        if asked <= 0:
            return (tick + 1) * LATE_UNIT
    raise AssertionError("nothing was counted")


CASES: dict[str, Callable[[Bench], Iterator[Result]]] = {
    "handlers": handlers,
    "backlog": backlog,
    "bodies": bodies,
    "slow": slow,
    "sleeping": sleeping,
    "processes": processes,
    "delays": delays,
}
"""Each by its name, in the order in which they run."""
