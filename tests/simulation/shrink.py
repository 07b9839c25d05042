"""Makes a failing plan smaller: fewer messages and faults, as long as it fails in the same way."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from tests.simulation.workload.plan import Plan
from tests.simulation.world import Result, play

MOST_TRIES = 150


def kind_of(problem: str) -> str:
    """Return what a problem is, without its names and numbers."""
    return re.sub(r"[\d.]+|0x[0-9a-f]+", "#", re.sub(r"\bm\d+\b", "m", problem))[:60]


def shrink(result: Result, most: int = MOST_TRIES) -> Result:
    """Return a result of the smallest plan found that has the first problem of this one."""
    kind = kind_of(result.problems[0])
    tries = 0
    while tries < most:
        for plan in _smaller(result.plan):
            tries += 1
            found = play(plan)
            if any(kind_of(each) == kind for each in found.problems):
                result = found
                break
            if tries >= most:
                return result
        else:
            return result
    return result


def _smaller(plan: Plan) -> Iterator[Plan]:
    half = len(plan.sends) // 2
    if half > 1:
        yield replace(plan, sends=plan.sends[:half])
        yield replace(plan, sends=plan.sends[half:])
    for number in range(len(plan.faults)):
        yield plan.without(fault=number)
    for number in range(len(plan.sends)):
        yield plan.without(send=number)
    if plan.services > 1 and "twins" not in plan.features:
        yield replace(plan, services=1)
    if plan.late:
        yield replace(plan, late=0.0)
    if plan.fragment:
        yield replace(plan, fragment=0.0)
    used = {each.feature for each in plan.sends}
    fewer = tuple(each for each in plan.features if each in used)
    if fewer and fewer != plan.features:
        yield replace(plan, features=fewer)
