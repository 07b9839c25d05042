"""Keeps what came of a campaign in a file, so that it can go on another day."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.simulation.campaign import Totals


class TableError(Exception):
    """A file that is no table of a campaign, or is another's."""


@dataclass
class Table:
    """What came of the seeds from `first` on, over all the runs that kept it."""

    first: int
    totals: Totals = field(default_factory=Totals)
    played: dict[int, int] = field(default_factory=dict)
    """First seeds of parts, and how many each has."""
    mended: dict[int, list[str]] = field(default_factory=dict)
    """Seeds that failed in a run before and no longer do, and what was wrong with them."""

    def add(self, first: int, count: int, part: Totals) -> None:
        """Add what came of a part."""
        self.totals.add(part)
        before = next((at for at, many in self.played.items() if at + many == first), None)
        at = first if before is None else before
        self.played[at] = first + count - at
        if (following := self.played.pop(first + count, None)) is not None:
            self.played[at] += following

    def again(self, play: Callable[[int], Totals]) -> None:
        """Play the seeds that failed once more: those that no longer do are mended."""
        for seed in sorted(self.totals.failed):
            found = play(seed).failed.get(seed)
            if found is None:
                self.mended[seed] = self.totals.failed.pop(seed)
            else:
                self.totals.failed[seed] = found

    def left(self, first: int, count: int) -> list[tuple[int, int]]:
        """Return the parts of these seeds that were not played yet."""
        parts, at = [], first
        for start, many in sorted(self.played.items()):
            if at < start < first + count:
                parts.append((at, start - at))
            at = max(at, start + many)
        if at < first + count:
            parts.append((at, first + count - at))
        return parts

    def save(self, path: Path) -> None:
        """Write it; the file is the former one or the new one, and nothing between."""
        totals = vars(self.totals) | {"met": [[*key, n] for key, n in self.totals.met.items()]}
        told = {"first": self.first, "totals": totals, "played": self.played, "mended": self.mended}
        part = path.with_name(f"{path.name}.part")
        part.write_text(json.dumps(told, indent=1) + "\n", "utf-8")
        part.replace(path)


def load(path: Path, first: int | None) -> Table | None:
    """Read a table; None where there is none yet.

    :raises TableError: it is none, or begins with another seed than `first`
    """
    if not path.exists():
        return None
    try:
        table = _table(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise TableError(f"{path} is no table of a campaign: {error!r}") from error
    if first not in {None, table.first}:
        raise TableError(f"{path} begins with seed {table.first}, not {first}")
    return table


def _table(told: dict[str, Any]) -> Table:
    totals = told["totals"]
    totals["faults"] = Counter(totals["faults"])
    totals["met"] = Counter({(fault, state): times for fault, state, times in totals["met"]})
    totals["failed"] = {int(seed): found for seed, found in totals["failed"].items()}
    return Table(
        told["first"],
        Totals(**totals),
        {int(at): many for at, many in told["played"].items()},
        {int(seed): found for seed, found in told["mended"].items()},
    )
