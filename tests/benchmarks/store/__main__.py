"""`python -m tests.benchmarks.store`: what effects once cost, beside loops by hand and peers.

    python -m tests.benchmarks.store --systems hand,mqkit --rounds 5 --json PATH
    python -m tests.benchmarks.store --before 6505717 --systems mqkit,mqkit-before

`make bench-store` makes what it needs and runs it. It wants a machine to itself for half an hour.

Exit codes: 0 all was measured; 1 a system, the broker or the database failed; 2 it was called
wrongly.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from mqkit.errors import ConfigurationError, MqkitError
from mqkit.testing.brokers.finder import find_brokers
from mqkit.testing.brokers.finder import start as start_broker
from tests.benchmarks.side_by_side.chart import chart
from tests.benchmarks.side_by_side.figures import Row
from tests.benchmarks.side_by_side.machine import BUSY, machine
from tests.benchmarks.side_by_side.registry import PYTHON, ROOT
from tests.benchmarks.side_by_side.room import Room, own_vhost
from tests.benchmarks.store.databases import Databases
from tests.benchmarks.store.earlier import earlier_package, named
from tests.benchmarks.store.registry import Entry, Kind, entries, on
from tests.benchmarks.store.report import BEGIN, DATABASES, END, Report
from tests.benchmarks.store.rounds import LATENCY_SECONDS, STEP, Bench, Plan, describe, measure_all
from tests.conformance.suite.table import put_into
from tests.postgres import find_postgres
from tests.postgres import start as start_postgres

DONE, FAILED, WRONG = 0, 1, 2

WIDTH = 200
"""Columns of the tables where they are not printed to a terminal."""

SERIES = {
    "relayed_per_s": ("handled and relayed", "#2f81f7"),
    "per_s": ("handled, acked", "#db8a26"),
}
LEFT = 290
"""Pixels of the chart for the systems' names."""

errors = Console(stderr=True, soft_wrap=True, highlight=False)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure as the arguments say; returns the exit code."""
    options = _parser().parse_args(argv)
    try:
        _check(options)
        report = _run(options)
    except ConfigurationError as error:
        _say(str(error))
        return WRONG
    except MqkitError as error:
        _say(str(error))
        return FAILED
    _tell(report, options)
    return DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.store",
        description="What effects once cost, beside loops by hand and peers.",
        allow_abbrev=False,
    )
    parser.add_argument("--rounds", type=int, default=3, help="(%(default)s)")
    parser.add_argument(
        "--seconds", type=float, default=4.0, help="of each run, roughly (%(default)s)"
    )
    parser.add_argument("--messages", type=int, help="of each run, instead of what --seconds gives")
    parser.add_argument(
        "--latency-seconds",
        type=float,
        default=LATENCY_SECONDS,
        help="of publishing at 100 a second (%(default)s)",
    )
    parser.add_argument("--systems", type=_listed, metavar="A,B", help="only these")
    parser.add_argument(
        "--before", metavar="REV", help="measure mqkit as it was at this commit, too"
    )
    parser.add_argument("--json", type=Path, metavar="PATH", help="write all figures there")
    parser.add_argument(
        "--svg", type=Path, metavar="PATH", help="draw the rates there; SQLite's beside it"
    )
    parser.add_argument(
        "--into", type=Path, metavar="FILE", help="put the tables between the marks of this file"
    )
    return parser


def _listed(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _check(options: argparse.Namespace) -> None:
    """Refuse what would be noticed only after half an hour.

    :raises ConfigurationError: an option cannot be what it was given
    """
    if options.systems is not None and not options.systems:
        raise ConfigurationError("--systems names no system")
    if options.rounds < 1:
        raise ConfigurationError(f"--rounds takes 1 or more, not {options.rounds}")
    if options.messages is not None and (options.messages < STEP or options.messages % STEP):
        raise ConfigurationError(
            f"--messages takes a multiple of {STEP}, which a batch is of, not {options.messages}"
        )
    for name in ("seconds", "latency_seconds"):
        if not 0 < (value := getattr(options, name)) < 3600:
            option = f"--{name.replace('_', '-')}"
            raise ConfigurationError(
                f"{option} takes more than 0 and less than 3600, not {value:g}"
            )
    _check_paths(options)


def _check_paths(options: argparse.Namespace) -> None:
    for name in ("json", "svg"):
        path: Path | None = getattr(options, name)
        if path is not None and not path.absolute().parent.is_dir():
            raise ConfigurationError(f"--{name} {path}: there is no folder {path.parent}")
    if options.into is not None:
        if not options.into.is_file():
            raise ConfigurationError(f"--into {options.into}: there is no such file")
        text = options.into.read_text(encoding="utf-8")
        if not (text.count(BEGIN) == text.count(END) == 1):
            raise ConfigurationError(f"--into {options.into}: {BEGIN} and {END} must be there once")


def _run(options: argparse.Namespace) -> Report:
    chosen = entries(options.systems or (), before=options.before is not None)
    before = "" if options.before is None else named(options.before)
    if not PYTHON.exists():
        raise ConfigurationError(
            f"there is no {PYTHON.relative_to(ROOT)}: `make bench-store` makes it"
        )
    where = machine()
    if float(str(where["load_before"])) > BUSY:
        _say(f"THIS MACHINE IS BUSY: load {where['load_before']}; the figures are not to be used")
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        tree = stack.enter_context(earlier_package(before)) if before else None
        rows, missing = _described(
            [on(entry, tree) for entry in chosen], named=bool(options.systems)
        )
        left = [on(entry, tree) for entry in chosen if entry.name in rows]
        server = None
        if any(entry.database == "postgres" for entry in left):
            server = stack.enter_context(start_postgres(find_postgres(os.environ)))
        broker = stack.enter_context(start_broker(find_brokers(os.environ)[0]))
        _say(f"{broker.server}, {len(left)} systems, {options.rounds} rounds")
        room = Room(broker, stack.enter_context(own_vhost(broker)))
        plan = Plan(options.rounds, options.seconds, options.messages or 0, options.latency_seconds)
        measure_all(left, rows, Bench(room, Databases(server)), plan, _say)
        postgres = "" if server is None else server.version
        broker_name = broker.server
    _say(f"{time.monotonic() - began:.0f} s")
    return Report(
        rows, where, broker_name, postgres, before, options.rounds, _command(options), missing
    )


def _described(chosen: Sequence[Entry], *, named: bool) -> tuple[dict[str, Row], list[str]]:
    """Rows without figures, and what must be left out, and why.

    :param named: whether the systems were asked for by their names
    :raises ConfigurationError: one that was asked for by name cannot be measured
    """
    rows, missing = {}, []
    for entry in chosen:
        row, why = describe(entry)
        if not why:
            rows[entry.name] = row
        elif named:
            raise ConfigurationError(f"{entry.name} cannot be measured: {why}")
        else:
            _say(f"NOT MEASURED: {entry.title}: {why}")
            missing.append(f"{entry.title}: {why}")
    return rows, missing


def _command(options: argparse.Namespace) -> str:
    """What measures the same again; where it was written to is left out."""
    words = ["--rounds", str(options.rounds)]
    words += ["--messages", str(options.messages)] if options.messages else []
    words += [] if options.messages else ["--seconds", f"{options.seconds:g}"]
    words += ["--before", options.before] if options.before else []
    words += ["--systems", ",".join(options.systems)] if options.systems else []
    return f"python -m tests.benchmarks.store {shlex.join(words)}"


def _tell(report: Report, options: argparse.Namespace) -> None:
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    for table in report.tables():
        console.print(table)
    told = (report.told_ratios(), report.told_origin(), *report.told_settings())
    for text in filter(None, (*told, report.told_missing())):
        console.print(escape(text), soft_wrap=True, highlight=False)
    pictures = {} if options.svg is None else _draw(report, options.svg)
    if options.into is not None:
        relative = {
            kind: os.path.relpath(path, options.into.parent) for kind, path in pictures.items()
        }
        put_into(options.into, report.markdown(relative), BEGIN, END)
    if options.json is not None:
        options.json.write_text(json.dumps(report.plain(), indent=1) + "\n", encoding="utf-8")


def _draw(report: Report, path: Path) -> dict[Kind, Path]:
    """A chart for each database that was measured."""
    drawn: dict[Kind, Path] = {}
    for kind, name in DATABASES.items():
        if rows := report.of(kind):
            end = "" if kind == "postgres" else f"-{kind}"
            drawn[kind] = path.with_stem(path.stem + end)
            drawing = chart(rows, f"Messages in a second on {name}", SERIES, LEFT)
            drawn[kind].write_text(drawing, encoding="utf-8")
    return drawn


def _say(text: str) -> None:
    errors.print(escape(text))


if __name__ == "__main__":
    sys.exit(main())
