"""Holds the simulation to reality: plays plans there, and on a real broker in real time.

    python -m tests.simulation.real --url amqp://... --management http://... --count 200 --jobs 8
    python -m tests.simulation.real --url amqp://... --management http://... --seed 7

Both are judged by the same checker, and of each message that is confirmed in both the end must be
the same. Exit codes: 0 all ended alike, 1 one did not.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import sys
import time
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

from tests.simulation.real.schedule import Outcome, ends, play, playable
from tests.simulation.simulated import storage
from tests.simulation.workload.plan import draw
from tests.simulation.world import World


@dataclass
class Totals:
    """What came of many plans."""

    played: int = 0
    alike: int = 0
    messages: int = 0
    compared: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0


class _Virtual(World):
    """A world that knows how its messages ended; its database goes with it."""

    ends: Mapping[str, str] = {}

    async def _main(self) -> None:
        await super()._main()
        self.ends = ends(self)


def simulated(seed: int) -> Outcome:
    """Play a plan in virtual time, which this whole process has meanwhile."""
    began = time.monotonic()
    world = _Virtual(playable(draw(seed)))
    result = world.play()
    return Outcome(result.problems, dict(world.ends), time.monotonic() - began, dict(result.faults))


def _be_ready() -> None:
    """Make a process ready for many plans: what killed services leave is not spoken of."""
    gc.disable()
    warnings.simplefilter("ignore")
    sys.unraisablehook = lambda _: None


def differences(virtual: Outcome, real: Outcome) -> list[str]:
    """Say how the two ended otherwise."""
    found = [f"only in virtual time: {each}" for each in virtual.problems]
    found += [f"only in real time: {each}" for each in real.problems]
    found += [
        f"{name} is {end} in virtual and {real.ends[name]} in real time"
        for name, end in virtual.ends.items()
        if name in real.ends and real.ends[name] != end
    ]
    return found


async def compare(options: argparse.Namespace, virtual_outcomes: Mapping[int, Outcome]) -> Totals:
    """Play plans, so many at a time, and print where the two differ."""
    totals, turn = Totals(), asyncio.Semaphore(options.jobs)

    async def one(seed: int) -> None:
        plan = playable(draw(seed))
        async with turn:
            try:
                real = await play(
                    plan, options.url, options.management, options.driver or plan.driver
                )
            except Exception as error:  # noqa: BLE001 - of this seed alone
                real = Outcome([f"it could not be played: {error!r}"], {}, 0.0)
        virtual = virtual_outcomes[seed]
        problems = differences(virtual, real)
        totals.played += 1
        totals.alike += not problems
        totals.messages += len(plan.sends)
        totals.compared += len(virtual.ends.keys() & real.ends.keys())
        totals.faults += Counter(real.faults)
        totals.seconds += real.took
        for each in problems:
            sys.stdout.write(f"seed {seed}: {each}\n")
            sys.stdout.flush()

    async with asyncio.TaskGroup() as group:
        for seed in virtual_outcomes:
            group.create_task(one(seed))
    return totals


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.real", description=__doc__)
    parser.add_argument("--url", required=True, help="of a RabbitMQ whose user may make vhosts")
    parser.add_argument("--management", required=True, help="the URL of its management API")
    parser.add_argument("--driver", help="by default the one that the seed draws")
    parser.add_argument("--seed", type=int, help="the only one")
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--jobs", type=int, default=6, help="plans that are played at a time")
    options = parser.parse_args(arguments)
    seeds = range(options.first, options.first + options.count)
    began = time.monotonic()
    storage.prepare()
    if options.seed is not None:
        seeds = range(options.seed, options.seed + 1)
    with ProcessPoolExecutor(2, initializer=_be_ready) as pool:
        virtual = dict(zip(seeds, pool.map(simulated, seeds), strict=True))
    totals = asyncio.run(compare(options, virtual))
    sys.stdout.write(
        f"{totals.alike} of {totals.played} schedules ended alike; {totals.messages} messages, of "
        f"which {totals.compared} were confirmed in both and compared; "
        f"{totals.faults.total()} faults ({dict(totals.faults)}); "
        f"{time.monotonic() - began:.0f} s, {totals.seconds:.0f} s of schedules\n"
    )
    return 0 if totals.alike == totals.played else 1


if __name__ == "__main__":
    sys.exit(main())
