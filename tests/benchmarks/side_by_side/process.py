"""Starting a system's program and reading what it tells."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

from mqkit.errors import MqkitError
from tests.benchmarks.side_by_side.registry import ROOT

TIMEOUT = 900.0
"""Seconds for one run of a program."""

ERROR_LINES = 15
"""Lines of a failed program's standard error that are shown."""


class ProgramError(MqkitError):
    """A system's program failed; the message holds the end of what it wrote."""

    has_lines = True


class Started(Protocol):
    """What can be started, and how it is called."""

    @property
    def title(self) -> str: ...

    @property
    def command(self) -> Sequence[str]: ...

    @property
    def environment(self) -> dict[str, str]: ...


@dataclass(frozen=True)
class Command:
    """Words that start a program."""

    title: str
    command: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)
    """Variables that it has besides this process's."""


class Program:
    """A program that runs, and what it has told so far; a context manager that ends it."""

    def __init__(self, entry: Started, *words: object) -> None:
        self._entry = entry
        self._words = [str(word) for word in words]
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed by __exit__
        self._told: dict[str, Any] = {}
        self._ready = threading.Event()
        times = self._words[0] in {"consume", "handle"}
        began = ["--began", repr(time.time())] if times else []
        self._process = subprocess.Popen(
            [*entry.command, *self._words, *began],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)} | entry.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._reader.join()
        self._close_input()
        self._errors.close()

    def wait_until_ready(self, timeout: float = 60.0) -> None:
        """Return once it listens.

        :raises ProgramError: it ended before, or did not within so many seconds
        """
        if not self._ready.wait(timeout) or "ready" not in self._told:
            raise self._failed("it was never ready")

    def result(self, timeout: float = TIMEOUT) -> dict[str, Any]:
        """All that it has told, once it has ended.

        :raises ProgramError: it failed, or did not end within so many seconds
        """
        try:
            code = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise self._failed(f"it did not end within {timeout:g} s") from None
        self._reader.join()
        if code:
            raise self._failed(f"exit code {code}")
        return self._told

    def close(self) -> dict[str, Any]:
        """Close its input, which ends it where it waits for that; returns what it has told.

        :raises ProgramError: as `result`
        """
        self._close_input()
        return self.result()

    def _close_input(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self._told |= json.loads(line)
                if "ready" in self._told:
                    self._ready.set()
        self._ready.set()  # it will not become so any more

    def _failed(self, why: str) -> ProgramError:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._errors.seek(0)
        tail = "\n".join(self._errors.read().splitlines()[-ERROR_LINES:])
        return ProgramError(f"{self._entry.title}, {self._words[0]}: {why}\n{tail}")


def run(entry: Started, *words: object, timeout: float = TIMEOUT) -> dict[str, Any]:
    """Run a program to its end; returns what it has told.

    :raises ProgramError: it failed, or did not end within so many seconds
    """
    with Program(entry, *words) as program:
        return program.result(timeout)
