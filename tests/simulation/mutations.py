"""`python -m tests.simulation.mutations`: how many schedules it takes to see each broken promise.

mqkit and its tests are copied, the copy is broken in one place, and seeds are played from there
until one of them fails. Exit codes: 0 each was seen; 1 not so.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from tests.faults.fuzz.mutants import MUTANTS
from tests.faults.matrix.mutants import MUTATIONS as OF_MATRIX
from tests.faults.matrix.mutants import Edit, Mutation
from tests.simulation.workload.plan import FEATURES, OF_FEATURE, Plan, draw
from tests.support import ROOT

DONE, FAILED = 0, 1

console = Console(soft_wrap=True, highlight=False, markup=False)

COPIED = ("mqkit", "tests")

AS_IT_IS = "unbroken"

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
        ("        if place.is_over or delivery.lost:\n", "        if place.is_over and False:\n"),
    ),
    _one(
        "equal keys in two partitions",
        "consuming/ordering.py",
        ("            return canonical(key)\n", "            return str(key)\n"),
        ("str(canonical(key)).encode", "str(key).encode"),
    ),
    _one(
        "acks lost at a stop",
        "consuming/consumer.py",
        (
            "sleep(self._settler.close_delay.seconds(self.handler.prefetch))\n",
            "sleep(0)\n",
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
        "lifecycle/declaring.py",
        (
            "            if error.code not in (0, CONNECTION_FORCED):\n",
            "            if True:\n",
        ),
    ),
)
"""Faults that were mended once, put back."""

STORES = ("stored", "storedbatch", "storedthread", "twins", "saga")
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
    again: bool = False
    """Whether a copy of a message may do instead of a fault."""

    def are_met(self, plan: Plan) -> bool:
        """Tell whether a plan can fail by the mutation."""
        sends = [each for each in plan.sends if each.feature in (self.features or FEATURES)]
        return any(each.script in (self.scripts or (each.script,)) for each in sends) and (
            not self.faults
            or any(each.kind in self.faults for each in plan.faults)
            or (self.again and any(each.again is not None for each in sends))
        )


NEEDS = {
    "a batch runs what was given back while it waited": Needs(("batch", "storedbatch")),
    "equal keys in two partitions": Needs(("ordered",)),
    "acks lost at a stop": Needs((), (), ("stop service",)),
    "a service ends where its connection is lost while it declares": Needs((), (), CUTS),
    "an inbox shared by two services": Needs(("twins",)),
    "no order within a key of the outbox": Needs(STORES),
    "a saga's timeout that fires after its answer": Needs(("saga",)),
    "publish returns before the confirm": Needs((), (), CUTS),
    "ack before a retry's confirm": Needs((), (), CUTS),
    "inbox skipped": Needs(STORES, (), (*CUTS, *OF_STORE), again=True),
    "inbox skipped in threads": Needs(("storedthread",), (), (*CUTS, *OF_STORE), again=True),
    "no waiting for the earlier run of the same id": Needs((), (), CUTS, again=True),
    "copy not awaited": Needs((), (), CUTS),
    "retry under a new id": Needs((), FAILS),
    "acked although the database failed": Needs(STORES, (), OF_STORE),
    "failures of the database counted": Needs(STORES, (), OF_STORE),
    "inbox committed before the handler": Needs(STORES),
    "inbox forgets without a margin for clocks": Needs(STORES, (), ("clock jumps",)),
    "a duplicate let through to a group": Needs(STORES, (), (*CUTS, *OF_STORE), again=True),
    "a duplicate let through to a batch": Needs(STORES, (), (*CUTS, *OF_STORE), again=True),
    "a group acked before its commit": Needs(STORES),
    "an inbox row kept after a member of a group was rolled back": Needs(STORES, FAILS),
    "an inbox row kept of a batch's message that failed": Needs(("storedbatch",), FAILS),
    "what a member of a group wrote kept after it failed": Needs(STORES, (*FAILS, "dead")),
    "what a member of a group published kept after it failed": Needs(STORES, (*FAILS, "dead")),
    "outbox written after the commit": Needs(STORES, (), (*CUTS, *OF_STORE)),
    "outbox committed before the handler's work": Needs(STORES),
    "outbox read from the last number on": Needs(STORES),
    "what was refused waits however long the clock says": Needs(STORES, (), ("clock jumps",)),
    "marked before the confirm": Needs(STORES, (), (*CUTS, *OF_STORE)),
    "published again under a new id": Needs(STORES),
}
"""By the mutation's name; a schedule without it passes, as it does where nothing is broken."""

OF_LAST_RESORT = Needs(("plain",), ("internal", "unsettled"))

ELSEWHERE = ("no lock of the keys", "relays that do not keep each other out")
"""What is broken in them is on PostgreSQL alone."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Break each, and count; returns the exit code."""
    given = _parser().parse_args(arguments)
    known: dict[str, dict[str, Any]] = {}
    if given.table is not None and given.table.exists():
        known = json.loads(given.table.read_text())
    broken = [*MENDED, *(each for each in OF_MATRIX if each.name not in ELSEWHERE)]
    names = [*(each.name for each in broken), *OF_FUZZ]
    wanted = [each for each in names if given.only in each]
    until = time.monotonic() + given.minutes * 60
    of_name = {each.name: each for each in broken}
    with ThreadPoolExecutor(given.jobs) as pool, _copies({*wanted}, of_name) as copies:
        work = []
        for name in wanted:
            numbers = [n for n in range(1, given.seeds + 1) if str(n) not in known.get(name, {})]
            work.append(pool.submit(_count, copies, of_name.get(name), name, numbers, until, given))
        for each in as_completed(work):
            name, found = each.result()
            known.setdefault(name, {}).update(found)
            _tell(name, known[name], given.seeds)
            if given.table is not None:
                given.table.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
    console.print()
    medians = [_tell(name, known.get(name, {}), given.seeds) for name in wanted]
    return DONE if all(medians) else FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulation.mutations",
        description="Break mqkit's promises one at a time, and count the schedules until it shows.",
    )
    parser.add_argument("--only", default="", help="those with this in their name")
    parser.add_argument("--most", type=int, default=MOST, help="schedules each (%(default)s)")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="times each (%(default)s)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--minutes", type=float, default=600.0, help="for how long")
    parser.add_argument(
        "--table", type=Path, help="keep the counts there, and go on from those that are there"
    )
    return parser


def _tell(name: str, found: Mapping[str, Mapping[str, Any]], seeds: int) -> bool:
    """Print one line of the table; return whether most of the seeds saw it."""
    counts = [each["took"] for each in found.values()]
    middle = sorted(math.inf if each is None else each for each in counts)
    median = "not tried"
    if middle:
        value = middle[(len(middle) - 1) // 2]
        median = "not seen" if value == math.inf else str(value)
    shown = " ".join("-" if each is None else str(each) for each in counts)
    console.print(f"{median:>9}  {name}  (of {len(counts)} of {seeds}: {shown})")
    return median.isdigit()


class _Copies:
    """Copies of the package, one for each mutation, made when it is first asked for."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = threading.Lock()

    def of(self, name: str, mutation: Mutation | None) -> Path:
        """Return where mqkit is broken in this way."""
        made = self._directory / name.replace(" ", "-").replace("'", "")
        with self._lock:
            if not made.exists():
                shutil.copytree(self._directory / AS_IT_IS, made)
                if mutation is not None:
                    mutation.apply(made / "mqkit")
        return made


@contextlib.contextmanager
def _copies(wanted: set[str], of_name: Mapping[str, Mutation]) -> Iterator[_Copies]:
    directory = Path(tempfile.mkdtemp(prefix="mqkit-mutations-"))
    try:
        # At once: what is edited meanwhile is in none of them.
        for each in COPIED:
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / each, directory / AS_IT_IS / each, ignore=ignored)
        copies = _Copies(directory)
        for name in wanted & of_name.keys():
            for edit in of_name[name].edits:
                text = (ROOT / "mqkit" / edit.path).read_text()
                if text.count(edit.old) != 1:
                    raise ValueError(f"{name}: {edit.path} does not fit the code any more")
        yield copies
    finally:
        shutil.rmtree(directory)


def _count(
    copies: _Copies,
    mutation: Mutation | None,
    name: str,
    numbers: Sequence[int],
    until: float,
    given: argparse.Namespace,
) -> tuple[str, dict[str, dict[str, Any]]]:
    """Return for each number which schedule failed first, counted from 1, as far as there is time.

    A seed that fails where nothing is broken as well has found something else, and does not count.
    """
    breaking = ""
    if mutation is None:
        breaking = f"from tests.faults.fuzz.mutants import MUTANTS\nMUTANTS[{name!r}].apply()\n"
    counts: dict[str, dict[str, Any]] = {}
    passed = dict.fromkeys(numbers, 0)
    while passed and (left := until - time.monotonic()) > 0:
        arguments = (name, passed, given.most, left)
        directory = copies.of(name, mutation)
        found = _python(directory, f"{breaking}{_CALL}first_failures{arguments!r}")
        seeds = {n: int(n) * APART + each["took"] - 1 for n, each in found.items() if each["took"]}
        failing = _python(copies.of(AS_IT_IS, None), f"{_CALL}failing({[*seeds.values()]})")
        passed.clear()
        for number, each in found.items():
            if seeds.get(number) in failing:
                console.print(f"seed {seeds[number]} fails where nothing is broken")
                passed[int(number)] = each["took"]
            else:
                counts[number] = each
    return name, counts


_CALL = "from tests.simulation.mutations import failing, first_failures\n"


def _python(directory: Path, program: str) -> Any:
    """Run a program on a copy of the package; return what it printed last."""
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
    return json.loads(done.stdout.splitlines()[-1])


def failing(seeds: Sequence[int]) -> None:
    """Print which of these seeds fail."""
    from tests.simulation.campaign import play_seeds  # noqa: PLC0415 - as below

    found = [seed for seed in seeds if play_seeds(seed, 1).failed]
    print(json.dumps(found))  # noqa: T201 - it is read by who started this


def first_failures(name: str, passed: Mapping[int, int], most: int, seconds: float) -> None:
    """Play seeds until one fails, from each of some on; print how many that took.

    What needs no playing counts. Where the time is over before, the rest is left out.

    :param passed: by the number of each, how many have been played of it
    """
    from tests.simulation.campaign import ready  # noqa: PLC0415 - mqkit is broken now

    until = time.monotonic() + seconds
    ready()
    found = {}
    for number, before in passed.items():
        seeds = range(number * APART + before, number * APART + most)
        if (each := _first_failure(name, seeds, until)) is not None:
            found[number] = each
    print(json.dumps(found))  # noqa: T201 - it is read by who started this


def _first_failure(name: str, seeds: range, until: float) -> dict[str, Any] | None:
    from tests.simulation.campaign import play_seeds  # noqa: PLC0415 - mqkit is broken now

    needs = OF_LAST_RESORT if name in OF_FUZZ else NEEDS.get(name, Needs())
    played = 0
    for seed in seeds:
        if not needs.are_met(draw(seed)):
            continue
        if time.monotonic() > until:
            return None
        played += 1
        if failed := play_seeds(seed, 1).failed:
            return {"took": seed % APART + 1, "saw": failed[seed][0], "played": played}
    return {"took": None, "played": played}


if __name__ == "__main__":
    sys.exit(main())
