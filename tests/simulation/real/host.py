"""Runs the processes of one host, behind a proxy: starts, kills and stops them, and hears them."""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from collections.abc import Callable
from multiprocessing.connection import Connection as Pipe
from typing import TYPE_CHECKING, Any

from mqkit.testing.proxy import TcpProxy
from tests.simulation.history import Run
from tests.simulation.real.child import Task

if TYPE_CHECKING:
    from tests.simulation.real.schedule import Schedule

STOP_WITHIN = 20.0
"""Seconds in which a process that is asked to stop has ended."""

RESTART = 1.0
"""Seconds until a process that ended by itself is started again."""

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.simulation.real.child", "mqkit.drivers.pika.driver"])


class Host:
    """One process behind a proxy, which is killed, stopped and started again."""

    def __init__(
        self, schedule: Schedule, name: str, number: int, run: Callable[[Task, Pipe], None]
    ) -> None:
        self._schedule = schedule
        self.name = name
        self.number = number
        self._run = run
        self.proxy = TcpProxy(schedule.vhost.url)
        self.skew = 0.0
        self.is_wanted = False
        self._process: Any = None
        self._pipe: Any = None
        self._runs: dict[int, Run] = {}
        self._number = 0

    @property
    def process(self) -> str:
        """The name of its latest process."""
        return f"{self.name} {self._number}"

    @property
    def is_up(self) -> bool:
        """Whether its process lives."""
        return self._process is not None and self._process.is_alive()

    def start(self) -> None:
        """Start a process, unless one runs."""
        self.is_wanted = True
        if self.is_up:
            return
        schedule, self._runs = self._schedule, {}
        self._number += 1
        mine, its = CONTEXT.Pipe()
        url = self.proxy.url + ("&" if "?" in self.proxy.url else "?")
        task = Task(
            plan=schedule.plan,
            url=f"{url}heartbeat={schedule.plan.heartbeat}",
            name=self.process,
            began=schedule.began,
            driver=schedule.driver,
            number=self.number,
            database=None if schedule.disk is None else schedule.disk.path,
            known=dict(schedule.history.published),
            is_down=schedule.history.is_down,
            skew=self.skew,
        )
        self._process = CONTEXT.Process(target=self._run, args=(task, its), daemon=True)
        self._process.start()
        its.close()
        self._pipe = mine
        asyncio.get_running_loop().add_reader(mine.fileno(), self._heard, mine)

    def tell(self, what: str, value: Any = None) -> None:
        """Tell the process something, if it lives."""
        if self.is_up and self._pipe is not None:
            self._pipe.send((what, value))

    def kill(self) -> None:
        """End the process with SIGKILL, and know what it told before."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
        self.drain()

    def drain(self) -> None:
        """Hear all that was told."""
        while self._pipe is not None:
            self._heard(self._pipe, wait=True)

    async def stop(self) -> None:
        """End the process with SIGTERM, and after some time with SIGKILL."""
        self.is_wanted = False
        if self.is_up:
            self._process.terminate()
            end = time.monotonic() + STOP_WITHIN
            while self.is_up and time.monotonic() < end:
                await asyncio.sleep(0.05)
            if self.is_up:
                self._schedule.history.problem(f"{self.name} did not stop in {STOP_WITHIN:.0f} s")
        self.kill()

    def _heard(self, pipe: Any, *, wait: bool = False) -> None:
        try:
            while pipe.poll():
                self._take(*pipe.recv())
            if wait and not self.is_up:
                raise EOFError  # noqa: TRY301
        except (EOFError, OSError):
            asyncio.get_running_loop().remove_reader(pipe.fileno())
            pipe.close()
            self._pipe = None
            self._ended()

    def _ended(self) -> None:
        if self.is_wanted and not self._schedule.is_over:
            asyncio.get_running_loop().call_later(RESTART, self._again)

    def _again(self) -> None:
        if self.is_wanted and not self._schedule.is_over:
            self.start()

    def _take(self, what: str, *values: Any) -> None:
        history = self._schedule.history
        self._schedule.heard_at = time.monotonic()
        match what, values:
            case "begin", (number, name, attempt, began, key):
                run = Run(name, attempt, self.process, began, key=key)
                self._runs[number] = run
                history.runs.append(run)
            case "end", (number, ended, how):
                self._runs[number].ended, self._runs[number].how = ended, how
            case "publish", (name, how, at):
                history.published[name] = how
                history.given_at.setdefault(name, at)
            case "problem", (text,):
                history.problem(text)
            case "reply", (name, reply):
                history.replies[name] = reply
            case "published", ():
                self._schedule.is_published = True
            case "died", (kind, text):
                if kind not in ("StoreUnavailableError", "CancelledError", "TimeoutError"):
                    history.problem(f"{self.name} ended by itself: {kind}: {text}")
