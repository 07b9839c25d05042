"""`python -m tests.simulation`: plays schedules from seeds, in virtual time, and judges them.

    python -m tests.simulation --seed 42 --trace     one seed, and all that happened in it
    python -m tests.simulation --seed 42 --shrink    the smallest part of its plan that still fails
    python -m tests.simulation --seed 42 --shrink --save 'an ack that was lost at a stop'
    python -m tests.simulation --minutes 30 --jobs 2 as many as there is time for
    python -m tests.simulation --first 1 --count 100000 --table table.json
                                                     so many, in as many runs as it takes

Exit codes: 0 all that is promised holds; 1 not so; 2 called wrongly.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from tests.simulation.campaign import campaign, play_apart, ready
from tests.simulation.corpus import save
from tests.simulation.shrink import shrink
from tests.simulation.table import Table, TableError, load
from tests.simulation.workload.plan import draw
from tests.simulation.world import Result, play

HELD, FAILED = 0, 1

console = Console(soft_wrap=True, highlight=False, markup=False)

ENDLESS = 10**12
"""Seeds, where only the time says how many."""

SHOWN = 20
"""Failing seeds that are shown."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="play one seed")
    parser.add_argument("--trace", action="store_true", help="with --seed: print what happened")
    parser.add_argument("--shrink", action="store_true", help="with --seed: make its plan smaller")
    parser.add_argument("--save", metavar="FOUND", help="with --seed: add its plan to the corpus")
    parser.add_argument("--first", type=int, help="the first of many seeds; by default a new one")
    parser.add_argument("--count", type=int, help="how many seeds")
    parser.add_argument("--minutes", type=float, help="for how long")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument(
        "--table", type=Path, help="keep what came of them there, and go on from what is there"
    )
    given = parser.parse_args(arguments)
    if given.seed is not None:
        result = _one(given.seed, traced=given.trace, smaller=given.shrink)
        if given.save is not None:
            save(given.save, result.plan)
        return FAILED if result.problems else HELD
    seconds = None if given.minutes is None else given.minutes * 60
    if seconds is None and given.count is None:
        seconds = 60.0
    try:
        table = None if given.table is None else load(given.table, given.first)
    except TableError as error:
        parser.error(str(error))
    if table is None:
        table = Table(int(time.time()) * 1000 if given.first is None else given.first)
    return _many(table, seconds, given.count or ENDLESS, given.jobs, given.table)


def _one(seed: int, *, traced: bool, smaller: bool) -> Result:
    result = play(draw(seed), traced=traced)
    if smaller and result.problems:
        result = play(shrink(result).plan, traced=traced)
    for line in result.trace:
        console.print(line)
    _describe(result)
    return result


def _describe(result: Result) -> None:
    plan = result.plan
    console.print(f"seed {plan.seed}: {', '.join(plan.features)} on {plan.services} services")
    for send in plan.sends:
        console.print(f"  {send}")
    for fault in plan.faults:
        console.print(f"  {fault}")
    console.print(
        f"{result.steps} steps, {result.seconds:.1f} virtual seconds, digest {result.digest:08x}"
    )
    for problem in result.problems:
        console.print(f"PROBLEM: {problem}")


def _many(table: Table, seconds: float | None, count: int, jobs: int, path: Path | None) -> int:
    totals = table.totals
    shown, before = 0, totals.schedules
    began = time.monotonic()
    if totals.failed:
        ready()
        table.again(lambda seed: play_apart(seed, 1))
        _save(table, path)
    ranges = table.left(table.first, count)
    for first, many, part in campaign(ranges, seconds=seconds, jobs=jobs):
        table.add(first, many, part)
        _save(table, path)
        for seed, problems in list(totals.failed.items())[shown:]:
            shown += 1
            if shown <= SHOWN:
                console.print(f"seed {seed}: {problems[0]}")
    _print(table, totals.schedules - before, time.monotonic() - began)
    return FAILED if totals.failed else HELD


def _save(table: Table, path: Path | None) -> None:
    if path is not None:
        table.save(path)


def _print(table: Table, now: int, took: float) -> None:
    totals = table.totals
    each = totals.took / max(totals.schedules, 1)
    console.print(
        f"{totals.schedules} schedules from seed {table.first}, {now} of them now in {took:.0f} s "
        f"({now / max(took, 0.001):.1f} a second, {each * 1000:.0f} ms of processor time each): "
        f"{totals.seconds / 3600:.1f} virtual hours, {totals.messages} messages, "
        f"{totals.faults.total()} faults, {totals.steps} steps, {len(totals.failed)} failed"
        + (f", {len(table.mended)} that failed before hold now" if table.mended else "")
    )
    states = sorted({state for _, state in totals.met})
    if states:
        console.print(f"{'fault':<22}{'times':>8}" + "".join(f"{each:>13}" for each in states))
    for kind, times in sorted(totals.faults.items()):
        cells = "".join(f"{totals.met[kind, state]:>13}" for state in states)
        console.print(f"{kind:<22}{times:>8}{cells}")


if __name__ == "__main__":
    sys.exit(main())
