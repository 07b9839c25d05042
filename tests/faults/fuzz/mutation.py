"""`python -m tests.faults.fuzz.mutation`: plant each mutant, and see that the fuzz finds it.

Exit codes: 0 the fuzz is green without a mutant, and red with each; 1 not so.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from mqkit import drivers
from tests.faults.fuzz.mutants import MUTANTS
from tests.support import ROOT

LIMIT = 300.0
"""Seconds for one run."""

console = Console(soft_wrap=True, highlight=False, markup=False)


def main(argv: Sequence[str] | None = None) -> int:
    """Run it; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults.fuzz.mutation",
        description="Break mqkit's promises one at a time, and see that the fuzz finds each.",
    )
    parser.add_argument("--messages", type=int, default=300, help="of each run (%(default)s)")
    parser.add_argument("--seed", type=int, default=9, help="what draws them (%(default)s)")
    parser.add_argument("--driver", choices=drivers.NAMES, default=drivers.DEFAULT)
    parser.add_argument("--broker", default="embedded", help="as of tests.faults.fuzz")
    options = parser.parse_args(argv)
    command = ["--messages", str(options.messages), "--seed", str(options.seed)]
    command += ["--driver", options.driver, "--broker", options.broker]
    unbroken = _run(command)
    console.print(f"without a mutant: {'green' if unbroken['holds'] else 'RED'}")
    unseen = []
    for name, mutant in MUTANTS.items():
        found = _run([*command, "--mutant", name])
        told = (*found["problems"], *found["faults"], "all is as promised")
        console.print(f"{mutant.what}: {'NOT SEEN' if found['holds'] else 'red'}; {told[0]}")
        if found["holds"]:
            unseen.append(name)
    console.print(f"{len(MUTANTS) - len(unseen)} of {len(MUTANTS)} mutants were found")
    return 0 if unbroken["holds"] and not unseen else 1


def _run(options: Sequence[str]) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.fuzz", "--json", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    if not done.stdout:
        # A run that broke down has found nothing.
        raise RuntimeError(f"the fuzz ended with {done.returncode}: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


if __name__ == "__main__":
    sys.exit(main())
