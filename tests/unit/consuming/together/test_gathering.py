"""A batch's messages in a processor: they wait without tasks, and each ends in one outcome."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from mqkit import Queue, Retry, Service
from mqkit.clock import utc_now
from mqkit.consuming.failures import LastResort
from mqkit.consuming.pausing.controller import PauseController
from mqkit.consuming.together.batching import Batcher
from mqkit.consuming.together.gathering import BatchProcessor
from mqkit.consuming.wiring import running
from mqkit.drivers.base import DriverChannel, Incoming
from mqkit.errors import MqkitError
from mqkit.message import Properties
from tests.unit.consuming.world import World, until


class Case:
    """A processor of batches on a channel that notes what it is told."""

    def __init__(self, post: Callable[..., Any], *, size: int = 2) -> None:
        service = Service("s", retry=Retry.never())
        service.batch(Queue("q"), size=size, within=60)(post)
        (handler,) = service.handlers
        made = running("s", handler)
        self.world = World()
        self.batcher = Batcher(handler, made.decoder, made.invoker, made.judge)
        self.processor = BatchProcessor(
            self.batcher,
            handler,
            "q",
            pauses=PauseController(handler, (), made.dispatcher.dispatch, utc_now),
            limit=2 * size,
            key=lambda delivery: delivery.message_id,
            wait_for_thread=None,
            settler=self.world.settler,
            last_resort=LastResort(handler, self.world.settler),
            observer=None,
        )
        self.workers = self.processor.workers

    def receive(self, *ids: str, body: bytes = b"1") -> None:
        """Have the broker deliver messages."""
        for tag, message_id in enumerate(ids, start=1):
            properties = Properties(message_id=message_id)
            incoming = Incoming(tag, False, "x", "k", properties, body)
            self.processor.receive(cast("DriverChannel", self.world), incoming)

    async def ended(self) -> None:
        """Wait until nothing is under way."""
        await until(lambda: not self.workers.in_flight() and not self.workers.waiting())
        await asyncio.sleep(0)


async def test_messages_of_a_batch_wait_without_tasks() -> None:
    """They are in flight from their coming to the end of their batch, and acked after it."""
    go = asyncio.Event()

    async def post(bodies: list[int]) -> None:
        await go.wait()

    case = Case(post)
    case.receive("a", "b", "c")
    await until(lambda: len(case.workers.running()) == 3)
    assert not case.workers.current
    assert [each.message_id for _, each in case.workers.in_flight()] == ["a", "b", "c"]
    drained = asyncio.ensure_future(case.workers.drained())
    go.set()
    await until(lambda: len(case.workers.running()) == 1)
    case.batcher.stop()
    await case.ended()
    await drained
    assert case.world.events == ["ack 2", "ack 3"]


async def test_of_one_id_the_second_waits_until_the_first_has_ended() -> None:
    """A message that came again is put into a batch after the one of its first delivery."""
    runs: list[int] = []

    async def post(bodies: list[int]) -> None:
        runs.append(len(bodies))

    case = Case(post)
    case.receive("a", "a", "b")
    await until(lambda: runs == [2])
    await until(lambda: len(case.workers.running()) == 1)
    case.batcher.stop()
    await case.ended()
    assert runs == [2, 1]


async def test_a_batch_behind_which_others_wait_waits_for_no_more() -> None:
    """Its run is for what has come: until it has ended, the next of its keys get no further."""
    runs: list[int] = []

    async def post(bodies: list[int]) -> None:
        runs.append(len(bodies))

    case = Case(post, size=9)
    case.receive("a", "a", "b", "c", "a")
    await until(lambda: runs == [3, 1])
    await until(lambda: len(case.workers.running()) == 1)
    await asyncio.sleep(0)
    assert runs == [3, 1]
    case.batcher.stop()
    await case.ended()
    assert runs == [3, 1, 1]


async def test_a_batch_behind_which_others_wait_takes_what_comes_until_it_can_run() -> None:
    """While all runs are busy, it stays open."""
    runs: list[int] = []
    go_on = asyncio.Event()

    async def post(bodies: list[int]) -> None:
        runs.append(len(bodies))
        await go_on.wait()

    case = Case(post, size=9)
    case.receive("a", "a")
    await until(lambda: runs == [1])
    for count, more in ((2, ("b", "b")), (3, ("c",)), (5, ("d", "e"))):
        case.receive(*more)
        await until(lambda count=count: len(case.workers.in_flight()) == count)  # type: ignore[misc]
        await asyncio.sleep(0)
    go_on.set()
    await until(lambda: len(runs) > 1)
    assert runs[1] == 4
    case.batcher.stop()
    await case.ended()
    assert sum(runs) == 7


async def test_a_run_goes_on_until_nobody_waits_for_it() -> None:
    """A message that is given up leaves its batch; the last one takes the run with it."""
    cancelled = asyncio.Event()

    async def post(bodies: list[int]) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    case = Case(post)
    case.receive("a", "b")
    await until(lambda: len(case.workers.running()) == 2)
    await asyncio.sleep(0.01)
    (first, _), (second, _) = case.workers.in_flight()
    first.cancel()
    await asyncio.sleep(0.01)
    assert not cancelled.is_set()
    second.cancel()
    second.cancel()
    await asyncio.wait_for(cancelled.wait(), 10)
    await case.ended()
    assert case.world.events == ["nack 1 requeue=True", "nack 2 requeue=True"]


@pytest.mark.parametrize("body", [b"1", b"no number"])
async def test_what_fails_is_settled_in_a_task_of_its_own(body: bytes) -> None:
    """A dead letter is published, and the message acked after that."""

    async def post(bodies: list[int]) -> None:
        raise ValueError

    case = Case(post)
    case.world.confirm.clear()
    case.receive("a", "b", body=body)
    await until(lambda: len(case.workers.current) == 2)
    assert not {"ack 1", "ack 2"} & {*case.world.events}
    case.world.confirm.set()
    await case.ended()
    assert case.world.events[-1] == "ack 2"


async def test_a_fault_of_the_batch_leaves_no_message_unsettled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each of them is dead-lettered, whatever it was."""

    async def post(bodies: list[int]) -> None: ...

    case = Case(post)

    async def broken(places: Any) -> None:
        raise MqkitError("a fault")

    monkeypatch.setattr(case.batcher, "_run", broken)
    case.receive("a", "b")
    await case.ended()
    assert case.world.events.count("confirmed") == 2
    assert case.world.events[-1] == "ack 2"
