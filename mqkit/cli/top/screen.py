"""Draws an overview for a terminal of some size, so that what matters most is on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console, Group, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from mqkit.cli.top.figures import span
from mqkit.cli.top.rows import Row, Table, tables_of
from mqkit.logging.shown import shown
from mqkit.overview.values import Overview

WIDE = 120
"""Columns from which a terminal is shown all columns of the tables."""

TALL = 40
"""Lines from which there is an empty line between two tables."""

WEIGHTS = (2, 2, 2, 1)
"""How many rows a table gets before the next one does, in the order of `tables_of`."""

MOST_PROBLEMS = 3


@dataclass(frozen=True, slots=True)
class Staleness:
    """Says that the figures are old: there is no connection to the broker."""

    seconds: float


def screen(
    overview: Overview,
    width: int,
    height: int | None,
    stale: Staleness | None = None,
) -> RenderableType:
    """Draw an overview for a screen, or, where `height` is None, on as many lines as it needs.

    :param stale: how old the figures are, where the broker cannot be reached
    """
    head = _head(overview, stale)
    tables = tables_of(overview)
    gap = 1 if height is None or height >= TALL else 0
    if height is None:
        allotted = [len(table.rows) for table in tables]
    else:
        fixed = len(head) + len(tables) * (1 + gap)
        allotted = allot([len(table.rows) for table in tables], WEIGHTS, height - fixed)
    parts: list[RenderableType] = [*head]
    for table, rows in zip(tables, allotted, strict=True):
        parts += [Text("")] * gap
        parts.append(_drawn(table, rows, width, is_stale=stale is not None))
    return Group(*parts)


def allot(needs: Sequence[int], weights: Sequence[int], lines: int) -> list[int]:
    """Share lines among tables in turns, until all have what they need or none is left.

    :param weights: how many each gets in its turn
    """
    given = [0] * len(needs)
    left = max(lines, 0)
    while left and given != list(needs):
        for number, (need, weight) in enumerate(zip(needs, weights, strict=True)):
            more = min(weight, need - given[number], left)
            given[number] += more
            left -= more
    return given


def _head(overview: Overview, stale: Staleness | None) -> list[Text]:
    processes = [each for service in overview.services for each in service.processes]
    silent = sum(each.is_silent for each in processes)
    line = Text("mqkit top", style="bold", no_wrap=True, overflow="ellipsis")
    line.append(f"  {overview.at:%H:%M:%S} UTC", style="not bold")
    line.append(f"  {shown(overview.server) or 'no broker'}", style="not bold")
    line.append(f"  services: {len(overview.services)}", style="not bold")
    line.append(f"  processes: {len(processes)}", style="not bold")
    if silent:
        line.append(f" ({silent} silent)", style="bold red")
    lines = [line]
    if stale is not None:
        text = f"RECONNECTING: these figures are stale, from {span(stale.seconds)} ago"
        lines.append(_line(text, "bold reverse"))
    problems = list(overview.problems)
    lines += [_line(f"! {shown(each)}", "yellow") for each in problems[:MOST_PROBLEMS]]
    if len(problems) > MOST_PROBLEMS:
        lines.append(_line(f"! and {len(problems) - MOST_PROBLEMS} more", "yellow"))
    if not overview.services:
        lines.append(
            _line("no service has said anything: `mqkit run` does so every two seconds", "")
        )
    return lines


def _line(text: str, style: str) -> Text:
    return Text(text, style=style, no_wrap=True, overflow="ellipsis")


def _drawn(table: Table, rows: int, width: int, *, is_stale: bool) -> RichTable:
    kept = [n for n, c in enumerate(table.columns) if width >= WIDE or not c.is_wide]
    drawn = RichTable(
        box=None, padding=(0, 1, 0, 0), expand=True, header_style="bold underline", show_edge=False
    )
    hidden = len(table.rows) - rows
    for number in kept:
        column = table.columns[number]
        title = column.title
        if number == 0:
            title += f" ({rows} of {len(table.rows)})" if hidden else f" ({rows})"
        drawn.add_column(
            Text(title),
            justify="right" if column.is_number else "left",
            ratio=column.share or None,
            # Of a column with a share this is the least that it gets.
            width=min(len(title), width // 3) if column.share else None,
            no_wrap=True,
            overflow="ellipsis",
        )
    for row in table.rows[:rows]:
        # Text, and not markup: names of queues may have brackets.
        drawn.add_row(*(Text(row.cells[n]) for n in kept), style=_style(row, is_stale=is_stale))
    return drawn


def _style(row: Row, *, is_stale: bool) -> str:
    if is_stale:
        return "dim"
    return "yellow" if row.is_alarming else ""


def printed(overview: Overview, console: Console) -> None:
    """Print an overview once, with all of its rows."""
    console.print(screen(overview, console.width, None))
