"""Labels each line that a process writes, where several write to one terminal or log.

Each line, and not each record of the log: what a handler prints has none, and the second line of a
traceback begins anywhere.
"""

from __future__ import annotations

import atexit
import sys
import threading
from collections.abc import Iterable
from typing import Any, TextIO


class LabelledOutput:
    """Writes whole lines, each with the label in front; the last one is held until it is whole.

    It has what the stream under it has; what goes there past `write`, to its `buffer` or by what
    another process writes, has no label.
    """

    def __init__(self, stream: TextIO, label: str) -> None:
        self._stream = stream
        self._writing = threading.RLock()
        self._held = ""
        self.label = label

    def write(self, text: str) -> int:
        """Write the lines that are whole now, at once."""
        with self._writing:
            whole, end, self._held = (self._held + text).rpartition("\n")
            if end:
                lines = "".join(f"[{self.label}] {line}\n" for line in whole.split("\n"))
                self._stream.write(lines)
                self._stream.flush()
        return len(text)

    def finish(self) -> None:
        """Write the line that is held, too."""
        with self._writing:
            if self._held:
                self.write("\n")

    def writelines(self, lines: Iterable[str]) -> None:
        """Write each of the lines, as `write` does."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Do nothing: whole lines are written at once."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def label_output(label: str) -> None:
    """Label what this process writes to stdout and stderr from now on."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, LabelledOutput):
            stream.label = label
        else:
            labelled = LabelledOutput(stream, label)
            atexit.register(labelled.finish)
            setattr(sys, name, labelled)


def finish_output() -> None:
    """Write what is held of stdout and stderr, before a process is ended at once."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, LabelledOutput):
            stream.finish()
        stream.flush()
