"""The plans that failed once: what a seed stands for changes with what is drawn; a plan stays."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from pydantic import TypeAdapter

from tests.simulation.workload.plan import Plan

FILE = Path(__file__).parent / "corpus.jsonl"

_PLANS: TypeAdapter[Plan] = TypeAdapter(Plan)


def saved() -> Iterator[tuple[str, Plan]]:
    """Read each plan, with what it had found."""
    for line in FILE.read_text().splitlines():
        entry = json.loads(line)
        yield entry["found"], _PLANS.validate_python(entry["plan"])


def save(found: str, plan: Plan) -> None:
    """Add a plan."""
    entry = {"found": found, "plan": _PLANS.dump_python(plan, mode="json")}
    with FILE.open("a") as file:
        file.write(json.dumps(entry) + "\n")
