"""What is measured of a system in one round, and of all systems in turn."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from mqkit.errors import MqkitError
from tests.benchmarks.side_by_side.figures import Row
from tests.benchmarks.side_by_side.process import Program, run
from tests.benchmarks.side_by_side.room import Room
from tests.benchmarks.store.databases import Database, Databases, check_rows
from tests.benchmarks.store.registry import Entry

WARM_UP = 1000
"""Messages of the unmeasured round, which checks the work and finds how many to measure with."""

FEWEST, MOST = 1000, 40_000
"""Bounds of the messages of one run."""

STEP = 100
"""Messages of a run are a multiple of it, so that no batch is left over."""

RATE = 100.0
"""Messages in a second of which the latency is measured."""

LATENCY_SECONDS, SKIPPED_SECONDS = 10.0, 2.0
"""Of publishing at that rate; and those at the start whose latencies are not counted."""

QUIET = 1.0
"""Seconds between two runs, for broker and database to end what they do with the last one's."""

Say = Callable[[str], None]


class WrongPackageError(MqkitError):
    """A program of an earlier commit has imported another package."""


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    rounds: int
    seconds: float
    """Of handling, in each run."""
    messages: int
    """Or so many messages for all systems; 0 is by time."""
    latency_seconds: float = LATENCY_SECONDS
    quiet: float = QUIET


@dataclass(frozen=True)
class Bench:
    """Where it is measured."""

    room: Room
    databases: Databases


@dataclass(frozen=True)
class Run:
    """A queue, and a database, of one run."""

    entry: Entry
    room: Room
    queue: str
    events: str
    database: Database
    messages: int

    def words(self) -> tuple[object, ...]:
        """What its program is told."""
        return (
            *("--kind", self.entry.kind, "--url", self.room.url, "--queue", self.queue),
            *("--messages", self.messages, "--events", self.events),
            *("--database", self.database.url, "--server", self.database.server),
        )

    def publish(self, *more: object) -> None:
        """Fill the queue; today's package publishes for both."""
        run(replace(self.entry, tree=None), "publish", *self.words(), *more)

    def check(self) -> None:
        """See that all was done, once.

        :raises WorkError: it was not
        """
        if self.entry.writes_rows:
            check_rows(self.database, "posting", self.messages)
        if self.entry.takes_messages:
            self.room.check_empty(self.queue)


def describe(entry: Entry) -> tuple[Row, str]:
    """A row without figures, and why the system cannot be measured, if it cannot.

    :raises WrongPackageError: it is one of an earlier commit, and did not find that package
    """
    told = run(entry, "describe", "--kind", entry.kind)
    if entry.tree is not None and told["package"] != str(entry.tree.resolve()):
        raise WrongPackageError(f"{entry.title}: it has imported mqkit from {told['package']}")
    return Row(entry.name, entry.title, told["settings"], told["versions"]), told["missing"]


@contextlib.contextmanager
def prepared(entry: Entry, bench: Bench, messages: int) -> Iterator[Run]:
    """A queue and a database of one run; both go."""
    by_hand = not entry.takes_messages
    with (
        bench.room.queue(entry.name) as queue,
        bench.databases.database(entry.database, by_hand=by_hand) as database,
    ):
        events = bench.room.events(queue) if entry.takes_messages else ""
        yield Run(entry, bench.room, queue, events, database, messages)


def warm_up(row: Row, entry: Entry, bench: Bench, plan: Plan) -> None:
    """An unmeasured round, in which the work is checked and its amount found."""
    row.messages = plan.messages
    first = plan.messages or WARM_UP
    with prepared(entry, bench, first) as one:
        if entry.takes_messages:
            one.publish()
            row.body_bytes = bench.room.check(one.queue, first)
        handled = run(entry, "consume", *one.words())
        one.check()
    if not plan.messages:
        wanted = round(handled["per_s"] * plan.seconds / STEP) * STEP
        row.messages = min(max(wanted, FEWEST), MOST)


def measure(row: Row, entry: Entry, bench: Bench, plan: Plan) -> None:
    """One round of one system."""
    with prepared(entry, bench, row.messages) as one:
        if entry.takes_messages:
            one.publish()
        one.database.settle()
        time.sleep(plan.quiet)
        row.add(run(entry, "consume", *one.words()))
        one.check()
        if entry.has_outbox:
            drained = run(entry, "drain", *one.words())
            one.room.check_events(one.queue, row.messages)
            if "per_s" in drained:
                row.add({"drained_per_s": drained["per_s"], "drained_cpu_us": drained["cpu_us"]})
    time.sleep(plan.quiet)
    if entry.has_outbox:
        measure_with_relay(row, entry, bench, plan)


def measure_with_relay(row: Row, entry: Entry, bench: Bench, plan: Plan) -> None:
    """Handle as many again, until the relay beside the handlers has published everything."""
    with prepared(entry, bench, row.messages) as one:
        one.publish()
        one.database.settle()
        time.sleep(plan.quiet)
        told = run(entry, "consume", *one.words(), "--relay")
        one.check()
        one.room.check_events(one.queue, row.messages)
    row.add(
        {f"relayed_{name}": told[name] for name in ("per_s", "cpu_us", "server_us") if name in told}
    )
    time.sleep(plan.quiet)


def measure_latency(row: Row, entry: Entry, bench: Bench, plan: Plan) -> None:
    """Publish at a rate, by one process, while another handles and relays."""
    skip = round(RATE * min(SKIPPED_SECONDS, plan.latency_seconds / 2))
    messages = round(RATE * plan.latency_seconds)
    with prepared(entry, bench, messages) as one:
        latency = ("--relay", "--latency", "--skip", skip)
        with Program(entry, "consume", *one.words(), *latency) as consumer:
            consumer.wait_until_ready()
            one.publish("--rate", RATE)
            handled = consumer.result()
        one.check()
    row.add(handled, "p50_ms", "p99_ms")
    time.sleep(plan.quiet)


def measure_all(
    entries: Sequence[Entry], rows: dict[str, Row], bench: Bench, plan: Plan, say: Say
) -> None:
    """All rounds, the systems in turn; every second round in the opposite order."""
    for entry in entries:
        say(f"unmeasured: {entry.title}")
        warm_up(rows[entry.name], entry, bench, plan)
    for number in range(1, plan.rounds + 1):
        for entry in entries if number % 2 else reversed(entries):
            row = rows[entry.name]
            measure(row, entry, bench, plan)
            if entry.has_latency:
                measure_latency(row, entry, bench, plan)
            say(f"round {number} of {plan.rounds}: {entry.title}: {last_told(row)}")


def last_told(row: Row) -> str:
    """The last round's figures in words."""
    last = {name: values[-1] for name, values in row.samples.items()}
    words = {
        "per_s": "{:,.0f}/s",
        "relayed_per_s": "{:,.0f}/s with the relay",
        "drained_per_s": "{:,.0f}/s relayed alone",
        "cpu_us": "{:.0f} µs",
        "server_us": "{:.0f} µs of the server",
        "p50_ms": "p50 {:.1f} ms",
        "p99_ms": "p99 {:.1f} ms",
    }
    return ", ".join(text.format(last[name]) for name, text in words.items() if name in last)
