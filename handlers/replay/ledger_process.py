"""The ledger service as a process of its own, started again whenever it dies."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

RESTART_WAIT = 0.2
"""Seconds before the first restart; each one that follows a quick death waits twice as long."""

QUICK_DEATH = 3.0
"""Seconds; a process that lives shorter has not come to do its work."""

MAX_QUICK_DEATHS = 5
"""Quick deaths in a row after which it is given up."""

STOP_TIMEOUT = 40.0
"""Seconds that it gets to drain and end: more than its own grace period."""

LOG_LINES = 15
"""Lines of its log that an error shows."""


class LedgerProcessError(Exception):
    """The ledger's process does not stay alive, or does not end; the message has its last words."""


class LedgerProcess:
    """Supervises `mqkit run handlers.ledger:service`; its log goes to a file.

    The broker's URL goes through the environment: arguments can be read by every user.
    """

    def __init__(self, url: str, database: Path, log: Path, tell: Callable[[str], None]) -> None:
        self._environment = {**os.environ, "MQKIT_URL": url, "LEDGER_DATABASE": str(database)}
        self._log = log
        self._tell = tell
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._stopping = False

    async def start(self) -> None:
        """Start it, and keep it alive until `stop`."""
        self._stopping = False
        await self._spawn()
        self._keeper = asyncio.create_task(self._keep(), name="ledger-process")

    def check(self) -> None:
        """Return if it is being kept alive.

        :raises LedgerProcessError: it was given up
        """
        if self._keeper is not None and self._keeper.done():
            self._keeper.result()

    async def stop(self) -> None:
        """SIGTERM, and wait until it has drained and ended.

        :raises LedgerProcessError: it did not end and was killed
        """
        self._stopping = True
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError, LedgerProcessError):
                await self._keeper
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
            raise LedgerProcessError(
                f"the ledger did not stop within {STOP_TIMEOUT:.0f} s and was killed"
                f"{self._last_words()}"
            ) from error

    async def _spawn(self) -> None:
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "mqkit",
                "run",
                "handlers.ledger:service",
                env=self._environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C is for the replay, which then drains the ledger.
                start_new_session=True,
            )

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        quick_deaths = 0
        while self._process is not None:
            born = loop.time()
            code = await self._process.wait()
            if self._stopping:
                return
            quick_deaths = quick_deaths + 1 if loop.time() - born < QUICK_DEATH else 0
            if quick_deaths >= MAX_QUICK_DEATHS:
                raise LedgerProcessError(
                    f"the ledger died {quick_deaths} times right after its start, the last time by "
                    f"{_how(code)}{self._last_words()}"
                )
            self._tell(f"the ledger died by {_how(code)}; starting it again")
            await asyncio.sleep(RESTART_WAIT * 2**quick_deaths)
            await self._spawn()

    def _last_words(self) -> str:
        try:
            lines = self._log.read_text(errors="replace").splitlines()[-LOG_LINES:]
        except OSError:
            return ""
        return "".join(f"\n  {line}" for line in [f"{self._log} ends with:", *lines])


def _how(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"
