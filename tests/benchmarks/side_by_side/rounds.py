"""What is measured of a system in one round, and of all systems in turn."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.benchmarks.side_by_side.figures import Row
from tests.benchmarks.side_by_side.process import Program, run
from tests.benchmarks.side_by_side.registry import Entry
from tests.benchmarks.side_by_side.room import Room

WARM_UP = 2000
"""Messages of the unmeasured round, which fills caches and finds how many to measure with."""

FEWEST, MOST = 2000, 200_000
"""Bounds of the messages of one run."""

LATENCY_SECONDS = 6.0
"""Of publishing at half of the peak rate."""

SKIPPED_SECONDS = 1.0
"""Of those, at the start; their latencies are not counted."""

QUIET = 1.0
"""Seconds between two runs, for the broker to end what it does with the last one's queue."""

PEER = "faststream"
AT_PEERS_RATE = ("mqkit", "mqkit-aio-pika", PEER)
"""Compared with each other at half of that peer's peak rate besides."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    rounds: int
    seconds: float
    """Of handling or publishing, whichever is faster, in each run."""
    messages: int
    """Or so many messages for all systems; 0 is by time."""


def describe(entry: Entry) -> Row:
    """A row without figures, with the settings and versions that its program tells."""
    told = run(entry, "describe")
    return Row(entry.name, entry.title, told["settings"], told["versions"])


def warm_up(row: Row, entry: Entry, room: Room, plan: Plan) -> None:
    """An unmeasured round, in which the work is checked and its amount found."""
    with room.queue(entry.name) as queue:
        words = ("--url", room.url, "--queue", queue, "--messages", plan.messages or WARM_UP)
        published = run(entry, "publish", *words)
        row.body_bytes = room.check(queue, plan.messages or WARM_UP)
        handled = run(entry, "consume", *words)
        room.check_empty(queue)
    fastest = max(published["publish_per_s"], handled["handled_per_s"])
    row.messages = plan.messages or round(min(max(fastest * plan.seconds, FEWEST), MOST))


def measure(row: Row, entry: Entry, room: Room) -> None:
    """One round of one system."""
    with room.queue(entry.name) as queue:
        words = ("--url", room.url, "--queue", queue, "--messages", row.messages)
        published = run(entry, "publish", *words)
        time.sleep(QUIET)
        handled = run(entry, "consume", *words)
        room.check_empty(queue)
    row.add(published, "publish_per_s")
    row.add(handled, "handled_per_s", "rss_mib", "cpu_us_per_message", "start_s")
    time.sleep(QUIET)
    measure_latency(row, entry, room, row.last_peak / 2)


def measure_latency(row: Row, entry: Entry, room: Room, rate: float, suffix: str = "") -> None:
    """Publish at a rate, by one process, while another handles."""
    messages = round(rate * LATENCY_SECONDS)
    skip = round(rate * SKIPPED_SECONDS)
    with room.queue(entry.name) as queue:
        words = ("--url", room.url, "--queue", queue, "--messages", messages)
        with Program(entry, "consume", *words, "--latency", "--skip", skip) as consumer:
            consumer.wait_until_ready()
            published = run(entry, "publish", *words, "--rate", rate)
            handled = consumer.result()
    row.add({f"{name}{suffix}": handled[name] for name in ("p50_ms", "p99_ms")})
    if "behind" in published:
        row.note(
            f"asked for {rate:,.0f}/s{suffix.replace('_', ' ')}, it fell behind: "
            f"{published['publish_per_s']:,.0f}/s"
        )
    time.sleep(QUIET)


def measure_all(
    entries: Sequence[Entry], rows: dict[str, Row], room: Room, plan: Plan, say: Say
) -> None:
    """All rounds, the systems in turn."""
    for entry in entries:
        say(f"unmeasured: {entry.title}")
        warm_up(rows[entry.name], entry, room, plan)
    for number in range(1, plan.rounds + 1):
        for entry in entries:
            row = rows[entry.name]
            measure(row, entry, room)
            say(f"round {number} of {plan.rounds}: {entry.title}: {row.last_told()}")
        if PEER not in rows:
            continue
        for entry in entries:
            if entry.name in AT_PEERS_RATE:
                row = rows[entry.name]
                measure_latency(row, entry, room, rows[PEER].last_peak / 2, "_at_peer_rate")
                last = row.samples["p99_ms_at_peer_rate"][-1]
                say(f"round {number}: {entry.title} at half of FastStream's peak: {last:.1f} ms")
