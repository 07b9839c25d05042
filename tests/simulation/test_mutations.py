"""What is broken to try the simulation fits the code, and is looked for where it can show."""

from __future__ import annotations

from tests.faults.matrix.mutants import MUTATIONS
from tests.simulation.mutations import ELSEWHERE, MENDED, NEEDS, OF_LAST_RESORT
from tests.simulation.workload.plan import draw
from tests.support import ROOT

PLANS = 1000


def test_each_edit_fits_the_code() -> None:
    """What it replaces is there exactly once: one that fits nothing would break nothing."""
    for mutation in MENDED:
        for edit in mutation.edits:
            text = (ROOT / "mqkit" / edit.path).read_text()
            assert text.count(edit.old) == 1, f"{mutation.name}: {edit.path}"
            assert edit.old != edit.new


def test_what_each_needs_is_drawn_often() -> None:
    """Of the plans that may show it there are some in a hundred, and all names are known."""
    names = {each.name for each in (*MENDED, *MUTATIONS)}
    assert NEEDS.keys() | {*ELSEWHERE} <= names
    plans = [draw(seed) for seed in range(PLANS)]
    for name, needs in {**NEEDS, "last resort": OF_LAST_RESORT}.items():
        share = sum(needs.are_met(plan) for plan in plans) / PLANS
        assert share > 0.01, name
