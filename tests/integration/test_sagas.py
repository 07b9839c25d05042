"""Sagas in a service on a real broker: started, continued, timed out, undone and upgraded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel
from tenacity import stop_after_attempt, wait_fixed, wait_none

from mqkit import Delivery, Queue, Retry, Service
from mqkit.sagas import (
    Missing,
    Saga,
    SagaStatus,
    compensates,
    continues,
    errors,
    on_timeout,
    starts,
)
from mqkit.store import Store
from mqkit.testing.brokers.finder import Broker
from mqkit.testing.harness.run import harness
from tests.support import eventually
from tests.unit.sagas import support
from tests.unit.sagas.support import (
    LEDGER,
    ORDERS,
    RETRY,
    RISK,
    HoldAnswered,
    Payment,
    PlaceOrder,
    RiskAnswered,
)

pytestmark = pytest.mark.in_turn(embedded=True)

SHORT = 0.3
"""Seconds of a wait that really passes."""


def service_of(store: Store) -> tuple[Service, list[tuple[str, str | None]]]:
    """A service with the saga; how orders ended is listed, and which holds were released."""
    service, seen = Service("orders", store=store, retry=RETRY), list[tuple[str, str | None]]()
    service.saga(Payment)

    ends = [ORDERS.key(f"order.{end}") for end in ("executed", "refused")]

    @service.handler(Queue("ends"), bind=[*ends, LEDGER.key("ledger.release")])
    async def note(body: dict[str, str | None], delivery: Delivery) -> None:
        seen.append((delivery.routing_key, body.get("reason")))

    return service, seen


async def status(store: Store, saga_id: str) -> str | None:
    """Where a saga stands."""
    found = await store.saga(saga_id)
    return found[0].saga.status if found else None


def is_completed(store: Store, saga_id: str) -> Callable[[], Any]:
    """Ask whether a saga is completed."""

    async def ask() -> bool:
        return await status(store, saga_id) == SagaStatus.COMPLETED

    return ask


async def test_a_saga_goes_from_its_start_to_its_end(broker: Broker, database: str) -> None:
    """Each answer continues it and its messages come out; one without a saga is dead-lettered."""
    store = Store(database)
    service, seen = service_of(store)
    async with harness(service, broker) as h:
        ids = [
            await h.publish(ORDERS, "order.place", PlaceOrder(order_id="o-1")),
            await h.publish(RISK, "risk.answered", RiskAnswered(order_id="o-2")),
        ]
        assert (await h.outcome(ids[0])).acked
        assert not (await h.outcome(ids[1])).acked
        (dead,) = await h.dead_letters("orders.risk")
        assert dead.reason == "rejected"
        for exchange, key, answer in (
            (RISK, "risk.answered", RiskAnswered(order_id="o-1")),
            (LEDGER, "hold.answered", HoldAnswered(order_id="o-1")),
        ):
            assert (await h.outcome(await h.publish(exchange, key, answer))).acked
        assert await status(store, "o-1") == SagaStatus.COMPLETED
        assert await status(store, "o-2") is None
        await eventually(lambda: seen == [("order.executed", None)])


async def test_a_timeout_undoes_what_was_done(
    broker: Broker, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody answers the hold: it is released, the order refused, and a late answer ignored."""
    monkeypatch.setattr(support, "PATIENCE", SHORT)
    store = Store(database)
    service, seen = service_of(store)
    async with harness(service, broker) as h:
        await h.outcome(await h.publish(ORDERS, "order.place", PlaceOrder(order_id="o-1")))
        await h.outcome(await h.publish(RISK, "risk.answered", RiskAnswered(order_id="o-1")))
        await eventually(is_completed(store, "o-1"))
        late = await h.publish(LEDGER, "hold.answered", HoldAnswered(order_id="o-1"))
        assert (await h.outcome(late)).acked
        await eventually(lambda: len(seen) >= 2)
        assert sorted(seen, key=str) == [
            ("ledger.release", None),
            ("order.refused", "the ledger did not answer"),
        ]
        (story,) = await store.saga("o-1")
        assert story.history[-1].result == "ignored: it is completed"


class Note(BaseModel):
    """A message of the sagas below."""

    id: str = "1"


class State(BaseModel):
    """A state of the sagas below."""

    total: int = 0


class Counting(BaseModel):
    """The same in a later version: the total has another name, and there is a text."""

    sum: int
    text: str


def counter(version: int) -> type[Saga[Any]]:
    """One saga as two versions of a service have it."""

    class Counter(Saga[State], name="counter", retry=Retry.never()):
        @starts(Queue("count"), by="id")
        async def start(self, note: Note) -> None:
            self.begin(State())

        @continues(Queue("add"), by="id")
        async def add(self, note: Note) -> None:
            self.state.total += 1

    class Newer(Saga[Counting], name="counter", version=2, retry=Retry.never()):
        @classmethod
        def migrate(cls, version: int, data: dict[str, Any]) -> dict[str, Any]:
            assert version == 1
            return {"sum": data["total"], "text": "migrated"}

        @starts(Queue("count"), by="id")
        async def start(self, note: Note) -> None:
            self.begin(Counting(sum=0, text="new"))

        @continues(Queue("add"), by="id")
        async def add(self, note: Note) -> None:
            self.state.sum += 1

    return Counter if version == 1 else Newer


async def test_an_upgrade_goes_on_with_older_states_and_an_older_process_loses_nothing(
    broker: Broker, mqkit_vhost: str, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A newer state is refused without an attempt: its message waits for a newer process."""
    monkeypatch.setattr(errors, "HELD_MIN", SHORT)
    monkeypatch.setattr(errors, "HELD_MAX", SHORT)
    services = []
    for version in (1, 2):
        service = Service(f"s{version}", store=Store(database))
        service.saga(counter(version))
        services.append(service)
    old, new = services

    async def state() -> tuple[int, str]:
        async with Store(database, relay=False) as store:
            (story,) = await store.saga("1")
            return story.saga.state_version, story.saga.state

    async with harness(old, url=mqkit_vhost) as h:
        await h.outcome(await h.publish("", "count", Note()))
        await h.outcome(await h.publish("", "add", Note()))
    async with harness(new, url=mqkit_vhost) as h:
        await h.outcome(await h.publish("", "add", Note()))
        assert await state() == (2, '{"sum":2,"text":"migrated"}')
    async with harness(old, url=mqkit_vhost) as h:
        message = await h.publish("", "add", Note())
        await eventually(lambda: len([r for r in h.retried if r.message_id == message]) >= 2)
        assert {r.attempt for r in h.retried} == {1}
        assert not await h.dead_letters("add")
    assert await state() == (2, '{"sum":2,"text":"migrated"}')
    async with harness(new, url=mqkit_vhost) as h:
        await eventually(lambda: any(each.message_id == message for each in h.handled))
        assert await state() == (2, '{"sum":3,"text":"migrated"}')


async def test_a_step_is_undone_as_often_as_it_takes(broker: Broker, database: str) -> None:
    """By its own policy; the steps before it wait, and the one after it is not undone again."""
    runs: list[str] = []

    class Trip(Saga[State], name="trip", retry=Retry.never()):
        @starts(Queue("book"), by="id")
        async def start(self, note: Note) -> None:
            self.begin(State())
            for step in ("room", "car", "flight"):
                self.done(step)
            await self.compensate("full")

        @compensates("flight")
        async def flight(self) -> None:
            runs.append("flight")

        @compensates("car", retry=Retry(stop=stop_after_attempt(5), wait=wait_fixed(0.1)))
        async def car(self, delivery: Delivery) -> None:
            runs.append("car")
            if delivery.attempt < 3:
                raise ConnectionError

        @compensates("room")
        async def room(self) -> None:
            runs.append("room")

    store = Store(database)
    service = Service("trips", store=store)
    service.saga(Trip)
    async with harness(service, broker) as h:
        await h.publish("", "book", Note())
        await eventually(is_completed(store, "1"))
    assert runs == ["flight", "car", "car", "car", "room"]


async def test_an_answer_before_the_start_waits_for_it(broker: Broker, database: str) -> None:
    """With `Missing.RETRY`, by its policy: it is tried again until the saga is there."""

    class Early(Saga[State], name="early", retry=Retry.never()):
        @starts(Queue("early"), by="id")
        async def start(self, note: Note) -> None:
            self.begin(State())

        @continues(
            Queue("answer"),
            by="id",
            missing=Missing.RETRY,
            retry=Retry(stop=stop_after_attempt(50), wait=wait_fixed(0.1)),
        )
        async def answer(self, note: Note) -> None:
            self.complete()

        @on_timeout("never")
        async def never(self) -> None: ...

    store = Store(database)
    service = Service("s", store=store, retry=Retry(stop=stop_after_attempt(1), wait=wait_none()))
    service.saga(Early)
    async with harness(service, broker) as h:
        answer = await h.publish("", "answer", Note())
        await eventually(lambda: bool(h.retried))
        await h.publish("", "early", Note())
        assert (await h.outcome(answer)).acked
        assert await status(store, "1") == SagaStatus.COMPLETED
