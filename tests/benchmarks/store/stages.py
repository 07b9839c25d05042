"""Where the microseconds of one message go, as differences between handlers that do more and more.

No profiler runs, which would distort what is made of many small calls. What is told is processor
time: of the service's process, and of the database's server.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rich.table import Table

from tests.benchmarks.side_by_side.figures import Row

STEPS = (
    ("receive, decode, dispatch and ack, without a store", "no-store", "cpu_us"),
    ("the transaction: claim in the inbox, states, commit", "claim", "cpu_us"),
    ("the handler's INSERT, by SQLAlchemy", "insert", "cpu_us"),
    ("the publish: its row in the outbox", "plain", "cpu_us"),
    ("the relay: reading, publishing, taking out", "plain", "relayed_cpu_us"),
)
"""Each stage is the difference between a handler's figure and the one before it."""

SERVER = {"cpu_us": "server_us", "relayed_cpu_us": "relayed_server_us"}

TOLD = (
    "Processor time for a message, plain handlers on PostgreSQL: differences between the medians "
    "of handlers that do more and more, so that a small stage may come out below nothing."
)

COLUMNS = {"before": "before", "now": "now"}


@dataclass(frozen=True)
class Stage:
    """Microseconds for a message in one stage; None where it was not measured."""

    what: str
    before: float | None
    now: float | None


class Stages:
    """The stages of plain handlers on PostgreSQL, as far as they were measured."""

    def __init__(self, rows: Mapping[str, Row]) -> None:
        """Take what was measured of the systems."""
        self._rows = rows

    def own(self) -> list[Stage]:
        """Those of the service's process."""
        return self._of({"cpu_us": "cpu_us", "relayed_cpu_us": "relayed_cpu_us"})

    def server(self) -> list[Stage]:
        """Those of the database's server."""
        return self._of(SERVER)

    def plain(self) -> dict[str, object]:
        """For JSON."""
        return {
            name: [{"what": each.what, "before": each.before, "now": each.now} for each in stages]
            for name, stages in (("service", self.own()), ("server", self.server()))
        }

    def tables(self) -> list[Table]:
        """For a terminal; none where no stage was measured."""
        tables = []
        for title, stages in self._titled().items():
            table = Table(title, title="Microseconds of processor time a message, PostgreSQL")
            for heading in COLUMNS.values():
                table.add_column(heading, justify="right")
            for each in stages:
                table.add_row(each.what, _shown(each.before), _shown(each.now))
            tables.append(table)
        return tables

    def markdown(self) -> list[str]:
        """For the page."""
        titled = self._titled()
        if not titled:
            return []
        parts = ["### Where the microseconds of one message go"]
        for title, stages in titled.items():
            lines = [f"| {title} | before | now |", "| --- | ---: | ---: |"]
            lines += [f"| {s.what} | {_shown(s.before)} | {_shown(s.now)} |" for s in stages]
            parts.append("\n".join(lines))
        return [
            *parts,
            TOLD,
        ]

    def _titled(self) -> dict[str, list[Stage]]:
        found = {"of the service": self.own(), "of PostgreSQL": self.server()}
        return {title: stages for title, stages in found.items() if stages}

    def _of(self, figures: Mapping[str, str]) -> list[Stage]:
        columns = {}
        for column, system in (("before", "before"), ("now", "stage")):
            plain = "mqkit-before" if column == "before" else "mqkit"
            values = []
            for _, kind, figure in STEPS:
                row = self._rows.get(plain if kind == "plain" else f"{system}-{kind}")
                # Without a store the server has nothing to do.
                none = 0.0 if row is not None and kind == "no-store" else None
                value = None if row is None else row.median(figures[figure])
                values.append(none if value is None else value)
            columns[column] = values
        if not any(value for values in columns.values() for value in values[:3]):
            return []
        differences = {name: _differences(values) for name, values in columns.items()}
        names = [what for what, _, _ in STEPS]
        pairs = zip(names, differences["before"], differences["now"], strict=True)
        stages = [Stage(*pair) for pair in pairs]
        return [*stages, Stage("all", columns["before"][-1], columns["now"][-1])]


def _differences(values: list[float | None]) -> list[float | None]:
    found, last = [], 0.0 if values else None
    for value in values:
        found.append(None if value is None or last is None else value - last)
        last = value
    return found


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"
