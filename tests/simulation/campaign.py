"""Plays many seeds on several processes, and adds up what came of them."""

from __future__ import annotations

import gc
import logging
import multiprocessing
import os
import pickle
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field

from tests.simulation.simulated import storage
from tests.simulation.workload.plan import draw
from tests.simulation.world import play

CHUNK = 40
"""Seeds that a process plays between two reports."""

ALONE = 8
"""As `CHUNK`, where there is one process: it looks at the time no sooner."""

COLLECTED = 20
"""Seeds that are played one by one between two collections of garbage."""


@dataclass
class Totals:
    """What came of many schedules."""

    schedules: int = 0
    seconds: float = 0.0
    """Of virtual time."""
    took: float = 0.0
    """Seconds of processor time."""
    messages: int = 0
    steps: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    met: Counter[tuple[str, str]] = field(default_factory=Counter)
    failed: dict[int, list[str]] = field(default_factory=dict)

    def add(self, other: Totals) -> None:
        """Add another's."""
        self.schedules += other.schedules
        self.seconds += other.seconds
        self.took += other.took
        self.messages += other.messages
        self.steps += other.steps
        self.faults += other.faults
        self.met += other.met
        self.failed |= other.failed


def play_seeds(first: int, count: int) -> Totals:
    """Play some seeds in this process."""
    began = time.process_time()
    was_enabled = gc.isenabled()
    gc.disable()
    totals = _played(first, count)
    if first % COLLECTED == 0 or count > 1:
        _collect()
    if was_enabled:
        gc.enable()
    totals.took = time.process_time() - began
    return totals


def _played(first: int, count: int) -> Totals:
    totals = Totals()
    for seed in range(first, first + count):
        result = play(draw(seed))
        totals.schedules += 1
        totals.seconds += result.seconds
        totals.messages += result.messages
        totals.steps += result.steps
        totals.faults += result.faults
        totals.met += result.met
        if result.problems:
            totals.failed[seed] = result.problems[:5]
    return totals


def play_apart(first: int, count: int) -> Totals:
    """Play some seeds in a fork of this process, whose end is sooner than to collect its garbage.

    :raises ChildProcessError: it ended without a result
    """
    reading, writing = os.pipe()
    if not (child := os.fork()):
        code = 1
        try:
            began = time.process_time()
            gc.disable()
            totals = _played(first, count)
            totals.took = time.process_time() - began
            storage.forget()
            with os.fdopen(writing, "wb") as pipe:
                pickle.dump(totals, pipe)
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        told = pipe.read()
    os.waitpid(child, 0)
    if not told:
        raise ChildProcessError(f"what plays the seeds from {first} on ended without a result")
    found: Totals = pickle.loads(told)  # noqa: S301 - this program's own words
    return found


def _collect() -> None:
    # Of killed processes there are connections that nobody closed, and coroutines that nobody ran.
    disabled, hook = logging.root.manager.disable, sys.unraisablehook
    logging.disable(logging.CRITICAL)
    sys.unraisablehook = lambda _: None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()
    logging.disable(disabled)
    sys.unraisablehook = hook


def ready() -> None:
    """Make this process ready to play many seeds."""
    # What is imported stays, and need not be looked at by every collection.
    storage.prepare()
    play(draw(0))
    _collect()
    gc.freeze()


def campaign(
    ranges: Iterable[tuple[int, int]], *, seconds: float | None, jobs: int
) -> Iterator[tuple[int, int, Totals]]:
    """Play ranges of seeds, for so many seconds at most; yield each part that was played.

    With one job they are played in this process.

    :param ranges: first seeds, and how many from each
    """
    left = _parts(ranges, seconds, ALONE if jobs == 1 else CHUNK)
    if jobs == 1:
        ready()
        for part in left:
            yield *part, play_seeds(*part)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=ready) as pool:
        running: dict[Future[Totals], tuple[int, int]] = {}
        while True:
            while len(running) < jobs + 1 and (given := next(left, None)) is not None:
                running[pool.submit(play_apart, *given)] = given
            if not running:
                return
            for each in wait(running, return_when=FIRST_COMPLETED).done:
                yield *running.pop(each), each.result()


def _parts(
    ranges: Iterable[tuple[int, int]], seconds: float | None, most: int
) -> Iterator[tuple[int, int]]:
    until = None if seconds is None else time.monotonic() + seconds
    for first, count in ranges:
        for at in range(first, first + count, most):
            if until is not None and time.monotonic() >= until:
                return
            yield at, min(most, first + count - at)
