"""`python -m tests.simulation.mutations`: how many schedules it takes to see each broken promise.

mqkit and its tests are copied, the copy is broken in one place, and seeds are played from there
until one of them fails. Exit codes: 0 each was seen; 1 not so.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from tests.faults.fuzz.mutants import MUTANTS
from tests.faults.matrix.mutants import MUTATIONS as OF_MATRIX
from tests.faults.matrix.mutants import Edit, Mutation
from tests.support import ROOT

DONE, FAILED = 0, 1

console = Console(soft_wrap=True, highlight=False, markup=False)

COPIED = ("mqkit", "tests")

MOST = 5000
"""Schedules after which a mutation counts as not seen."""

SEEDS = 5

APART = 100_000
"""Between the first seeds of two runs of one mutation."""

AT_A_TIME = 10
"""Schedules between two looks whether one has failed."""

OF_FUZZ = tuple(name for name in MUTANTS if name.startswith("last-resort"))


def _one(name: str, path: str, *edits: tuple[str, str]) -> Mutation:
    return Mutation(name, (), tuple(Edit(path, old, new) for old, new in edits))


MENDED = (
    _one(
        "a batch runs what was given back while it waited",
        "consuming/together/batching.py",
        ("[each for each in together if not (each.is_over or each.delivery.lost)]", "together"),
    ),
    _one(
        "equal keys in two partitions",
        "consuming/ordering.py",
        ("            return canonical(key)\n", "            return str(key)\n"),
        ("str(canonical(key)).encode", "str(key).encode"),
    ),
    _one(
        "acks lost at a stop",
        "consuming/settler.py",
        (
            "        if self._acks is not None:\n            self._write_acks(self._acks)\n",
            "        if self._acks is not None:\n            self._acks.take()\n",
        ),
    ),
    _one(
        "an inbox shared by two services",
        "store/inbox.py",
        ('        "queue": delivery.queue,\n', '        "queue": "",\n'),
        ("    return rows, (handler, ordered[0].queue)\n", '    return rows, (handler, "")\n'),
    ),
    _one(
        "no order within a key of the outbox",
        "store/relay.py",
        ("        if entry.key is None:\n", "        if entry.key is not None or True:\n"),
    ),
    _one(
        "a saga's timeout that fires after its answer",
        "sagas/instance.py",
        (
            """\
        if self.progress.timeouts.get(name) != token:
            return False
        del self.progress.timeouts[name]
""",
            "        self.progress.timeouts.pop(name, None)\n",
        ),
    ),
    _one(
        "a service ends where its connection is lost while it declares",
        "runtime.py",
        (
            "                if error.code not in (0, CONNECTION_FORCED):\n",
            "                if True:\n",
        ),
    ),
)
"""Faults that were mended once, put back."""

ELSEWHERE = ("no lock of the keys", "relays that do not keep each other out")
"""What is broken in them is on PostgreSQL alone."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Break each, and count; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulation.mutations",
        description="Break mqkit's promises one at a time, and count the schedules until it shows.",
    )
    parser.add_argument("--only", default="", help="those with this in their name")
    parser.add_argument("--most", type=int, default=MOST, help="schedules each (%(default)s)")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="times each (%(default)s)")
    parser.add_argument("--json", type=Path, help="write the counts there, too")
    given = parser.parse_args(arguments)
    counts: dict[str, list[int | None]] = {}
    broken = [*MENDED, *(each for each in OF_MATRIX if each.name not in ELSEWHERE)]
    for mutation in broken:
        if given.only in mutation.name:
            counts[mutation.name] = _counts(mutation, None, given.seeds, given.most)
            _tell(mutation.name, counts[mutation.name])
    for name in OF_FUZZ:
        if given.only in name:
            counts[name] = _counts(None, name, given.seeds, given.most)
            _tell(name, counts[name])
    if given.json is not None:
        given.json.write_text(json.dumps(counts, indent=1) + "\n")
    return FAILED if any(None in each for each in counts.values()) else DONE


def _tell(name: str, counts: Sequence[int | None]) -> None:
    seen = [count for count in counts if count is not None]
    median = f"{statistics.median(seen):.0f}" if 2 * len(seen) > len(counts) else "not seen"
    console.print(f"{median:>9}  {name}  {counts}")


def _counts(
    mutation: Mutation | None, mutant: str | None, seeds: int, most: int
) -> list[int | None]:
    directory = Path(tempfile.mkdtemp(prefix="mqkit-mutation-"))
    try:
        for name in COPIED:
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, directory / name, ignore=ignored)
        if mutation is not None:
            mutation.apply(directory / "mqkit")
        return [_count(directory, mutant, each * APART, most) for each in range(1, seeds + 1)]
    finally:
        shutil.rmtree(directory)


def _count(directory: Path, mutant: str | None, first: int, most: int) -> int | None:
    """Return which schedule from a seed on failed, counted from 1; None if none did."""
    breaking = ""
    if mutant is not None:
        breaking = f"from tests.faults.fuzz.mutants import MUTANTS\nMUTANTS[{mutant!r}].apply()\n"
    program = f"{breaking}from tests.simulation.mutations import first_failure\n"
    program += f"print(first_failure({first}, {most}))\n"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(directory)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"the seeds could not be played: {done.stderr}")
    said = done.stdout.split()[-1]
    return None if said == "None" else int(said)


def first_failure(first: int, most: int) -> int | None:
    """Play seeds until one fails; return how many that took."""
    from tests.simulation.campaign import campaign  # noqa: PLC0415 - once mqkit is broken

    for totals in campaign(first, seconds=None, count=most, jobs=1, chunk=AT_A_TIME):
        if totals.failed:
            return min(totals.failed) - first + 1
    return None


if __name__ == "__main__":
    sys.exit(main())
