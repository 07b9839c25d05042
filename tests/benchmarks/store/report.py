"""A run's results: as tables on a terminal, as Markdown, and as an object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.table import Table

from tests.benchmarks.side_by_side.figures import Row
from tests.benchmarks.side_by_side.report import markdown_table, terminal_table, told_machine
from tests.benchmarks.store.registry import ENTRIES, Kind
from tests.benchmarks.store.rounds import RATE, SKIPPED_SECONDS
from tests.benchmarks.store.stages import Stages

BEGIN = "<!-- bench-store:begin -->"
END = "<!-- bench-store:end -->"

FIGURES = {
    "per_s": "handled, acked /s",
    "relayed_per_s": "handled and relayed /s",
    "drained_per_s": "relay alone /s",
    "cpu_us": "CPU µs a message",
    "server_us": "PostgreSQL's CPU µs",
    "relayed_cpu_us": "CPU µs with the relay",
    "rss_mib": "memory MiB",
}
"""What a table shows, and its heading."""

LATENCIES = {"p50_ms": "p50 ms", "p99_ms": "p99 ms"}

DATABASES: dict[Kind, str] = {"postgres": "PostgreSQL", "sqlite": "SQLite"}

LATENCY_TOLD = (
    "From the publish in one process until the message is committed and its ack is written in "
    f"another, which also relays; the first {SKIPPED_SECONDS:g} s are not counted."
)

WORK_TOLD = (
    "Each message has a JSON body of 256 bytes, is published to a durable quorum queue, persistent "
    "and confirmed, before the clock starts, and is validated into a model; each run has a queue "
    "and a database of its own. The time is from the first call of a handler until the last ack "
    "is written, which is after its commit; of the loops by hand, FastStream and Celery until the "
    "last commit. With the relay, it ends when the outbox is empty; what is published goes to a "
    "quorum queue. The relay alone publishes what the run before has left in the outbox. "
    "Connections to the database are made within the time. After each run the rows, and what was "
    "published, are counted: each once. Processor time is the measured process's, and that of all "
    "of PostgreSQL's processes. FastStream and Celery have no inbox and no outbox: what they do is "
    "the INSERT alone, a message that comes twice has its effect twice, and nothing is published."
)

RATIOS = {
    "plain_to_hand": ("per_s", "mqkit", "hand", "plain handlers {:.2f} times the loop by hand"),
    "plain_to_before": ("per_s", "mqkit", "mqkit-before", "{:.1f} times those of before"),
    "driver_to_hand": (
        *("per_s", "mqkit-driver", "hand"),
        "with the INSERT by the driver {:.2f} times the loop by hand",
    ),
    "add_to_hand": (
        *("per_s", "mqkit-add", "hand"),
        "with transaction.add {:.2f} times the loop by hand",
    ),
    "batch_to_hand": ("per_s", "mqkit-batch", "hand", "batches {:.2f} times the loop by hand"),
    "batch_to_own": (
        *("per_s", "mqkit-batch", "hand-own"),
        "batches {:.0%} of a hundred by hand whose own INSERTs are single",
    ),
    "batch_bulk_to_hand": (
        *("per_s", "mqkit-batch-bulk", "hand"),
        "batches with one INSERT {:.2f} times the loop by hand",
    ),
    "batch_bulk_to_bulk": (
        *("per_s", "mqkit-batch-bulk", "hand-bulk"),
        "batches with one INSERT {:.0%} of all in bulk",
    ),
    "batch_add_to_bulk": (
        *("per_s", "mqkit-batch-add", "hand-bulk"),
        "batches with transaction.add {:.0%} of all in bulk",
    ),
    "sqlite_to_before": (
        *("per_s", "mqkit-sqlite", "mqkit-before-sqlite"),
        "plain handlers on SQLite {:.1f} times those of before",
    ),
    "p50_to_before": ("p50_ms", "mqkit", "mqkit-before", "a p50 {:.2f} times that of before"),
    "p99_to_before": ("p99_ms", "mqkit", "mqkit-before", "a p99 {:.2f} times that of before"),
    "plain_to_faststream": ("per_s", "mqkit", "faststream", "{:.1f} times FastStream"),
    "plain_to_celery": ("per_s", "mqkit", "celery", "{:.1f} times Celery"),
}
"""Which figure of which system is divided by that of which other one, and the words for it."""


def ratios(rows: Mapping[str, Row]) -> dict[str, float]:
    """The quotients of medians, as far as they were measured."""
    found = {}
    for name, (figure, one, other, _) in RATIOS.items():
        if one in rows and other in rows:
            mine, theirs = rows[one].median(figure), rows[other].median(figure)
            if mine is not None and theirs:
                found[name] = mine / theirs
    return found


@dataclass(frozen=True)
class Report:
    """What was measured, and where."""

    rows: dict[str, Row]
    machine: Mapping[str, object]
    broker: str
    postgres: str
    before: str
    """The commit that is called before; nothing where none was measured."""
    rounds: int
    command: str
    missing: list[str]
    """Systems that were left out, and why."""

    @property
    def versions(self) -> dict[str, str]:
        """Python's and each package's."""
        found: dict[str, str] = {}
        for row in self.rows.values():
            found |= row.versions
        return found

    def of(self, database: Kind) -> list[Row]:
        """The rows of the table of one database; the stages have their own."""
        chosen = [e for e in ENTRIES if e.database == database and e.group != "stages"]
        return [self.rows[entry.name] for entry in chosen if entry.name in self.rows]

    def plain(self) -> dict[str, object]:
        """For JSON."""
        return {
            "machine": dict(self.machine),
            "broker": self.broker,
            "postgres": self.postgres,
            "before": self.before,
            "versions": self.versions,
            "rounds": self.rounds,
            "rows": [row.plain() for row in self.rows.values()],
            "ratios": ratios(self.rows),
            "stages": Stages(self.rows).plain(),
            "missing": self.missing,
        }

    def tables(self) -> list[Table]:
        """For a terminal."""
        tables = []
        for database, title in DATABASES.items():
            if rows := self.of(database):
                figures = _measured(rows, FIGURES)
                told = f"{title}, median (range) of {self.rounds} rounds"
                tables.append(terminal_table(rows, figures, told))
        if rows := self._with_latency():
            tables.append(terminal_table(rows, LATENCIES, f"Latency at {RATE:g} a second"))
        return [*tables, *Stages(self.rows).tables()]

    def markdown(self, pictures: Mapping[Kind, str]) -> str:
        """For the page: pictures, tables, and what a reader must know to believe them."""
        parts = [self.told_missing(), self.told_ratios()]
        for database, title in DATABASES.items():
            if rows := self.of(database):
                parts.append(f"### {title}")
                if picture := pictures.get(database):
                    parts.append(f"![Messages in a second on {title}, by system]({picture})")
                parts.append("\n".join(markdown_table(rows, _measured(rows, FIGURES))))
        if rows := self._with_latency():
            table = "\n".join(markdown_table(rows, LATENCIES))
            parts += [f"### Latency at {RATE:g} messages a second", table, LATENCY_TOLD]
        parts += Stages(self.rows).markdown()
        parts += ["### How it was measured", self.told_origin(), "\n".join(self.told_settings())]
        return "\n\n".join(filter(None, parts))

    def told_missing(self) -> str:
        """What is not in the tables, loudly."""
        return f"**NOT MEASURED: {'; '.join(self.missing)}.**" if self.missing else ""

    def told_ratios(self) -> str:
        """The ratios in words."""
        told = [RATIOS[name][3].format(value) for name, value in ratios(self.rows).items()]
        return (
            f"By the medians, on PostgreSQL where no other is named: {'; '.join(told)}."
            if told
            else ""
        )

    def told_origin(self) -> str:
        """Where and how it was measured."""
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        before = (
            f" Before is commit {self.before[:7]}, run from its own files." if self.before else ""
        )
        databases = (
            f"PostgreSQL {self.postgres} as it is installed (fsync on)" if self.postgres else ""
        )
        on = " and ".join(filter(None, [self.broker, databases]))
        return (
            f"{WORK_TOLD}{before} Median (range) of {self.rounds} rounds, the systems in turn and "
            f"every second round in the opposite order, on {on}, all on one machine: "
            f"{told_machine(self.machine)}. Versions: {versions}. Made by `{self.command}`."
        )

    def told_settings(self) -> list[str]:
        """How each system was set up."""
        return [
            f"- {row.title}: {row.settings} {row.messages:,} messages a run."
            for row in self.rows.values()
        ]

    def _with_latency(self) -> list[Row]:
        return [row for row in self.rows.values() if "p50_ms" in row.samples]


def _measured(rows: Sequence[Row], figures: Mapping[str, str]) -> dict[str, str]:
    """The figures that one of the rows has."""
    return {
        name: words for name, words in figures.items() if any(name in row.samples for row in rows)
    }
