from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from tests.simulation.campaign import campaign
from tests.simulation.corpus import saved
from tests.simulation.workload.plan import Plan
from tests.simulation.world import play
from tests.support import ROOT

SECONDS = float(os.environ.get("MQKIT_TEST_SIMULATION", "25"))
"""For how long new seeds are played."""


@pytest.mark.parametrize(("found", "plan"), list(saved()))
def test_a_plan_that_failed_once_holds(found: str, plan: Plan) -> None:
    """What a plan has found stays mended."""
    assert play(plan).problems == []


def test_new_seeds_hold() -> None:
    """Whatever a new seed does, all that is promised holds."""
    failed: dict[int, list[str]] = {}
    for totals in campaign(int(time.time()) * 1000, seconds=SECONDS, count=None, jobs=1):
        failed = totals.failed
    assert failed == {}, "repeat each by: python -m tests.simulation --seed N --shrink --trace"


DIGESTS = """
from tests.simulation.workload.plan import draw
from tests.simulation.world import play
print([play(draw(seed)).digest for seed in range(6)])
"""


def test_a_seed_is_the_same_in_every_process() -> None:
    """What happens, to the byte, depends on the seed alone: not on the process's hashes."""
    said = {
        subprocess.run(
            [sys.executable, "-c", DIGESTS],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hashes},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hashes in ("1", "2")
    }
    assert len(said) == 1
