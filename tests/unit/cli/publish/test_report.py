"""The progress of `mqkit publish`, on a terminal and elsewhere."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from mqkit.cli.publish import report
from mqkit.cli.publish.report import ProgressDisplay, Summary

HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"
"""The cursor (ECMA-48, and DEC's private mode 25)."""


def shown(summary: Summary, total: int, *, terminal: bool) -> str:
    """Show the progress of a run that ends as this says."""
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, color_system=None, width=80)
    display = ProgressDisplay(total, console)
    with display:
        display.show(Summary(summary.journal, lines=1, confirmed=1))
        display.end(summary)
    return out.getvalue()


def ended(**figures: object) -> Summary:
    summary = Summary(Path("journal"))
    for name, value in figures.items():
        setattr(summary, name, value)
    return summary


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Progress is shown whenever there is any."""
    monkeypatch.setattr(report, "LINE_EVERY", 0.0)
    monkeypatch.setattr(report, "FRAME_EVERY", 0.0)


@pytest.mark.parametrize(
    ("summary", "words"),
    [
        (ended(lines=20, confirmed=20), ["published", "20/20"]),
        (ended(lines=20, confirmed=15, skipped=3, failed=[(1, "a"), (2, "b")]), ["20/20"]),
        (ended(lines=23, confirmed=23), ["published", "23/23"]),
        (ended(lines=0), ["published", "0/0"]),
        (ended(lines=8, confirmed=7, interrupted=True), ["  stopped", "7/20"]),
        (ended(lines=8, confirmed=7, stopped_by="no"), ["  stopped", "7/20"]),
        (ended(lines=8, confirmed=7), ["  stopped", "7/20"]),
    ],
)
def test_the_bar_ends_at_its_end(summary: Summary, words: list[str]) -> None:
    """The last frame is full, or says that it stopped; its line is closed, and the cursor back."""
    text = shown(summary, 20, terminal=True)
    last = text.rpartition("\x1b[2K")[2]
    assert all(word in last for word in words), last
    assert last.endswith(f"\n{SHOW}")
    assert text.count(HIDE) == text.count(SHOW) == 1
    assert text.count("\n") == 1
    assert "--:--" not in last


def test_there_is_no_bar_where_there_is_no_terminal() -> None:
    """A file gets a line now and then, and a last one; no control characters."""
    text = shown(ended(lines=20, confirmed=20), 20, terminal=False)
    assert text == "1 of 20 lines\n20 of 20 lines\n"


def test_a_short_run_says_nothing_on_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no terminal, and it took less than the time between two lines."""
    monkeypatch.setattr(report, "LINE_EVERY", 1000.0)
    assert shown(ended(lines=20, confirmed=20), 20, terminal=False) == ""
