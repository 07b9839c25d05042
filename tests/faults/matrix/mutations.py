"""`python -m tests.faults.matrix.mutations`: see that the matrix fails where a promise is broken.

For each mutation, mqkit and its tests are copied, the copy is broken, and the rows that should
see it are run from there, in their short form. Exit codes: 0 each mutation turned a row red, and
without them all rows hold; 1 not so.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from tests.faults.matrix.figures import HOLDS
from tests.faults.matrix.mutants import MUTATIONS, Mutation
from tests.support import ROOT

COPIED = ("mqkit", "tests")

DONE, FAILED = 0, 1

console = Console(soft_wrap=True, highlight=False, markup=False)

LATE = ("a recovery took", "did not happen within", " kills of ", "faults were injected")

LIMIT = 900.0
"""Seconds for the rows of one mutation."""


@dataclass
class Result:
    """What the rows said of one mutation."""

    name: str
    red: dict[int, str] = field(default_factory=dict)
    """Rows that turned red, each with what did not hold."""
    green: list[int] = field(default_factory=list)
    seconds: float = 0.0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the mutations; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults.matrix.mutations",
        description="Break mqkit's promises one at a time, and see which rows turn red.",
    )
    parser.add_argument("--broker", default="4.3", help="the version to run on (%(default)s)")
    parser.add_argument("--jobs", type=int, default=1, help="mutations side by side (%(default)s)")
    parser.add_argument("--only", metavar="WORDS", default="", help="those with it in their name")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the results there, too")
    options = parser.parse_args(argv)
    mutations = [mutation for mutation in MUTATIONS if options.only in mutation.name]
    rows = tuple(sorted({row for mutation in mutations for row in mutation.rows}))
    unbroken = Mutation("(none)", rows, ())
    with ThreadPoolExecutor(options.jobs) as pool:
        running = [pool.submit(run, each, options.broker) for each in (unbroken, *mutations)]
        results = []
        for future in running:
            results.append(future.result())
            _print(results[-1])
    first, *others = results
    unseen = [result.name for result in others if not result.red]
    if options.json is not None:
        options.json.write_text(json.dumps([asdict(each) for each in results], indent=1) + "\n")
    if first.red:
        console.print(f"without a mutation, rows {list(first.red)} do not hold: nothing is shown")
    console.print(f"{len(others) - len(unseen)} of {len(others)} mutations turned a row red")
    for name in unseen:
        console.print(f"not seen by any row: {name}")
    return FAILED if first.red or unseen else DONE


def run(mutation: Mutation, broker: str) -> Result:
    """Break a copy, and run the mutation's rows from it."""
    began = time.monotonic()
    result = Result(mutation.name)
    directory = Path(tempfile.mkdtemp(prefix="mqkit-mutation-"))
    try:
        for name in COPIED:
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, directory / name, ignore=ignored)
        mutation.apply(directory / "mqkit")
        for figures in _figures(directory, mutation, broker):
            number = int(figures["row"])
            if not figures["messages"]:
                # A broker that did not start would look like a promise that was broken.
                raise RuntimeError(f"row {number} did not run: {figures['problems']}")
            broken = _broken(figures) if mutation.edits else figures["problems"]
            if figures["verdict"] != HOLDS and broken:
                result.red[number] = "; ".join(broken)
            else:
                result.green.append(number)
    finally:
        shutil.rmtree(directory)
    result.seconds = round(time.monotonic() - began, 1)
    return result


def _broken(figures: dict[str, Any]) -> list[str]:
    """What did not hold, but for what was only late: that may be this machine's doing."""
    problems: list[str] = figures["problems"]
    return [each for each in problems if not any(words in each for words in LATE)]


def _figures(directory: Path, mutation: Mutation, broker: str) -> list[dict[str, Any]]:
    environment = {**os.environ, "PYTHONPATH": str(directory)}
    report = directory / "report.json"
    _check(directory, environment)
    command = [sys.executable, "-m", "tests.faults.matrix", "--short", "--brokers", broker]
    command += ["--commits", mutation.commits]
    command += ["--rows", ",".join(map(str, mutation.rows)), "--jobs", "1", "--json", str(report)]
    command += ["--logs", str(directory / "logs")]
    done = subprocess.run(
        command,
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    if not report.exists():
        raise RuntimeError(f"the matrix gave no figures: {done.stdout}{done.stderr}")
    found: list[dict[str, Any]] = json.loads(report.read_text())["rows"]
    return found


def _check(directory: Path, environment: dict[str, str]) -> None:
    """See that it is the copy that is imported there."""
    done = subprocess.run(
        [sys.executable, "-c", "import mqkit; print(mqkit.__file__)"],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    if not Path(done.stdout.strip()).is_relative_to(directory):
        raise RuntimeError(f"it is {done.stdout.strip()} that is imported, and not the copy")


def _print(result: Result) -> None:
    console.print(f"{result.name}: {'red' if result.red else 'all hold'} in {result.seconds:.0f} s")
    for number, problem in result.red.items():
        console.print(f"    row {number}: {problem[:300]}")
    if result.green:
        console.print(f"    hold: {', '.join(map(str, result.green))}")


if __name__ == "__main__":
    sys.exit(main())
