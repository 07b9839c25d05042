"""Shows the progress of `mqkit publish`, and reports what became of the lines."""

from __future__ import annotations

import itertools
import json
import logging
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mqkit.logging.shown import shown

SHOWN = 20
"""Groups of failed lines that are listed on the screen; --json lists every line."""

MAX_REMARK = 2_000
"""Characters of a remark; what it quotes may be long."""

LINE_EVERY = 2.0
"""Seconds between two lines of progress where there is no terminal."""

FRAME_EVERY = 0.1
"""Seconds between two looks of the bar; telling it of each line would take as long as sending."""


@dataclass(slots=True)
class Summary:
    """Counts what became of the file's lines."""

    journal: Path
    lines: int = 0
    """Not blank, and read so far."""
    confirmed: int = 0
    skipped: int = 0
    """Confirmed by an earlier run."""
    changed: int = 0
    """Confirmed by an earlier run with another content; sent as new messages."""
    unknown: int = 0
    """Written, and not waited for to the end."""
    unnoted: int = 0
    """Confirmed, but the journal could not be written."""
    failed: list[tuple[int, str]] = field(default_factory=list)
    """Line number and what was wrong."""
    seconds: float = 0.0
    interrupted: bool = False
    stopped_by: str | None = None
    """An error that every further line would meet."""

    @property
    def is_complete(self) -> bool:
        """True if every line of the file is confirmed, and noted."""
        return not (
            self.failed or self.unknown or self.unnoted or self.stopped_by or self.interrupted
        )

    @property
    def done(self) -> int:
        """Count the lines of which it is known what became of them."""
        return self.confirmed + self.skipped + len(self.failed)

    @property
    def is_through(self) -> bool:
        """True if that is known of every line, and none was left out."""
        return self.done == self.lines and not (self.interrupted or self.stopped_by)

    def fail(self, number: int, problem: str) -> None:
        """Count a failed line."""
        # Many lines fail alike, and all are kept for the report.
        self.failed.append((number, sys.intern(problem)))

    def as_json(self) -> dict[str, object]:
        """Return the figures for a program."""
        return {
            "lines": self.lines,
            "confirmed": self.confirmed,
            "skipped": self.skipped,
            "changed": self.changed,
            "unknown": self.unknown,
            "unnoted": self.unnoted,
            "failed": [{"line": number, "error": error} for number, error in sorted(self.failed)],
            "seconds": round(self.seconds, 3),
            "interrupted": self.interrupted,
            "stopped_by": self.stopped_by,
            "journal": str(self.journal),
        }


class ProgressDisplay:
    """Shows progress on stderr: a bar on a terminal, a line now and then elsewhere."""

    def __init__(self, total: int, console: Console | None = None) -> None:
        """Show nothing yet.

        :param total: how many lines there are to publish
        :param console: where it is shown instead of stderr
        """
        self._console = console or Console(stderr=True)
        self._total = total
        self._bar = Progress(
            TextColumn("{task.description:>9}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._every = LINE_EVERY if self._bar.disable else FRAME_EVERY
        self._next = time.monotonic() + self._every
        self._has_said = False
        self._task = self._bar.add_task("published", total=total)

    def __enter__(self) -> None:
        self._bar.start()

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def log_handler(self) -> logging.Handler:
        """Return what logs warnings above the bar, or to stderr where there is none."""
        if self._bar.disable:
            return logging.StreamHandler()
        return RichHandler(
            console=self._console, show_time=False, show_level=False, show_path=False
        )

    def show(self, summary: Summary) -> None:
        """Show the progress, unless it was shown just now."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + self._every
        if self._bar.disable:
            self._say(summary)
        else:
            self._bar.update(self._task, completed=summary.done)

    def end(self, summary: Summary) -> None:
        """Show where it has ended: full if there is no line left, and else how far it came."""
        through = summary.is_through
        if through:
            self._total = summary.lines  # the file may have grown meanwhile
        if not through or not self._total:
            self._bar.columns = self._bar.columns[:-1]  # no time is left, and none was taken
        self._bar.update(
            self._task,
            completed=summary.done,
            total=self._total,
            description="published" if through else "stopped",
        )
        if self._has_said:
            self._say(summary)

    def _say(self, summary: Summary) -> None:
        self._has_said = True
        self._console.print(f"{summary.done:,} of {self._total:,} lines", highlight=False)


def report(summary: Summary, *, as_json: bool) -> None:
    """Report what became of the lines: the figures on stdout, what went wrong on stderr."""
    if as_json:
        typer.echo(json.dumps(summary.as_json()))
        return
    rate = f" in {summary.seconds:.1f} s" if summary.confirmed else ""
    typer.echo(
        f"{summary.confirmed:,} confirmed{rate}, {summary.skipped:,} skipped (confirmed by an "
        f"earlier run), {len(summary.failed):,} failed"
    )
    reasons = _by_reason(summary.failed)
    remarks = [f"{lines}: {problem}" for lines, problem in reasons[:SHOWN]]
    if len(reasons) > SHOWN:
        remarks.append(
            f"and {len(reasons) - SHOWN} more; --json lists them all, and so does {summary.journal}"
        )
    if summary.changed:
        remarks.append(
            f"{summary.changed:,} lines are not what they were when an earlier run sent them: "
            "they were sent as new messages"
        )
    if summary.stopped_by:
        remarks.append(f"stopped: {summary.stopped_by}")
    if summary.unknown:
        remarks.append(
            f"{summary.unknown:,} lines were sent and not confirmed yet; they may be stored, and "
            "--resume sends them again under the same message ids"
        )
    if summary.unnoted:
        remarks.append(
            f"{summary.unnoted:,} confirmed lines are missing in the journal; --resume would send "
            "them again under the same message ids"
        )
    if summary.interrupted:
        remarks.append("interrupted; --resume goes on with the lines that are left")
    for remark in remarks:
        typer.echo(shown(remark, MAX_REMARK), err=True)


def _by_reason(failed: list[tuple[int, str]]) -> list[tuple[str, str]]:
    """Group failed lines for people: neighbours that failed alike in one."""
    grouped: list[tuple[str, str]] = []
    for problem, group in itertools.groupby(sorted(failed), key=lambda item: item[1]):
        numbers = [number for number, _ in group]
        first, last = numbers[0], numbers[-1]
        lines = f"line {first}" if first == last else f"{len(numbers):,} lines, {first} to {last}"
        grouped.append((lines, problem))
    return grouped
