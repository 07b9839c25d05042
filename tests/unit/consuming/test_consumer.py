"""When a consumer that keeps its place leaves it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from mqkit import Queue, Retry, Service
from mqkit.consuming import consumer
from mqkit.consuming.consumer import KeepingConsumer
from mqkit.topology import QueueType
from tests.unit.consuming.world import until

FOR_A_WHILE = 0.05


class World:
    """A consumer of a partition with a prefetch of 2, and what it holds."""

    def __init__(self, *, last_came_back: bool, held: int, kind: QueueType = "quorum") -> None:
        service = Service("s", retry=Retry.never())

        @service.handler(Queue("q", type=kind), prefetch=2)
        async def handle(body: str) -> None: ...

        self.is_closed = False
        self.subscription = SimpleNamespace(
            last_came_back=last_came_back, taking=2, last_tag=held, close=self.close, attached=0.0
        )
        self.workers: Any = SimpleNamespace(
            count=0,
            is_paused=False,
            waiting=lambda: range(held),
            pause=self.pause,
            finished=self.done,
            in_flight=list,
        )
        parts: Any = SimpleNamespace
        self.consumer = KeepingConsumer(
            service.handlers[0],
            "q",
            subscription=cast(Any, self.subscription),
            processor=parts(workers=self.workers),
            settler=parts(flush=lambda: None, close_delay=parts(seconds=lambda _: 0.0)),
            last_resort=parts(),
            pauses=parts(attach=lambda _: None),
            waits=parts(),
            release=[],
        )

    def pause(self) -> None:
        self.workers.is_paused = True

    async def done(self) -> None: ...

    async def close(self) -> None:
        self.is_closed = True

    async def stop(self, patience: float) -> asyncio.Task[None]:
        await self.consumer.stop()
        return asyncio.create_task(self.consumer.finished(patience))


def comes(world: World, *, came_back: bool) -> None:
    """One is delivered."""
    world.subscription.last_tag += 1
    world.subscription.last_came_back = came_back


def ends(world: World) -> None:
    """All that is held is settled."""
    world.workers.waiting = list


def is_lost(world: World) -> None:
    """The channel is gone, and what it brought."""
    world.subscription.last_came_back = False


def pauses(world: World) -> None:
    """A dependency is down."""
    world.workers.pause()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No long waits."""
    monkeypatch.setattr(consumer, "LOOK", 0.001)
    monkeypatch.setattr(consumer, "ANSWERED", FOR_A_WHILE)


@pytest.mark.parametrize(("kind", "last_came_back"), [("quorum", False), ("classic", True)])
async def test_who_can_leave_in_order_begins_nothing_more_at_a_stop(
    kind: QueueType, *, last_came_back: bool
) -> None:
    """It holds nothing that came back, or of a queue that puts it in its place: it only waits."""
    world = World(last_came_back=last_came_back, held=2, kind=kind)
    await world.consumer.stop()
    assert world.workers.is_paused
    await world.consumer.finished(60)
    assert world.is_closed


@pytest.mark.parametrize(
    "happens",
    [lambda world: comes(world, came_back=False), ends, is_lost, pauses],
    ids=["another comes", "all is settled", "the channel is lost", "a pause"],
)
async def test_who_stops_goes_on_until_all_has_come_that_came_back(
    happens: Callable[[World], None],
) -> None:
    """Given back, a part of it would come again behind the rest that the queue has not sent yet."""
    world = World(last_came_back=True, held=2)
    finished = await world.stop(60)
    await asyncio.wait([finished], timeout=2 * FOR_A_WHILE)
    assert not world.workers.is_paused
    assert not world.is_closed
    happens(world)
    async with asyncio.timeout(10):
        await finished
    assert world.is_closed


async def test_what_came_back_is_complete_once_nothing_has_come_for_a_while() -> None:
    """There is room for more, and the queue would have sent it."""
    world = World(last_came_back=True, held=1)
    finished = await world.stop(60)
    async with asyncio.timeout(10):
        await finished
    assert world.is_closed


@pytest.mark.parametrize("taking", [0, 2])
async def test_who_has_just_attached_waits_for_what_the_queue_may_be_sending(taking: int) -> None:
    """And who did so long ago does not, whether it is another process that has the queue or not."""
    world = World(last_came_back=True, held=0)
    loop = asyncio.get_running_loop()
    world.subscription.attached, world.subscription.taking = loop.time(), taking
    finished = await world.stop(60)
    await asyncio.wait([finished], timeout=FOR_A_WHILE / 2)
    assert not world.is_closed
    async with asyncio.timeout(10):
        await finished
    finished = await World(last_came_back=True, held=0).stop(60)
    await until(finished.done)


async def test_another_that_came_back_is_waited_for_again() -> None:
    """The queue has sent what there was room for, and may have more."""
    world = World(last_came_back=True, held=1)
    finished = await world.stop(60)
    loop = asyncio.get_running_loop()
    began = loop.time()
    while loop.time() < began + 3 * FOR_A_WHILE:
        comes(world, came_back=True)
        await asyncio.sleep(FOR_A_WHILE / 10)
    assert not world.is_closed
    finished.cancel()


@pytest.mark.parametrize("patience", [0.0, FOR_A_WHILE])
async def test_what_came_back_is_not_waited_for_longer_than_there_is_patience(
    patience: float,
) -> None:
    """What runs needs the rest of the grace period."""
    world = World(last_came_back=True, held=2)
    finished = await world.stop(patience)
    async with asyncio.timeout(10):
        await finished
    assert world.workers.is_paused
    assert world.is_closed


async def test_what_came_back_is_waited_for_no_more_when_the_grace_period_is_over() -> None:
    """Nothing may begin once what runs is given back."""
    world = World(last_came_back=True, held=2)
    finished = await world.stop(60)
    await until(lambda: not finished.done())
    await world.consumer.abandon()
    assert world.workers.is_paused
    async with asyncio.timeout(10):
        await finished
    assert world.is_closed
