"""The test's end of a nursery: starts it, counts its deaths, stops it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mqkit.testing.brokers import processes
from tests.support import ROOT, eventually

LOG_LINES = 40
"""Lines of the log that a failed wait shows."""


@dataclass(frozen=True, slots=True)
class Death:
    """The end of one child."""

    pid: int
    target: str
    code: int
    """Exit code; negative for a signal."""
    lived: float
    """Seconds."""
    time: float
    """Seconds since the epoch."""
    stopping: bool
    """It was told to stop."""

    @property
    def killed(self) -> bool:
        """It was SIGKILL."""
        return self.code == -signal.SIGKILL


class Nursery:
    """Keeps services alive in processes of their own, forked anew as they die.

        with Nursery({"tests.faults.services:flaky": 3}, broker.url, tmp_path / "log") as nursery:
            await nursery.kills(300, within=120)
            await nursery.stop()

    On leaving, all processes that are left are killed.

    :param targets: `MODULE:NAME` of services (or of functions: see `tests.faults.nursery`), and
        how many processes of each
    :param log: the children's log; what happened to them is in a file of its name, `.events`
    :param arm: names of fail points, and the directories of their tickets
    """

    def __init__(
        self,
        targets: Mapping[str, int],
        url: str,
        log: Path,
        *,
        arm: Mapping[str, Path] | None = None,
        driver: str | None = None,
        **environment: str,
    ) -> None:
        self.log = log
        self._events = log.with_name(f"{log.name}.events")
        self._command = [sys.executable, "-m", "tests.faults.nursery"]
        self._command += [f"{name}={count}" for name, count in targets.items()]
        for point, tickets in (arm or {}).items():
            self._command += ["--arm", f"{point}={tickets}"]
        if driver is not None:
            self._command += ["--driver", driver]
        self._environ = {**os.environ, "MQKIT_URL": url, **environment}
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with self.log.open("ab") as log, self._events.open("ab") as events:
            self._process = subprocess.Popen(
                self._command,
                cwd=ROOT,
                env=self._environ,
                # Its end is how the nursery and its children see that of the test.
                stdin=subprocess.PIPE,
                stdout=events,
                stderr=log,
                # Ctrl-C is for the test, which then ends them.
                start_new_session=True,
            )
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        process = self._process
        assert process is not None
        if process.poll() is None:
            # Frozen first, so that nothing is forked while they are ended.
            processes.kill(processes.freeze(process.pid))
        process.communicate()
        # Those of a nursery that died by itself, which are still of its session.
        processes.kill(pid for pid in self.children() if _session(pid) == process.pid)

    def deaths(self) -> list[Death]:
        """All until now, in their order."""
        fields = Death.__dataclass_fields__
        return [
            Death(**{name: event[name] for name in fields})
            for event in self._told()
            if event["event"] == "died"
        ]

    def children(self) -> dict[int, str]:
        """Who is alive: process ids, and what they run."""
        alive: dict[int, str] = {}
        for event in self._told():
            if event["event"] == "born":
                alive[event["pid"]] = event["target"]
            else:
                del alive[event["pid"]]
        return alive

    def killed(self) -> int:
        """Children that SIGKILL has ended until now."""
        return sum(death.killed for death in self.deaths())

    async def kills(self, count: int, within: float) -> None:
        """Wait until SIGKILL has ended so many children; fails if one ends in another way."""

        def done() -> bool:
            self.check()
            return self.killed() >= count

        await self._wait(done, within, lambda: f"{self.killed()} kills of {count}")

    def check(self) -> None:
        """Fail if a child ended in another way than by SIGKILL, or the nursery itself ended."""
        wrong = [death for death in self.deaths() if not (death.killed or death.stopping)]
        assert not wrong, f"ended by itself: {wrong[0]}\n{self._tail()}"
        assert self._process is not None
        code = self._process.poll()
        assert code is None, f"the nursery ended with {code}\n{self._tail()}"

    async def stop(self, within: float = 40.0) -> None:
        """SIGTERM; waits until all have drained and ended, and fails unless all did in order."""
        process = self._process
        assert process is not None
        # Before its first word it has no handler, and SIGTERM would end it as any program.
        await self._wait(lambda: any(self._told()), within, lambda: "the first birth")
        self.check()
        process.send_signal(signal.SIGTERM)
        await self._wait(lambda: process.poll() is not None, within, lambda: "its end")
        assert process.returncode == 0, f"the nursery ended with {process.returncode}"
        wrong = [death for death in self.deaths() if not (death.killed or death.code == 0)]
        assert not wrong, f"did not stop in order: {wrong}\n{self._tail()}"

    def _told(self) -> Iterator[dict[str, Any]]:
        if not self._events.exists():
            return  # another process's nursery, which has not begun
        # The last line may be in the middle of being written.
        for line in self._events.read_text().splitlines(keepends=True):
            if line.endswith("\n"):
                yield json.loads(line)

    async def _wait(
        self, condition: Callable[[], bool], within: float, what: Callable[[], str]
    ) -> None:
        try:
            async with asyncio.timeout(within):
                await eventually(condition, within + 1)
        except TimeoutError:
            raise AssertionError(f"{what()} within {within:g} s\n{self._tail()}") from None

    def _tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-LOG_LINES:])


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None
