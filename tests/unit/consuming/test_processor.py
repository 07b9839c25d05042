"""A delivery's way through the processor: received, started, dispatched, settled."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from typing import cast

import pytest

from mqkit import Delivery, Queue, Retry, Service
from mqkit.consuming import failures
from mqkit.consuming.failures import LastResort
from mqkit.consuming.processor import Processor
from mqkit.consuming.settler import Settler
from mqkit.drivers.base import DriverChannel, Incoming
from mqkit.message import Properties
from mqkit.middleware import Observer, Observers
from mqkit.outcome import Ack, DeadLetter, DeathReason, Outcome
from mqkit.registration.handler import Handler


class Channel:
    """A channel that is open, or not."""

    is_open = True


class Case(Observer):
    """A processor, and what it calls, in order."""

    def __init__(self, *, observed: bool = True, faulty: bool = False) -> None:
        self.events: list[str] = []
        self.outcome: Outcome = Ack()
        self.failure: BaseException | None = None
        self.key_fails = False
        self._faulty = faulty
        self.channel = Channel()
        settler = cast("Settler", self)
        self.processor = Processor(
            handler(),
            "q.1",
            limit=1,
            key=self.key,
            dispatch=self.dispatch,
            wait_for_thread=self.wait_for_thread,
            settler=settler,
            last_resort=LastResort(handler(), settler),
            observer=Observers([self]) if observed else None,
        )

    def _note(self, event: str) -> None:
        self.events.append(event)
        if self._faulty and event in ("received", "started"):
            raise SystemExit(event)

    def received(self, handler: str, delivery: Delivery) -> None:
        self._note("received")

    def started(self, handler: str, delivery: Delivery) -> None:
        self._note("started")

    def key(self, delivery: Delivery) -> Hashable:
        if self.key_fails:
            raise ZeroDivisionError("a fault")
        return delivery.message_id

    async def dispatch(self, delivery: Delivery) -> Outcome:
        self._note("dispatched")
        if self.failure is not None:
            raise self.failure
        return self.outcome

    async def settle(self, delivery: Delivery, outcome: Outcome) -> None:
        delivery.settled = True
        name = type(outcome).__name__
        self._note(f"{name} {outcome.reason}" if isinstance(outcome, DeadLetter) else name)

    def requeue(self, delivery: Delivery) -> None:
        self._note("requeued")

    async def wait_for_thread(self, delivery: Delivery) -> None:
        self._note("released")

    async def run(self, *ids: str | None) -> list[str]:
        """What happens to messages that come now, until all are done."""
        for message_id in ids:
            incoming = Incoming(1, False, "x", "k", Properties(message_id=message_id), b"")
            self.processor.receive(cast("DriverChannel", self.channel), incoming)
        workers = self.processor.workers
        async with asyncio.timeout(10):
            while (workers.waiting() and not workers.is_paused) or workers.in_flight():
                await asyncio.sleep(0)
        return self.events


def handler() -> Handler:
    """One whose queue has another name than what is consumed."""
    service = Service("s", retry=Retry.never())

    @service.handler(Queue("q"))
    async def handle(body: bytes) -> None: ...

    return service.handlers[0]


WAY = ["dispatched", "Ack", "released"]


async def test_a_delivery_is_dispatched_and_then_settled() -> None:
    """In this order; a thread that outlasts its run is waited for after that."""
    assert await Case().run("m") == ["received", "started", *WAY]


async def test_nothing_else_is_called_without_an_observer() -> None:
    """Neither where a delivery comes nor where it runs."""
    assert await Case(observed=False).run("m") == WAY


async def test_an_observer_that_raises_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """The delivery goes its way, and what was raised is in the log."""
    assert await Case(faulty=True).run("m") == ["received", "started", *WAY]
    assert "the observer of received deliveries failed" in caplog.text
    assert "the observer of started deliveries failed" in caplog.text


async def test_a_delivery_that_cannot_be_dispatched_is_dead_lettered() -> None:
    """As is one that cannot even be queued: nothing rises to the driver or ends a worker."""
    case = Case(observed=False)
    case.failure = ZeroDivisionError("a fault")
    dead = f"DeadLetter {DeathReason.UNSETTLED}"
    assert await case.run("m") == ["dispatched", dead]
    case = Case(observed=False)
    case.key_fails = True
    assert await case.run("m") == [dead]


async def test_a_lost_delivery_is_not_dispatched() -> None:
    """The broker delivers it again."""
    case = Case(observed=False)
    case.channel.is_open = False
    assert await case.run("m") == []


async def test_what_comes_while_it_is_paused_waits_and_is_no_news() -> None:
    """It is dropped with its channel, and given back once the processor stops."""
    case = Case()
    case.processor.workers.pause()
    assert await case.run("m", "n") == []
    case.processor.drop(cast("DriverChannel", case.channel))
    assert case.processor.workers.waiting() == []
    assert await case.run("o") == []
    case.processor.stop()
    assert await case.run("p") == ["requeued", "requeued"]


async def test_the_last_resort_leaves_it_to_the_broker_after_several_attempts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each dead letter that fails is tried again after a wait; the last error counts."""
    monkeypatch.setattr(failures, "LAST_RESORT_WAITS", (0.0, 0.001))
    tried: list[Outcome] = []
    refused: list[tuple[BaseException, bool]] = []

    class Failing:
        async def settle(self, delivery: Delivery, outcome: Outcome) -> None:
            tried.append(outcome)
            raise KeyError(len(tried))

        def refuse(self, delivery: Delivery, error: BaseException, *, requeue: bool) -> None:
            refused.append((error, requeue))

    first = ValueError("why")
    await LastResort(handler(), cast("Settler", Failing())).settle(Delivery(), first)
    assert tried == [DeadLetter(DeathReason.UNSETTLED, first)] * 2
    ((error, requeue),) = refused
    assert (str(error), requeue) == ("2", False)
