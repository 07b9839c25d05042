"""`python -m tests.faults.matrix`: run the rows, and print what held where.

Exit codes: 0 all rows hold; 1 one does not; 2 it was called wrongly, or an image is missing.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mqkit.errors import ConfigurationError
from mqkit.testing.brokers.containers import Engine, EngineError
from tests.faults.matrix.figures import HOLDS, Figures
from tests.faults.matrix.row import LONG_FAULTS, Row, rows
from tests.faults.matrix.side_by_side import run_all
from tests.faults.matrix.worker import Job, image_of
from tests.faults.store_services import COMMITS

DONE, FAILED, WRONG = 0, 1, 2

WIDTH = 150
"""Columns of the table where it is not printed to a terminal."""

errors = Console(stderr=True, soft_wrap=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the matrix as the arguments say; returns the exit code."""
    options = _parser().parse_args(argv)
    try:
        chosen = _chosen(rows(), options.rows, options.brokers)
        _check_images(sorted({broker for _, broker in chosen}))
    except ConfigurationError as error:
        errors.print(escape(str(error)))
        return WRONG
    os.environ["MQKIT_MATRIX_COMMITS"] = options.commits
    directory = options.logs or Path(tempfile.mkdtemp(prefix="mqkit-matrix-"))
    jobs = [
        Job(row, broker, directory / f"{row}-{broker}", options.short, options.faults)
        for row, broker in chosen
    ]
    began = time.monotonic()
    results = run_all(jobs, options.jobs, _tell)
    seconds = time.monotonic() - began
    _print_table(results)
    if options.json is not None:
        report = {
            "form": "short" if options.short else "long",
            "seconds": round(seconds, 1),
            "rows": [figures.plain() for figures in results],
        }
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    failed = [figures for figures in results if figures.verdict != HOLDS]
    if failed:
        errors.print(f"{len(failed)} of {len(results)} do not hold; their logs are in {directory}")
    elif options.logs is None:
        shutil.rmtree(directory)
    return FAILED if failed else DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults.matrix",
        description="What must hold while brokers, networks and workers fail.",
    )
    parser.add_argument(
        "--rows", type=_listed, metavar="A,B", help="their numbers; all of them by default"
    )
    parser.add_argument(
        "--brokers",
        type=_listed,
        metavar="A,B",
        help="versions, such as 4.0,4.3; each row has its own by default",
    )
    parser.add_argument("--short", action="store_true", help="few faults, and waits scaled down")
    parser.add_argument(
        "--faults", type=_positive, help=f"for each row and broker ({LONG_FAULTS} in the long form)"
    )
    parser.add_argument(
        "--commits",
        choices=COMMITS,
        default=COMMITS[0],
        help="how the ledger's messages are committed (%(default)s)",
    )
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the figures there, too")
    parser.add_argument("--logs", type=Path, metavar="DIR", help="keep logs and journals there")
    parser.add_argument("--jobs", type=_positive, default=2, help="rows side by side (%(default)s)")
    return parser


def _listed(text: str) -> list[str]:
    return text.split(",")


def _positive(text: str) -> int:
    if not (text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"a whole number from 1, not {text!r}")
    return int(text)


def _chosen(
    known: Mapping[int, Row], numbers: Sequence[str] | None, brokers: Sequence[str] | None
) -> list[tuple[int, str]]:
    names = {str(number): number for number in known}
    unknown = [name for name in numbers or () if name not in names]
    if unknown:
        raise ConfigurationError(f"no row {', '.join(unknown)}; there are {', '.join(names)}")
    wanted = [known[names[name]] for name in numbers or names]
    found = [
        (row.number, broker)
        for row in wanted
        for broker in row.brokers
        if brokers is None or broker in brokers
    ]
    if numbers is not None and brokers is not None:
        # Asked for by both: also on a version that is not its own.
        found = [(row.number, broker) for row in wanted for broker in brokers]
    if not found:
        raise ConfigurationError(
            f"no row runs on {', '.join(brokers or ())} by default; say --rows"
        )
    return found


def _check_images(brokers: Sequence[str]) -> None:
    try:
        engine = Engine()
    except EngineError as error:
        raise ConfigurationError(f"the matrix runs brokers in containers: {error}") from error
    try:
        missing = [image_of(broker) for broker in brokers if not engine.has(image_of(broker))]
    finally:
        engine.close()
    if missing:
        raise ConfigurationError(
            f"no image {', '.join(missing)} on this machine; docker pull it, or say --brokers"
        )


def _tell(figures: Figures) -> None:
    colour = "green" if figures.verdict == HOLDS else "red"
    errors.print(
        f"row {figures.row:>2} on {figures.broker:<5} [{colour}]{figures.verdict}[/] "
        f"in {figures.seconds:.1f} s",
        highlight=False,
    )
    for problem in figures.problems:
        errors.print(f"    {escape(problem)}", highlight=False)


def _print_table(results: Sequence[Figures]) -> None:
    table = Table()
    for name in ("row", "fault", "broker", "messages", "kills or cuts", "lost", "applied twice"):
        table.add_column(name, justify="left" if name in ("fault", "broker") else "right")
    table.add_column("recovery: median, worst", justify="right")
    table.add_column("verdict")
    for figures in results:
        table.add_row(
            str(figures.row),
            escape(figures.title),
            figures.broker,
            str(figures.messages),
            str(figures.faults),
            str(figures.lost),
            str(figures.twice),
            _recovery(figures),
            f"[{'green' if figures.verdict == HOLDS else 'red'}]{figures.verdict}[/]",
        )
    # A file or a pipe has no width that the table would have to fit into.
    Console(width=None if sys.stdout.isatty() else WIDTH).print(table)


def _recovery(figures: Figures) -> str:
    if figures.median is None or figures.worst is None:
        return "-"
    return f"{figures.median:.1f} s, {figures.worst:.1f} s"


if __name__ == "__main__":
    sys.exit(main())
