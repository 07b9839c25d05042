from __future__ import annotations

import asyncio
import contextvars
import os
import random
import subprocess
import sys
import time

import pytest

from tests.simulation.campaign import campaign
from tests.simulation.corpus import saved
from tests.simulation.simulated.loop import Loop
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
    first = int(time.time()) * 1000
    for _, _, part in campaign([(first, 1_000_000)], seconds=SECONDS, jobs=1):
        failed |= part.failed
    assert failed == {}, "repeat each by: python -m tests.simulation --seed N --shrink --trace"


def test_a_task_with_an_empty_context_dies_with_its_process() -> None:
    """A process that is killed runs nothing more, also where a task has a context of its own."""
    loop = Loop(random.Random(1))
    loop.until += 60.0
    process, steps = loop.new_process("127.0.1.1"), list[float]()

    async def work() -> None:
        while True:
            steps.append(loop.time())
            await asyncio.sleep(1)

    async def kill() -> int:
        with loop.inside(process):
            loop.create_task(work(), context=contextvars.Context())
        await asyncio.sleep(2.5)
        loop.kill(process)
        ran = len(steps)
        await asyncio.sleep(5)
        return ran

    assert loop.run_until_complete(kill()) == len(steps) == 3
    loop.dispose()


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
