"""How many messages are under way while runs share a store's commits."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from mqkit import Queue, Retry, Service
from mqkit.consuming.together.sharing import EACH, Sharing
from mqkit.consuming.workers import WorkerPool
from mqkit.message import Delivery
from mqkit.outcome import Ack, Outcome


class FakeStore:
    """Says what it was told."""

    def __init__(self) -> None:
        self.wanted = 0

    def under_way(self, handler: str) -> int:
        assert handler.endswith("take")
        return self.wanted


@pytest.mark.parametrize(
    ("partitions", "wanted", "most"),
    [(None, 0, 2), (None, 5, 5), (None, 50, 8), (None, 1, 2), (3, 15, 5), (3, 3, 2)],
)
async def test_as_many_are_under_way_as_the_store_can_use(
    partitions: int | None, wanted: int, most: int
) -> None:
    """At least the concurrency, at most the prefetch; each partition has its share."""
    service = Service("s", retry=Retry.never())

    @service.handler(
        Queue("q", partitions=partitions),
        prefetch=8,
        concurrency=2,
        order_by=(lambda body: body) if partitions else None,
    )
    async def take(body: int) -> None: ...

    store: Any = FakeStore()
    store.wanted = wanted
    running, highest = 0, 0
    gate = asyncio.Event()

    async def run(_: Delivery) -> Outcome:
        nonlocal running, highest
        running += 1
        highest = max(highest, running)
        await gate.wait()
        running -= 1
        return Ack("result")

    sharing = Sharing(service.handlers[0], store, run)
    outcomes: list[Outcome] = []

    async def process(delivery: Delivery) -> None:
        outcomes.append(await sharing.dispatch(delivery))

    workers: WorkerPool[Delivery] = WorkerPool(2, process)
    sharing.attach(workers)
    gate.set()
    for _ in range(EACH):
        workers.submit(Delivery(), None)
    async with asyncio.timeout(30):
        while len(outcomes) < EACH:
            await asyncio.sleep(0)
    gate.clear()
    highest = 0
    for _ in range(20):
        workers.submit(Delivery(), None)
    for _ in range(20):
        await asyncio.sleep(0)
    assert highest == most
    gate.set()
    async with asyncio.timeout(30):
        while len(outcomes) < EACH + 20:
            await asyncio.sleep(0)
    assert set(outcomes) == {Ack("result")}
    workers.close()
