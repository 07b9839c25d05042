"""How long it takes until a connection that leads nowhere is given up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

from mqkit import Runtime
from mqkit.broker.connection import Connection
from mqkit.settings import DEFAULT_HEARTBEAT
from tests.faults.matrix.bench import Bench

SHORT_HEARTBEAT = 2
"""Seconds; what the short form says in its URL, and scales its waits to."""

NOTICED = 15.0
"""Seconds within which silence must be noticed, at mqkit's own heartbeat."""

SILENCE = 3.5
"""Heartbeats after which either side has given up what it takes for silent."""


def heartbeat(bench: Bench) -> int:
    """The heartbeat of this form."""
    return SHORT_HEARTBEAT if bench.short else DEFAULT_HEARTBEAT


def noticed_within(bench: Bench) -> float:
    """Seconds in this form within which silence must be noticed."""
    return NOTICED * heartbeat(bench) / DEFAULT_HEARTBEAT


def connections(runtimes: Iterable[Runtime]) -> list[Connection]:
    """Both connections of each service."""
    return [link for each in runtimes for link in (each._consuming, each._publishing)]


async def all_noticed(bench: Bench, links: Iterable[Connection], since: float, what: str) -> None:
    """Wait until each connection was given up; a problem where it took too long."""
    within = noticed_within(bench)
    took: list[float] = []
    waiting = []
    for link in links:
        assert link._current is not None
        closed = link._current.closed
        closed.add_done_callback(lambda _: took.append(time.monotonic() - since))
        waiting.append(closed)
    # Longer than allowed, to tell how long it takes.
    _, never = await asyncio.wait(waiting, timeout=2 * within)
    late = [seconds for seconds in took if seconds > within]
    if never or late:
        longest = f", the last after {max(late):.1f} s" if late else ""
        bench.problem(
            f"{what}: {len(late)} of {len(waiting)} connections were given up later than "
            f"{within:g} s{longest}, and {len(never)} not within {2 * within:g} s"
        )
    if took:
        bench.figures.notes.append(f"{what}: noticed after {max(took):.1f} s at the latest")
