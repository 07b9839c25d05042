"""Runs the ledger as a user would: `mqkit run --processes`, which starts again what dies."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

PROCESSES = 2
"""One posts; the other stands by, and goes on at once where the first one dies."""

STOP_TIMEOUT = 40.0
"""Seconds that they get to drain and end: more than their grace period."""

LOG_LINES = 15
"""Lines of the log that an error shows."""

_RESTART = re.compile(rb"process \d+ [^;\n]*; starting it again")
"""What the supervisor logs of a process that has died."""


class LedgerProcessError(Exception):
    """The ledger cannot start, or does not end; the message has the last lines of its log."""


class LedgerProcess:
    """The supervisor of the ledger's processes, whose log goes to a file.

    The broker's URL and the database's go through the environment: arguments can be read by every
    user.
    """

    def __init__(self, url: str, database: str, log: Path, tell: Callable[[str], None]) -> None:
        self._environment = {**os.environ, "MQKIT_URL": url, "LEDGER_DATABASE": database}
        self._log = log
        self._log_read = 0
        self._tell = tell
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start the ledger."""
        with self._log.open("ab") as log:
            self._log_read = log.tell()
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "mqkit", "run", "handlers.ledger:service"),
                *("--processes", str(PROCESSES)),
                env=self._environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C is for the replay, which then drains the ledger.
                start_new_session=True,
            )

    def check(self) -> None:
        """Tell which processes died since the last time, and were started again.

        :raises LedgerProcessError: the ledger has ended: it cannot start
        """
        if self._process is None:
            return
        with self._log.open("rb") as log:
            log.seek(self._log_read)
            news = log.read()
            self._log_read = log.tell()
        for died in _RESTART.findall(news):
            self._tell(f"the ledger's {died.decode()}")
        if self._process.returncode is not None:
            raise LedgerProcessError(
                f"the ledger ended with exit code {self._process.returncode}{self._last_words()}"
            )

    async def stop(self) -> None:
        """Let the ledger drain, and wait for its end.

        :raises LedgerProcessError: it did not end and was killed
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
            raise LedgerProcessError(
                f"the ledger did not stop within {STOP_TIMEOUT:.0f} s and was killed"
                f"{self._last_words()}"
            ) from error
        self._process = None

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").splitlines()[-LOG_LINES:]
        return "".join(f"\n  {line}" for line in [f"{self._log} ends with:", *lines])
