"""A process that forks services as fast as they die, for tests of hundreds of real deaths.

    python -m tests.faults.nursery MODULE:NAME=2 ... --arm POINT=TICKETS

Starting Python and importing mqkit, its drivers and SQLAlchemy takes the better part of a second;
the parent does it once, and a fork milliseconds. It keeps the wanted number of children of each
target alive and tells of each birth and each death in a line of JSON on its standard output. All
log to its standard error. SIGTERM lets the children finish; the end of its standard input means
that the test is gone, and ends them at once. `tests.faults.nurseries.Nursery` is the other end.

A target is a `Service`, or `async def target(url: BrokerUrl, stop: asyncio.Event)`. Children share
nothing that is open: whatever connects must do so in the child.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib
import json
import logging
import os
import pkgutil
import select
import signal
import socket
import sys
import threading
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from mqkit import BrokerUrl, Runtime, Service, drivers
from mqkit.cli.loop import runner, tune_collector
from mqkit.logging.formatters import TEXT_FORMAT
from tests.faults import failpoints

PRELOADED = (
    "aiosqlite",
    "asyncpg",
    "pydantic",
    "sqlalchemy.dialects.postgresql.asyncpg",
    "sqlalchemy.dialects.sqlite.aiosqlite",
    "sqlalchemy.ext.asyncio",
)
"""What services import besides mqkit, perhaps not before they run."""

PAUSE = 0.5
"""Seconds before a child that ended by itself, rather than was killed, is replaced."""

FAILED = 1

STOPPING = (signal.SIGTERM, signal.SIGINT)

STDIN, STDOUT, STDERR = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Target:
    """What children run, and how many of them."""

    name: str
    run: Any
    count: int


@dataclass
class Parent:
    """Forks, reaps and tells; single-threaded, as whoever forks has to be."""

    targets: list[Target]
    url: BrokerUrl
    children: dict[int, tuple[Target, float]] = field(default_factory=dict)
    stopping: bool = False
    not_before: float = 0.0
    """The next fork waits for this, by `time.monotonic`."""

    def run(self) -> None:
        """Keep the children alive until SIGTERM, or until the test is gone."""
        assert threading.active_count() == 1, "a thread would not live on in the children"
        # What is there now is not collected in the children, which would copy its pages.
        gc.freeze()
        woken, self._waker = socket.socketpair()
        woken.setblocking(False)
        self._waker.setblocking(False)
        self._woken = woken
        for number in (*STOPPING, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(self._waker.fileno())
        while self.children or not self.stopping:
            self._fill()
            left = max(self.not_before - time.monotonic(), 0)
            readable, _, _ = select.select([woken.fileno(), STDIN], [], [], left or None)
            if STDIN in readable and not os.read(STDIN, 1):
                for pid in self.children:
                    os.kill(pid, signal.SIGKILL)
                return
            if woken.fileno() in readable and set(woken.recv(4096)) & set(STOPPING):
                self.stopping = True
                for pid in self.children:
                    os.kill(pid, signal.SIGTERM)
            self._reap()

    def _fill(self) -> None:
        if self.stopping or time.monotonic() < self.not_before:
            return
        alive = [target for target, _ in self.children.values()]
        for target in self.targets:
            for _ in range(target.count - alive.count(target)):
                self._fork(target)

    def _fork(self, target: Target) -> None:
        # Blocked: a signal between fork and the child's own handlers would find the parent's.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._woken.close()
            self._waker.close()
            os.dup2(STDERR, STDOUT)
            be_a_child(target, self.url)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        self.children[pid] = target, time.monotonic()
        tell("born", pid=pid, target=target.name)

    def _reap(self) -> None:
        while self.children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            target, born = self.children.pop(pid)
            code = os.waitstatus_to_exitcode(status)
            if code >= 0:
                # Not an endless quick turn of children that cannot live.
                self.not_before = time.monotonic() + PAUSE
            tell(
                "died",
                pid=pid,
                target=target.name,
                code=code,
                lived=round(time.monotonic() - born, 3),
                stopping=self.stopping,
            )


def tell(event: str, **details: object) -> None:
    """Write a line for the test, in one piece."""
    line = json.dumps({"event": event, "time": round(time.time(), 3), **details})
    os.write(STDOUT, f"{line}\n".encode())


def be_a_child(target: Target, url: BrokerUrl) -> NoReturn:
    """Run the target to its end, and end without what the parent would do at its own."""
    code = FAILED
    try:
        tune_collector()
        with runner(None) as on_loop:
            code = on_loop.run(_run(target.run, url))
    except BaseException:  # noqa: BLE001 - its words are in the log, and its exit code tells
        traceback.print_exc()
    finally:
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


async def _run(target: Any, url: BrokerUrl) -> int:
    """As `mqkit run` does, and with an end when the test is gone."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    # Nobody writes to it: it is readable when the test's end is closed.
    loop.add_reader(STDIN, lambda: os.kill(os.getpid(), signal.SIGKILL))
    for number in STOPPING:
        loop.add_signal_handler(number, stop.set)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
    if not isinstance(target, Service):
        await target(url, stop)
        return 0
    runtime = Runtime(target, url if target.connection is None else None)
    await runtime.run(stop)
    return FAILED if runtime.abandoned else 0


def main() -> None:
    """Import everything, arm the fail points, run."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.nursery")
    parser.add_argument("targets", nargs="+", metavar="MODULE:NAME=COUNT")
    parser.add_argument("--arm", action="append", default=[], metavar="POINT=TICKETS")
    parser.add_argument("--driver", default=drivers.DEFAULT, choices=drivers.NAMES)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format=f"%(process)d {TEXT_FORMAT}", stream=sys.stderr)
    for module in PRELOADED:
        importlib.import_module(module)
    for name in drivers.NAMES:
        drivers.named(name)
    drivers.DEFAULT = options.driver
    for armed in options.arm:
        point, _, tickets = armed.rpartition("=")
        failpoints.arm(point, Path(tickets))
    targets = []
    for wanted in options.targets:
        name, _, count = wanted.rpartition("=")
        targets.append(Target(name, pkgutil.resolve_name(name), int(count)))
    Parent(targets, BrokerUrl.parse(os.environ["MQKIT_URL"])).run()


if __name__ == "__main__":
    main()
