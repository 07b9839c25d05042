"""Shows how far something is, on stderr: bars on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress

LINE_EVERY = 2.0
"""Seconds between two lines where there is no terminal."""


class Progress:
    """Shows how many things of each name are done, of so many; a context manager."""

    def __init__(self, totals: Mapping[str, int], console: Console) -> None:
        self._totals = dict(totals)
        self._console = console
        self._bar: RichProgress | None = None
        self._next_line = time.monotonic() + LINE_EVERY
        if console.is_terminal:
            self._bar = RichProgress(
                TextColumn("{task.description:>13}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                console=console,
            )
            self._tasks = {
                name: self._bar.add_task(name, total=total) for name, total in totals.items()
            }

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop the progress bar; lines are still printed after it."""
        if self._bar is not None:
            self._bar.stop()

    def show(self, done: Mapping[str, int]) -> None:
        """Show how many of each are done."""
        if self._bar is not None:
            for name, number in done.items():
                self._bar.update(self._tasks[name], completed=number)
        elif time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + LINE_EVERY
            self.tell(
                ", ".join(f"{n:,} of {self._totals[name]:,} {name}" for name, n in done.items())
            )

    def tell(self, line: str) -> None:
        """Print a line of its own, above the bars."""
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)
