"""`python -m tests.benchmarks.large`: many handlers, many messages, large bodies, many delays.

    python -m tests.benchmarks.large --only backlog,processes --json PATH
    python -m tests.benchmarks.large --only delays --messages 20000

In full it takes about an hour, and some GiB of the broker's disk. Each process that is measured
is one of its own; the broker is what `mqkit.testing.brokers.finder` finds.

Exit codes: 0 all was measured; 1 a process or the broker failed; 2 it was called wrongly.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mqkit.errors import ConfigurationError, MqkitError
from mqkit.testing.brokers.finder import find_brokers, start
from tests.benchmarks.large.cases import CASES, Bench, Result
from tests.benchmarks.side_by_side.machine import machine
from tests.benchmarks.side_by_side.room import Room, own_vhost

DONE, FAILED, WRONG = 0, 1, 2

WIDTH = 160
"""Columns of the table where it is not printed to a terminal."""

errors = Console(stderr=True, soft_wrap=True, highlight=False)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure as the arguments say; returns the exit code."""
    options = _parser().parse_args(argv)
    results: list[Result] = []
    try:
        chosen = _chosen(options.only)
        with start(find_brokers(os.environ)[0]) as broker, own_vhost(broker) as url:
            where = {"broker": broker.server, **machine()}
            for name in chosen:
                for result in CASES[name](Bench(Room(broker, url), options.messages)):
                    results.append(result)
                    errors.print(escape(f"{result.case}: {result.what}: {result.text}"))
    except ConfigurationError as error:
        errors.print(escape(str(error)))
        return WRONG
    except MqkitError as error:
        errors.print(escape(str(error)))
        return FAILED
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    console.print(_table(results, where))
    if options.json is not None:
        report = {"machine": where, "rows": [result.plain() for result in results]}
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.large",
        description="What many and large do to rate and memory.",
    )
    parser.add_argument(
        "--only", type=_listed, default=list(CASES), metavar="A,B", help=f"of {', '.join(CASES)}"
    )
    parser.add_argument(
        "--messages", type=int, default=0, help="in each case, instead of its own number"
    )
    parser.add_argument("--json", type=Path, metavar="PATH", help="write all figures there")
    return parser


def _listed(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _chosen(names: Sequence[str]) -> list[str]:
    for name in names:
        if name not in CASES:
            raise ConfigurationError(f"no case {name!r}; there are {', '.join(CASES)}")
    return [name for name in CASES if name in names]


def _table(results: Sequence[Result], where: dict[str, object]) -> Table:
    caption = ", ".join(f"{name} {value}" for name, value in where.items())
    table = Table("case", "what", "measured", caption=escape(caption))
    for result in results:
        table.add_row(result.case, escape(result.what), escape(result.text), end_section=True)
    return table


if __name__ == "__main__":
    sys.exit(main())
