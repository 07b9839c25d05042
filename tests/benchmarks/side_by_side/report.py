"""A run's results: as a table on a terminal, as Markdown, and as an object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rich.markup import escape
from rich.table import Table

from tests.benchmarks.side_by_side.figures import FIGURES, Row, ratios

BEGIN = "<!-- bench:begin -->"
END = "<!-- bench:end -->"


def terminal_table(rows: Sequence[Row], figures: Mapping[str, str], title: str) -> Table:
    """Rows of figures for a terminal, under their headings."""
    table = Table("system", title=title)
    for heading in figures.values():
        table.add_column(heading, justify="right")
    for row in rows:
        cells = [cell.replace(" (", "\n(") for cell in _cells(row, figures)]
        table.add_row(escape(row.title), *cells, end_section=True)
    return table


def markdown_table(rows: Sequence[Row], figures: Mapping[str, str]) -> list[str]:
    """The lines of the same for a page."""
    heading = ["system", *figures.values()]
    lines = [f"| {' | '.join(heading)} |", f"| --- |{' ---: |' * len(figures)}"]
    return lines + [f"| {' | '.join([row.title, *_cells(row, figures)])} |" for row in rows]


def told_machine(where: Mapping[str, object]) -> str:
    """The machine in words."""
    return (
        f"{where['cpu']}, {where['cores']} cores, {where['memory_gib']} GiB, {where['kernel']}; "
        f"load before: {where['load_before']}"
    )


def _cells(row: Row, figures: Mapping[str, str]) -> list[str]:
    spreads = [row.spread(name) for name in figures]
    return ["-" if spread is None else str(spread) for spread in spreads]


@dataclass(frozen=True)
class Report:
    """What was measured, and where."""

    rows: dict[str, Row]
    machine: Mapping[str, object]
    broker: str
    rounds: int
    command: str
    missing: list[str] = field(default_factory=list)
    """Systems that could not be had, and why."""

    @property
    def versions(self) -> dict[str, str]:
        """The broker's, Python's and each package's."""
        found = {"broker": self.broker}
        for row in self.rows.values():
            found |= row.versions
        return found

    def plain(self) -> dict[str, object]:
        """For JSON."""
        return {
            "machine": dict(self.machine),
            "versions": self.versions,
            "rounds": self.rounds,
            "rows": [row.plain() for row in self.rows.values()],
            "ratios": ratios(self.rows),
            "missing": self.missing,
        }

    def table(self) -> Table:
        """For a terminal."""
        title = f"{self.broker}, median (range) of {self.rounds} rounds"
        return terminal_table(list(self.rows.values()), FIGURES, title)

    def markdown(self, picture: str = "") -> str:
        """For the page: the picture, the table, and what a reader must know to believe it."""
        lines = markdown_table(list(self.rows.values()), FIGURES)
        shown = [f"![Messages in a second, by system]({picture})", ""] if picture else []
        told = [self.told_missing()] if self.missing else []
        table, settings = "\n".join([*shown, *lines]), "\n".join(self.told_settings())
        return "\n\n".join([table, *told, self.told_ratios(), self.told_origin(), settings])

    def told_missing(self) -> str:
        """What is not in the table, loudly."""
        return f"**NOT MEASURED: {'; '.join(self.missing)}.**"

    def told_ratios(self) -> str:
        """The ratios in words."""
        titles = {
            "publish_to_faststream": "publishes {:.1f} times as fast as FastStream",
            "publish_to_go": "publishes at {:.0%} of the Go client's rate",
            "publish_to_raw_pika": "publishes at {:.0%} of raw pika's rate",
            "handled_to_faststream": "handles {:.1f} times as fast as FastStream",
            "handled_to_go": "handles at {:.0%} of the Go client's rate",
            "handled_to_raw_pika": "handles at {:.0%} of raw pika's rate",
            "p99_at_peer_rate_to_faststream": "has {:.1%} of FastStream's p99 latency at half of "
            "FastStream's peak",
        }
        told = [titles[name].format(value) for name, value in ratios(self.rows).items()]
        return f"By these medians, mqkit {'; '.join(told)}." if told else ""

    def told_origin(self) -> str:
        """Where and how it was measured."""
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        return (
            "Every message is published to a durable quorum queue, persistent and confirmed, with "
            "a JSON body of 256 bytes that is validated into a model before it is handled and "
            "acked; prefetch 200, one process. The queue is filled before it is consumed. Latency "
            "is from publish to handler, between two processes, at half of the system's own peak "
            "(the lower of its two rates), or of FastStream's. Memory, processor time and start "
            "are the consumer's. "
            f"Median (range) of {self.rounds} rounds in turn, all on one {self.broker} on the same "
            f"machine: {told_machine(self.machine)}. "
            f"Versions: {versions.partition(', ')[2]}. Made by `{self.command}`."
        )

    def told_settings(self) -> list[str]:
        """How each system was set up."""
        lines = []
        for row in self.rows.values():
            notes = f" Note: {'; '.join(row.notes)}." if row.notes else ""
            size = f"{row.messages:,} messages a run, {row.body_bytes} bytes a body"
            lines.append(f"- {row.title}: {row.settings} {size}.{notes}")
        return lines
