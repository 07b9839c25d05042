"""Shows how far a replay is, on stderr: a bar on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

LINE_EVERY = 2.0
"""Seconds between two lines where there is no terminal."""


class ReplayProgress:
    """Shows how many rows are published and how many are done; a context manager."""

    def __init__(self, rows: int, console: Console) -> None:
        self._rows = rows
        self._console = console
        self._bar: Progress | None = None
        self._next_line = time.monotonic() + LINE_EVERY
        if console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description:>13}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                console=console,
            )
            self._published = self._bar.add_task("published", total=rows)
            self._posted = self._bar.add_task("in the ledger", total=rows)

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
        if self._bar is not None:
            self._bar.stop()

    def show(self, published: int, posted: int) -> None:
        """Show how many rows are published, and how many entries are in the ledger."""
        if self._bar is not None:
            self._bar.update(self._published, completed=published)
            self._bar.update(self._posted, completed=posted)
        elif time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + LINE_EVERY
            self.tell(f"{published:,} published, {posted:,} in the ledger of {self._rows:,} rows")

    def tell(self, line: str) -> None:
        """Print a line of its own, above the bar."""
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)
