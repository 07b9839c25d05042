"""Runs a command of mqkit as a user would, in a process of its own: a service, or the broker."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

STOP_TIMEOUT = 40.0
"""Seconds that they get to drain and end: more than their grace period."""

LOG_LINES = 15
"""Lines of the log that an error shows."""

_RESTART = re.compile(rb"process \d+ [^;\n]*; starting it again")
"""What the supervisor logs of a process that has died."""


class ProcessError(Exception):
    """A process cannot start, or does not end; the message has the last lines of its log."""


class MqkitProcess:
    """A command of mqkit in a process, whose log goes to a file.

    URLs, of the broker and of databases, go through the environment: arguments can be read by every
    user. It stops by itself where this process ends, also by SIGKILL (`child`).
    """

    def __init__(
        self,
        name: str,
        *arguments: str,
        environment: Mapping[str, str],
        log: Path,
        tell: Callable[[str], None],
    ) -> None:
        self.name = name
        """What a person calls it: `the ledger`."""
        self._arguments = arguments
        self._environment = {**os.environ, **environment}
        self._log = log
        self._log_read = 0
        self._tell = tell
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it."""
        with self._log.open("ab") as log:
            self._log_read = log.tell()
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "handlers.running.child", *self._arguments),
                env=self._environment,
                # By whose end it sees that this process has ended.
                stdin=asyncio.subprocess.PIPE,
                stdout=log,
                stderr=log,
                # Ctrl-C is for who started it, and then stops it.
                start_new_session=True,
            )

    def check(self) -> None:
        """Tell which processes of it died since the last time, and were started again.

        :raises ProcessError: it has ended: it cannot start
        """
        if self._process is None:
            return
        for died in _RESTART.findall(self._news()):
            self._tell(f"{self.name}'s {died.decode()}")
        if self._process.returncode is not None:
            raise ProcessError(
                f"{self.name} ended with exit code {self._process.returncode}{self._last_words()}"
            )

    async def said(self, pattern: re.Pattern[str], *, within: float) -> re.Match[str]:
        """Wait until its log has something, and return that.

        :raises ProcessError: it has ended, or has not said it in so many seconds
        """
        deadline = asyncio.get_running_loop().time() + within
        while (found := pattern.search(self._log.read_text(errors="replace"))) is None:
            self.check()
            if asyncio.get_running_loop().time() > deadline:
                raise ProcessError(f"{self.name} did not start in {within:g} s{self._last_words()}")
            await asyncio.sleep(0.05)
        return found

    async def kill(self) -> None:
        """Kill it (SIGKILL), and wait until it is gone; `start` starts it again."""
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def stop(self) -> None:
        """Let it drain, and wait for its end.

        :raises ProcessError: it did not end and was killed
        """
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOP_TIMEOUT)
        except TimeoutError as error:
            process.kill()
            await process.wait()
            raise ProcessError(
                f"{self.name} did not stop within {STOP_TIMEOUT:.0f} s and was killed"
                f"{self._last_words()}"
            ) from error
        self._process = None

    def _news(self) -> bytes:
        with self._log.open("rb") as log:
            log.seek(self._log_read)
            news = log.read()
            self._log_read = log.tell()
        return news

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").splitlines()[-LOG_LINES:]
        return "".join(f"\n  {line}" for line in [f"{self._log} ends with:", *lines])
