"""Stands in for what a process takes from its machine: the time, randomness, threads."""

from __future__ import annotations

import contextlib
import functools
import gc
import logging
import os
import random
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

import sqlalchemy.util
from pika import callback

from mqkit import Retry
from mqkit.consuming import acks as consuming_acks
from mqkit.consuming.dispatcher import Dispatcher
from mqkit.consuming.settler import Settler
from mqkit.embedded.session.channel import Channel
from mqkit.message import Delivery
from mqkit.store.database import pool
from mqkit.store.database.sqlite.jobs import Job
from tests.simulation.simulated import acks
from tests.simulation.simulated.loop import EPOCH, PROCESS, START, Loop
from tests.simulation.simulated.storage import Disk

_TIMES = ("time", "monotonic", "perf_counter", "time_ns", "monotonic_ns", "perf_counter_ns")


_LEVELS = ("debug", "info", "warning", "error", "exception", "critical", "log")

_NOTHING = "".format
"""Takes whatever a logger is told, and does nothing: pika says much, and nobody hears it.

No function of Python, which would be called some hundred times in a schedule.
"""

_LONGEST = functools.lru_cache(64)(Retry.longest)
"""Each start of a service asks it, of policies that are always the same."""


class _Compiled(dict[Any, Any]):
    """Statements that SQLAlchemy has compiled: for all engines, as each has but one schedule."""

    def get(self, key: Any, default: Any = None) -> Any:
        """Return a statement; the dialect in its key is another one for each engine."""
        return super().get((type(key[0]), *key[1:]), default)

    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__((type(key[0]), *key[1:]), value)


_COMPILED = _Compiled()


_NAME_OF = callback.name_or_value
_NAME_OF_KNOWN = functools.lru_cache(256)(_NAME_OF)


def name_of(value: Any) -> Any:
    """Do what pika does for every frame several times, sooner for what is no frame."""
    kind = type(value)
    if kind is str:
        return value
    return _NAME_OF_KNOWN(value) if kind in (int, type) else _NAME_OF(value)


_VERSION = functools.cache(metadata.version)
"""Reads a package's file once; every broker and connection asks for versions."""


class Clocks:
    """The wall clocks of the hosts, which may be wrong by some time each; `skew` is by host."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self.skew: dict[str, float] = {}
        self.drift: dict[str, float] = {}
        """Seconds that a host's clock gains in a second."""
        self.ahead: set[str] = set()
        """Hosts whose clocks jumped ahead."""

    def wall(self) -> float:
        """Return the seconds since 1970 where the running code is."""
        now = EPOCH + self._loop._now
        if (self.skew or self.drift) and (process := PROCESS.get()) is not None:
            now += self.skew.get(process.host, 0.0)
            now += self.drift.get(process.host, 0.0) * (self._loop._now - START)
        return now

    def utc(self) -> datetime:
        """Return that as a `mqkit.clock.Clock` does."""
        return datetime.fromtimestamp(self.wall(), UTC)


@contextlib.contextmanager
def virtual(loop: Loop, clocks: Clocks, disk: Disk | None) -> Iterator[None]:
    """Let the modules of the standard library tell the loop's time, and draw from its seed.

    What has its own place for such a source is given it; this is for libraries, which have none.
    """
    bytes_of = random.Random(loop.rng.getrandbits(64)).randbytes

    def now() -> float:
        return loop._now

    made: dict[str, Any] = {
        "time": clocks.wall,
        "monotonic": now,
        "perf_counter": now,
        "time_ns": lambda: int(clocks.wall() * 1e9),
        "monotonic_ns": lambda: int(now() * 1e9),
        "perf_counter_ns": lambda: int(now() * 1e9),
    }
    put: list[tuple[Any, str, Any]] = [
        *((time, name, made[name]) for name in _TIMES),
        (os, "urandom", bytes_of),
        (random, "_urandom", bytes_of),
        (metadata, "version", _VERSION),
        *((logging.Logger, name, _NOTHING) for name in _LEVELS),
        (callback, "name_or_value", name_of),
        (Retry, "longest", _LONGEST),
        (Dispatcher, "dispatch", _failing(Dispatcher.dispatch, b'"internal"')),
        (Settler, "settle", _failing(Settler.settle, b'"unsettled"')),
        (Channel, "settle", acks.settle),
        (Channel, "release", acks.release),
        (consuming_acks, "UNDER_WAY", acks.UNDER_WAY),
    ]
    if disk is not None:
        # The file has them all, and to look for each takes its time.
        put.append((pool, "missing", lambda _: ((), ())))
        put.append((Job, "run", _run_on(disk, Job.run)))
        put.append((sqlalchemy.util, "LRUCache", lambda *_, **__: _COMPILED))
    before = [(place, name, getattr(place, name)) for place, name, _ in put]
    state = random.getstate()
    was_enabled = gc.isenabled()
    disabled = logging.root.manager.disable
    # What is collected in the middle of a schedule runs code, at a moment of no seed's choosing.
    gc.disable()
    logging.disable(logging.CRITICAL)
    random.seed(loop.rng.getrandbits(64))
    for place, name, value in put:
        setattr(place, name, value)
    try:
        yield
    finally:
        for place, name, value in before:
            setattr(place, name, value)
        random.setstate(state)
        logging.disable(disabled)
        if was_enabled:
            gc.enable()


def _failing(work: Any, mark: bytes) -> Any:
    """Make a part of mqkit fail for the messages of a script, as a fault in it would."""

    async def failing(self: Any, delivery: Delivery, *rest: Any) -> Any:
        if mark in delivery.body:
            raise RuntimeError("on purpose")
        return await work(self, delivery, *rest)

    return failing


def _run_on(disk: Disk, run: Callable[[Job], None]) -> Callable[[Job], None]:
    def run_job(job: Job) -> None:
        disk.run(job, run)

    return run_job
