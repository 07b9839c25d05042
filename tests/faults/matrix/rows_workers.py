"""Rows 21 and 23: what happens to the processes and handlers that work."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence

from mqkit import Queue
from mqkit.broker.declare import declare
from mqkit.topology import Topology
from tests.faults.matrix.row import Bench, row
from tests.support import Client, eventually

FEW = "tests.faults.matrix.processes:few"
POISONED = "tests.faults.matrix.processes:poisoned"

RUNNING, PREFETCHED = 4, 4
"""Messages that are handled, and that wait in the process, when it is told to stop."""

DELIVERY_LIMIT, ATTEMPTS = 2, 3
"""As `processes.poisoned` has them."""

NEIGHBOURS = 5
"""Messages around each poisonous one."""


@row(21, "SIGTERM in flight", short=2)
async def terminated(bench: Bench) -> None:
    """With a grace period that is longer than the handler, and with one that is shorter."""
    async with bench.client() as client:
        await asyncio.gather(
            _terminated_often(bench, client, longer=True),
            _terminated_often(bench, client, longer=False),
        )


async def _terminated_often(bench: Bench, client: Client, *, longer: bool) -> None:
    queue = f"matrix.{'longer' if longer else 'shorter'}"
    keys: list[str] = []
    for _ in range(-(-bench.faults // 2)):
        keys = await _terminated(bench, client, queue, keys, longer=longer)
    with bench.process(FEW, MQKIT_MATRIX_QUEUE=queue) as process:
        await _all_applied(bench, keys)
        # Not killed, or what is not acked yet would come again, to nobody.
        process.send(signal.SIGTERM)
        bench.check(await process.ends() == 0, "a process with nothing left to do did not end")


async def _all_applied(bench: Bench, keys: Sequence[str]) -> None:
    for key in keys:
        await bench.applied(key)


async def _terminated(
    bench: Bench, client: Client, queue: str, before: Sequence[str], *, longer: bool
) -> list[str]:
    """Stop a process in the middle, and return the keys of which some are left to others."""
    grace = "20" if longer else "0.2"
    with bench.process(FEW, "--grace", grace, MQKIT_MATRIX_QUEUE=queue) as process:
        await process.says("consuming")
        await _all_applied(bench, before)
        fields = {"seconds": 0.7 if longer else 60.0, "first_only": True}
        publishing = (
            bench.publish(client.publisher, "", queue, fields=fields)
            for _ in range(RUNNING + PREFETCHED)
        )
        keys = await asyncio.gather(*publishing)
        await eventually(
            lambda: sum(1 for key in keys if bench.journal.runs(key)) == RUNNING, what="the runs"
        )
        process.send(signal.SIGTERM)
        bench.fault()
        code = await process.ends()
    what = f"with {grace} s of grace"
    bench.check(code == (0 if longer else 1), f"{what} it exited with {code}")
    ran = [key for key in keys if bench.journal.runs(key)]
    bench.check(len(ran) == RUNNING, f"{what} {len(ran)} messages ran, not {RUNNING}")
    for key in ran:
        done = bench.journal.applied(key)
        bench.check(done == longer, f"{what} a running message was {'' if done else 'not '}applied")
    back = PREFETCHED if longer else RUNNING + PREFETCHED

    async def all_back() -> bool:
        return await client.messages(queue) == back

    await eventually(all_back, what=f"{back} messages in the queue {what}")
    bench.check(await client.messages(f"{queue}.dead") == 0, f"{what} a message was rejected")
    return list(keys)


@row(23, "poison: raises always, kills its worker always", short=2)
async def poison(bench: Bench) -> None:
    """Each is dead-lettered within its limit, and what is around it is handled."""
    queue = "matrix.poison"
    kills = max(bench.faults // (2 * (DELIVERY_LIMIT + 1)), 1)
    raises = max(bench.faults - kills * (DELIVERY_LIMIT + 1), 1)
    poisons: dict[str, int] = {}
    async with bench.client() as client:
        limited = Queue(queue, delivery_limit=DELIVERY_LIMIT)
        await declare(client.connection.channel, Topology.of_queue(limited))
        for kind in ["kills"] * kills + ["raises"] * raises:
            key = await bench.publish(client.publisher, "", queue, fields={"poison": kind})
            poisons[key] = DELIVERY_LIMIT + 1 if kind == "kills" else ATTEMPTS
            for _ in range(NEIGHBOURS):
                await bench.publish(client.publisher, "", queue)
        bench.fault(raises)
        found: list[str] = []
        while len(found) < len(poisons) or bench.journal.unfinished():
            with bench.process(POISONED, MQKIT_MATRIX_QUEUE=queue) as process:
                while process.process.poll() is None and bench.journal.unfinished():
                    found += await bench.take_dead(client, f"{queue}.dead")
                    await asyncio.sleep(0.05)
                if process.process.poll() is not None:
                    bench.ended_itself(process)
                    bench.fault()
    for key, limit in poisons.items():
        runs = len(bench.journal.runs(key))
        bench.check(runs <= limit, f"{key} ran {runs} times, and its limit is {limit}")
        bench.check(found.count(key) == 1, f"{key} was dead-lettered {found.count(key)} times")
    bench.check(set(found) == set(poisons), f"neighbours were dead-lettered: {found}")
