"""`python -m tests.benchmarks.side_by_side`: mqkit and its peers, side by side on one broker.

`make bench` makes what it needs and runs it. It wants a machine to itself for some 20 minutes.

Exit codes: 0 all was measured; 1 a system or the broker failed; 2 it was called wrongly.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from mqkit.errors import BrokerError, ConfigurationError, MqkitError
from mqkit.testing.brokers.finder import find_brokers, start
from tests.benchmarks.side_by_side.chart import chart
from tests.benchmarks.side_by_side.machine import BUSY, machine
from tests.benchmarks.side_by_side.registry import GO, build_go, check_python, entries
from tests.benchmarks.side_by_side.report import BEGIN, END, Report
from tests.benchmarks.side_by_side.room import Room, own_vhost
from tests.benchmarks.side_by_side.rounds import Plan, describe, measure_all
from tests.conformance.suite.table import put_into

DONE, FAILED, WRONG = 0, 1, 2

WIDTH = 200
"""Columns of the table where it is not printed to a terminal."""

errors = Console(stderr=True, soft_wrap=True, highlight=False)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure as the arguments say; returns the exit code."""
    options = _parser().parse_args(argv)
    try:
        report = _run(options)
    except ConfigurationError as error:
        _say(str(error))
        return WRONG
    except (BrokerError, MqkitError) as error:
        _say(str(error))
        return FAILED
    _tell(report, options)
    return DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.side_by_side",
        description="mqkit and its peers, side by side on one broker.",
    )
    parser.add_argument("--rounds", type=int, default=3, help="(%(default)s)")
    parser.add_argument(
        "--seconds", type=float, default=5.0, help="of each run, roughly (%(default)s)"
    )
    parser.add_argument(
        "--messages", type=int, default=0, help="of each run, instead of what --seconds gives"
    )
    parser.add_argument("--systems", type=_listed, default=[], metavar="A,B", help="only these")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write all figures there")
    parser.add_argument("--svg", type=Path, metavar="PATH", help="draw the rates there")
    parser.add_argument(
        "--into", type=Path, metavar="FILE", help="put the table between the marks of this file"
    )
    return parser


def _listed(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _run(options: argparse.Namespace) -> Report:
    chosen = entries(options.systems)
    check_python()
    missing = []
    if any(entry.name == GO for entry in chosen) and (why := build_go()):
        if options.systems:
            raise ConfigurationError(f"the Go client cannot be measured: {why}")
        missing.append(f"the Go client, the bound: {why}")
        chosen = [entry for entry in chosen if entry.name != GO]
    where = machine()
    if float(str(where["load_before"])) > BUSY:
        _say(f"THIS MACHINE IS BUSY: load {where['load_before']}; the figures are not to be used")
    rows = {entry.name: describe(entry) for entry in chosen}
    plan = Plan(options.rounds, options.seconds, options.messages)
    began = time.monotonic()
    with start(find_brokers(os.environ)[0]) as broker:
        _say(f"{broker.server}, {len(chosen)} systems, {options.rounds} rounds")
        with own_vhost(broker) as url:
            measure_all(chosen, rows, Room(broker, url), plan, _say)
        server = broker.server
    _say(f"{time.monotonic() - began:.0f} s")
    return Report(rows, where, server, options.rounds, _command(options), missing)


def _command(options: argparse.Namespace) -> str:
    """What measures the same again; where it was written to is left out."""
    words = ["--rounds", str(options.rounds)]
    words += ["--messages", str(options.messages)] if options.messages else []
    words += [] if options.messages else ["--seconds", f"{options.seconds:g}"]
    words += ["--systems", ",".join(options.systems)] if options.systems else []
    return f"python -m tests.benchmarks.side_by_side {shlex.join(words)}"


def _tell(report: Report, options: argparse.Namespace) -> None:
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    console.print(report.table())
    for text in (
        report.told_ratios(),
        report.told_origin(),
        *report.told_settings(),
        *([report.told_missing()] if report.missing else []),
    ):
        console.print(escape(text), soft_wrap=True, highlight=False)
    if options.svg is not None:
        title = f"Messages in a second, {report.broker}, quorum queue"
        options.svg.write_text(chart(list(report.rows.values()), title), encoding="utf-8")
    if options.into is not None:
        picture = ""
        if options.svg is not None:
            picture = os.path.relpath(options.svg, options.into.parent)
        put_into(options.into, report.markdown(picture), BEGIN, END)
    if options.json is not None:
        options.json.write_text(json.dumps(report.plain(), indent=1) + "\n", encoding="utf-8")


def _say(text: str) -> None:
    errors.print(escape(text))


if __name__ == "__main__":
    sys.exit(main())
