"""Where a plan ends otherwise in real time than in virtual time, that is told."""

from __future__ import annotations

from tests.simulation.real.__main__ import differences
from tests.simulation.real.faults import KINDS
from tests.simulation.real.schedule import Outcome, playable
from tests.simulation.workload.plan import FAULTS, Fault, Plan


def test_what_ends_otherwise_is_told() -> None:
    """Problems of either, and the ends of messages that both know."""
    virtual = Outcome(["v"], {"m0": "done", "m1": "dead", "m2": "done"}, 0.0)
    real = Outcome(["r"], {"m0": "done", "m1": "done"}, 0.0)
    assert differences(virtual, real) == [
        "only in virtual time: v",
        "only in real time: r",
        "m1 is dead in virtual and done in real time",
    ]


def test_both_are_given_the_same_faults() -> None:
    """What cannot be had on a broker that others use is left out in virtual time as well."""
    plan = playable(Plan(1, ("plain",), faults=tuple(Fault(1.0, kind) for kind in FAULTS)))
    left = {each.kind for each in plan.faults}
    assert left == KINDS.keys() & FAULTS.keys()
    assert FAULTS.keys() - left == {"stop broker", "alarm", "cancel consumers", "refused"}
