"""A command on a terminal of its own, of some size, whose screen a test can read."""

from __future__ import annotations

import array
import contextlib
import fcntl
import os
import pty
import re
import select
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent

HOME = "\x1b[H"
"""Moves the cursor to the first place, where each picture begins."""

ALTERNATE, NORMAL = "\x1b[?1049h", "\x1b[?1049l"
"""Switch to a screen of the program's own, and back to what was there before."""

SHOW_CURSOR = "\x1b[?25h"

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")

CTRL_C = b"\x03"


class Terminal:
    """Runs `python -m mqkit` on a pseudo terminal, which is the one that controls it."""

    def __init__(
        self, arguments: Sequence[str], env: Mapping[str, str], columns: int, rows: int
    ) -> None:
        """Start it."""
        self._main, side = pty.openpty()
        size = array.array("H", (rows, columns, 0, 0))
        fcntl.ioctl(side, termios.TIOCSWINSZ, size)
        self._side = side
        self.modes = termios.tcgetattr(side)
        """What the terminal was set to at the start."""
        self.output = ""

        # The first terminal that the leader of a session opens controls it.
        shell = ["sh", "-c", 'exec "$@" <>"$0" >&0 2>&1', os.ttyname(side)]
        self.process: subprocess.Popen[bytes] = subprocess.Popen(
            [*shell, sys.executable, "-m", "mqkit", *arguments],
            cwd=ROOT,
            env={"TERM": "xterm-256color", **_without_a_size(env)},
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )

    def close(self) -> None:
        """End it, if it has not ended."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._main)
        os.close(self._side)

    def type(self, keys: bytes) -> None:
        """Type something: Ctrl-C is what the terminal makes a signal of."""
        os.write(self._main, keys)

    def read(self, within: float = 0.1) -> None:
        """Read what is written until then."""
        until = time.monotonic() + within
        while (left := until - time.monotonic()) > 0:
            ready, _, _ = select.select([self._main], [], [], left)
            if ready:
                self.output += os.read(self._main, 65536).decode(errors="replace")

    def screen(self) -> list[str]:
        """The lines of the latest picture that is whole, without colours."""
        pictures = self.output.split(HOME)
        whole = pictures[-1] if len(pictures) < 3 else pictures[-2]
        return [_ESCAPES.sub("", line).rstrip() for line in whole.split("\r\n")]

    def shows(self, text: str, within: float = 45.0) -> list[str]:
        """Wait until a picture has this text, and return its lines."""
        until = time.monotonic() + within
        while True:
            lines = self.screen()
            if any(text in line for line in lines):
                return lines
            assert time.monotonic() < until, (text, lines, self.output[-2000:])
            assert self.process.poll() is None, self.output[-2000:]
            self.read()

    def ends(self, within: float = 40.0) -> int:
        """Wait for its end, and return its exit code."""
        until = time.monotonic() + within
        while (code := self.process.poll()) is None:
            assert time.monotonic() < until, self.output[-2000:]
            self.read()
        self.read()
        return code

    def modes_now(self) -> list[Any]:
        """What the terminal is set to now."""
        return termios.tcgetattr(self._side)


def _without_a_size(env: Mapping[str, str]) -> dict[str, str]:
    """Leave out by what a program would believe in another size: xdist sets it for its workers."""
    return {name: value for name, value in env.items() if name not in ("COLUMNS", "LINES")}


@contextlib.contextmanager
def terminal(*arguments: str, columns: int = 80, rows: int = 24, **env: str) -> Iterator[Terminal]:
    """Run a command of mqkit on a terminal of this size for the block."""
    made = Terminal(arguments, {**os.environ, **env}, columns, rows)
    try:
        yield made
    finally:
        made.close()
