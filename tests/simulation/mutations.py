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
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from tests.faults.fuzz.mutants import MUTANTS
from tests.faults.matrix.mutants import MUTATIONS as OF_MATRIX
from tests.faults.matrix.mutants import Edit, Mutation
from tests.simulation.workload.plan import FEATURES, OF_FEATURE, Plan, draw
from tests.support import ROOT

DONE, FAILED = 0, 1

console = Console(soft_wrap=True, highlight=False, markup=False)

COPIED = ("mqkit", "tests")

MOST = 5000
"""Schedules after which a mutation counts as not seen."""

SEEDS = 5

APART = 100_000
"""Between the first seeds of two runs of one mutation."""

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

STORES = ("stored", "storedbatch", "twins", "saga")
FAILS = ("fail 1", "fail 2", "later", "slow", "abort")
OF_STORE = tuple(name for name, features in OF_FEATURE.items() if "stored" in features)
KILLS = ("kill service", "kill broker", "kill publisher", "stop broker", "partition", "one way")
CUTS = (*KILLS, "reset", "close connections", "close channel", "cancel consumers", "slow")


@dataclass(frozen=True, slots=True)
class Needs:
    """What a plan must have for a mutation to matter: one of each; empty is anything."""

    features: tuple[str, ...] = ()
    scripts: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()

    def are_met(self, plan: Plan) -> bool:
        """Tell whether a plan can fail by the mutation."""
        sends = [each for each in plan.sends if each.feature in (self.features or FEATURES)]
        return any(each.script in (self.scripts or (each.script,)) for each in sends) and (
            not self.faults or any(each.kind in self.faults for each in plan.faults)
        )


NEEDS = {
    "a batch runs what was given back while it waited": Needs(("batch", "storedbatch")),
    "equal keys in two partitions": Needs(("ordered",)),
    "acks lost at a stop": Needs((), (), ("stop service",)),
    "an inbox shared by two services": Needs(("twins",)),
    "no order within a key of the outbox": Needs(STORES),
    "a saga's timeout that fires after its answer": Needs(("saga",)),
    "publish returns before the confirm": Needs((), (), CUTS),
    "ack before a retry's confirm": Needs((), (), CUTS),
    "inbox skipped": Needs(STORES, (), (*CUTS, "answer lost")),
    "inbox skipped in threads": Needs(("storedthread",)),
    "no waiting for the earlier run of the same id": Needs((), (), CUTS),
    "copy not awaited": Needs((), (), CUTS),
    "retry under a new id": Needs((), FAILS),
    "acked although the database failed": Needs(STORES, (), OF_STORE),
    "failures of the database counted": Needs(STORES, (), OF_STORE),
    "inbox committed before the handler": Needs(STORES),
    "inbox forgets without a margin for clocks": Needs(STORES),
    "a duplicate let through to a group": Needs(STORES),
    "a duplicate let through to a batch": Needs(STORES),
    "a group acked before its commit": Needs(STORES),
    "an inbox row kept after a member of a group was rolled back": Needs(STORES, FAILS),
    "an inbox row kept of a batch's message that failed": Needs(("storedbatch",), FAILS),
    "what a member of a group wrote kept after it failed": Needs(STORES, (*FAILS, "dead")),
    "what a member of a group published kept after it failed": Needs(STORES, (*FAILS, "dead")),
    "outbox written after the commit": Needs(STORES, (), CUTS),
    "outbox committed before the handler's work": Needs(STORES),
    "outbox read from the last number on": Needs(STORES),
    "what was refused waits however long the clock says": Needs(STORES, (), ("clock jumps",)),
    "marked before the confirm": Needs(STORES, (), CUTS),
    "published again under a new id": Needs(STORES),
}
"""By the mutation's name; a schedule without it passes, as it does where nothing is broken."""

OF_LAST_RESORT = Needs(("plain",), ("internal", "unsettled"))

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
    parser.add_argument("--played", type=int, default=MOST, help="of which so many are played")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="times each (%(default)s)")
    parser.add_argument("--json", type=Path, help="write the counts there, too")
    given = parser.parse_args(arguments)
    counts: dict[str, list[int | None]] = {}
    broken = [*MENDED, *(each for each in OF_MATRIX if each.name not in ELSEWHERE)]
    for mutation in broken:
        if given.only in mutation.name:
            counts[mutation.name] = _counts(mutation, None, given)
            _tell(mutation.name, counts[mutation.name])
    for name in OF_FUZZ:
        if given.only in name:
            counts[name] = _counts(None, name, given)
            _tell(name, counts[name])
    if given.json is not None:
        given.json.write_text(json.dumps(counts, indent=1) + "\n")
    return FAILED if any(None in each for each in counts.values()) else DONE


def _tell(name: str, counts: Sequence[int | None]) -> None:
    seen = [count for count in counts if count is not None]
    median = f"{statistics.median(seen):.0f}" if 2 * len(seen) > len(counts) else "not seen"
    console.print(f"{median:>9}  {name}  {counts}")


def _counts(
    mutation: Mutation | None, mutant: str | None, given: argparse.Namespace
) -> list[int | None]:
    directory = Path(tempfile.mkdtemp(prefix="mqkit-mutation-"))
    try:
        for name in COPIED:
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, directory / name, ignore=ignored)
        if mutation is not None:
            mutation.apply(directory / "mqkit")
        return [
            _count(directory, mutation, mutant, each * APART, given)
            for each in range(1, given.seeds + 1)
        ]
    finally:
        shutil.rmtree(directory)


def _count(
    directory: Path,
    mutation: Mutation | None,
    mutant: str | None,
    first: int,
    given: argparse.Namespace,
) -> int | None:
    """Return which schedule from a seed on failed, counted from 1; None if none did."""
    breaking = ""
    if mutant is not None:
        breaking = f"from tests.faults.fuzz.mutants import MUTANTS\nMUTANTS[{mutant!r}].apply()\n"
    program = f"{breaking}from tests.simulation.mutations import first_failure\n"
    name = mutation.name if mutation is not None else ""
    program += f"print(first_failure({name!r}, {first}, {given.most}, {given.played}))\n"
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


def first_failure(name: str, first: int, most: int, played: int = MOST) -> int | None:
    """Play seeds until one fails; return how many that took, with those that need no playing."""
    from tests.simulation.campaign import play_seeds, ready  # noqa: PLC0415 - mqkit is broken now

    needs = NEEDS.get(name, Needs()) if name else OF_LAST_RESORT
    ready()
    for seed in range(first, first + most):
        if not needs.are_met(draw(seed)):
            continue
        if play_seeds(seed, 1).failed:
            return seed - first + 1
        played -= 1
        if not played:
            break
    return None


if __name__ == "__main__":
    sys.exit(main())
