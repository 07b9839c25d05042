"""The processes of a plan that is played in real time; each tells what happens in it by a pipe."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sqlite3
import time
import warnings
from collections.abc import Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from mqkit import BrokerUrl, Delivery, Publisher, Runtime
from mqkit.errors import ChannelClosedError
from mqkit.store import Store
from mqkit.store.database.sqlite.jobs import Job
from mqkit.system.machine import Machine
from tests.simulation.history import History, Run
from tests.simulation.hosts import GRACE, KEEP, PUBLISH_TIMEOUT, SWEEP, PublisherHost
from tests.simulation.simulated import storage
from tests.simulation.workload.plan import Plan, Send
from tests.simulation.workload.services import service

NO_SUCH_TAG = 1 << 40
"""A delivery tag that was never given: a broker closes the channel on which it is acked."""


@dataclass(frozen=True)
class Task:
    """What a process is to do."""

    plan: Plan
    url: str
    name: str
    began: float
    """By the monotonic clock, which is the same one in all processes."""
    driver: str
    number: int = 0
    """Of the service."""
    database: Path | None = None
    known: dict[str, str] = field(default_factory=dict)
    """What is known of messages that a process before this one published."""
    is_down: bool = False
    skew: float = 0.0


class Disk(storage.Disk):
    """The database's file, as one process has it."""

    waits = True

    def __init__(self, path: Path) -> None:
        self.path = path
        self.url = f"sqlite:///{path}"
        self.is_full = False
        self.at_commits = []
        self._locker = None

    def rows(self, query: str) -> list[Any]:
        """Read what is committed."""
        with contextlib.closing(sqlite3.connect(self.path)) as database:
            return database.execute(query).fetchall()


class Telling(History):
    """Tells each thing that happens to who started the process."""

    def __init__(self, process: str, pipe: Pipe) -> None:
        clock = SimpleNamespace(time=time.monotonic, note=lambda _: None)
        super().__init__(cast("Any", clock))
        self._process = process
        self._pipe = pipe
        self.replies = _Replies(self)

    def tell(self, *what: Any) -> None:
        """Tell; what is told is told, whatever becomes of this process."""
        with contextlib.suppress(OSError):
            self._pipe.send(what)

    def begin(self, name: str, delivery: Delivery, key: str | float = "") -> Run:
        run = Run(name, delivery.attempt, self._process, time.monotonic(), key=key)
        self.runs.append(run)
        self.tell("begin", len(self.runs), name, run.attempt, run.began, key)
        return run

    def end(self, run: Run, how: str) -> None:
        run.ended, run.how = time.monotonic(), how
        number = next(at for at, each in enumerate(self.runs, 1) if each is run)
        self.tell("end", number, run.ended, how)

    def publish(self, name: str, how: str) -> None:
        super().publish(name, how)
        self.tell("publish", name, how, time.monotonic())

    def problem(self, text: str) -> None:
        super().problem(text)
        self.tell("problem", text)


class _Replies(dict[str, str]):
    """Replies to requests, each of which is told."""

    def __init__(self, telling: Telling) -> None:
        super().__init__()
        self._telling = telling

    def __setitem__(self, name: str, reply: str) -> None:
        super().__setitem__(name, reply)
        self._telling.tell("reply", name, reply)


class Child:
    """One process: what it was started for, and what it is told meanwhile."""

    def __init__(self, job: Task, pipe: Pipe) -> None:
        self.job = job
        self.pipe = pipe
        self.history = Telling(job.name, pipe)
        self.history.is_down = job.is_down
        self.skew = job.skew
        self.disk = None if job.database is None else Disk(job.database)
        self.runtime: Runtime | None = None

    def utc(self) -> datetime:
        """Return the time of a clock that may be wrong."""
        return datetime.now(UTC) + timedelta(seconds=self.skew)

    def listen(self) -> None:
        """Do what the pipe says from now on."""
        asyncio.get_running_loop().add_reader(self.pipe.fileno(), self._heard)

    def _heard(self) -> None:
        try:
            what, value = self.pipe.recv()
        except (EOFError, OSError):
            os.kill(os.getpid(), signal.SIGKILL)  # who started it is gone
            return
        match what:
            case "down":
                self.history.is_down = value
            case "skew":
                self.skew += value
            case "full" if self.disk is not None:
                self.disk.is_full = value
            case "commit" if self.disk is not None:
                self.disk.at_commits.append(_at_commit(*value))
            case "channel":
                self._ack_what_never_came(value)

    def _ack_what_never_came(self, number: int) -> None:
        """Have the broker close a channel; pika and aio-pika alike write such an ack."""
        consumers = [] if self.runtime is None else self.runtime._consumers
        channels = [c._subscription._channel for c in consumers]
        opened = [channel for channel in channels if channel is not None and channel.is_open]
        if opened:
            with contextlib.suppress(ChannelClosedError):
                opened[number % len(opened)].ack(NO_SUCH_TAG)

    async def serve(self) -> None:
        """Run the service until SIGTERM."""
        job, stop = self.job, asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        self.listen()
        store = None
        if self.disk is not None:
            own = Machine(connect_sqlite=self.disk.connect)
            store = Store(
                self.disk.url,
                clock=self.utc,
                machine=own,
                sweep=SWEEP,
                longest_retry=KEEP,
                replay_age=KEEP,
                create_tables=False,
            )
        made = service(job.plan, self.history, store, job.number)
        self.runtime = Runtime(
            made, BrokerUrl.parse(job.url), driver=job.driver, clock=self.utc, grace=GRACE
        )
        await self.runtime.run(stop)

    async def publish(self) -> None:
        """Publish what the plan says, but for what a process before this one has tried."""
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        self.listen()
        self.history.published.update(self.job.known)
        await _Publishing(self).run(stop)


class _Publishing(PublisherHost):
    """Publishes as the simulation's host does, on a real clock."""

    def __init__(self, child: Child) -> None:
        loop = SimpleNamespace(time=time.monotonic)
        world = SimpleNamespace(history=child.history, loop=loop, began=child.job.began)
        super().__init__(cast("Any", world), child.job.plan.sends)
        self._child = child

    async def run(self, stop: asyncio.Event) -> None:
        """Publish, and wait to be stopped."""
        job = self._child.job
        publisher = Publisher(
            job.url,
            driver=job.driver,
            timeout=PUBLISH_TIMEOUT,
            window=100,
            clock=self._child.utc,
        )
        await self._publish_all(publisher)
        self._child.history.tell("published")
        await stop.wait()
        await publisher.close()

    async def _publish_all(self, publisher: Publisher) -> None:
        chains: dict[str, list[Send]] = {}
        for each in self._sends:
            if each.name not in self._child.job.known:
                chain = f"key {hash(each.key)}" if each.feature == "ordered" else each.name
                chains.setdefault("many" if each.is_of_many else chain, []).append(each)
        async with asyncio.TaskGroup() as group:
            for name, sends in chains.items():
                publish = self._publish_many if name == "many" else self._publish_chain
                group.create_task(publish(publisher, sends))


def _at_commit(skipped: int, is_done: bool, dies: bool) -> storage.AtCommit:
    def then() -> None:
        if dies:
            os.kill(os.getpid(), signal.SIGKILL)

    return storage.AtCommit(skipped, is_done, None if dies else storage.lost(), then)


def run_service(job: Task, pipe: Pipe) -> None:
    """Be a service; the function of a process."""
    child = Child(job, pipe)
    _run(child, child.serve())


def run_publisher(job: Task, pipe: Pipe) -> None:
    """Be a publisher; the function of a process."""
    child = Child(job, pipe)
    _run(child, child.publish())


def _run(child: Child, work: Coroutine[Any, Any, None]) -> None:
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    if child.disk is not None:
        disk, run = child.disk, Job.run

        def run_job(job: Job) -> None:
            disk.run(job, run)

        Job.run = run_job  # type: ignore[method-assign,assignment]
    try:
        asyncio.run(work)
    except BaseException as error:
        child.history.tell("died", type(error).__name__, str(error))
        raise SystemExit(1) from error
