"""Many connections at one saga: in whatever order its messages come, it has one end."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest

from mqkit.message import Message
from mqkit.sagas import SagaStatus
from tests.saga_bus import Bus, stores_of
from tests.unit.sagas.support import HoldAnswered, Payment, PlaceOrder, RiskAnswered


def world(draw: random.Random) -> object:
    """A risk and a ledger that answer once, twice or not at all."""

    def answer(message: Message) -> list[tuple[str, object]]:
        order = message.body.decode().split('"')[3]
        times = draw.choice([0, 1, 1, 1, 2])
        ok = draw.random() < 0.8
        match message.routing_key:
            case "risk.check":
                return [("risk_answered", RiskAnswered(order_id=order, ok=ok))] * times
            case "ledger.hold":
                return [("hold_answered", HoldAnswered(order_id=order, ok=ok))] * times
        return []

    return answer


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_comes_when_each_saga_has_one_end(database: str, seed: int) -> None:
    """Starts twice, answers never, once or twice, timeouts at any time, at eight connections."""
    draw = random.Random(seed)
    bus = Bus(Payment, world(draw), draw)  # type: ignore[arg-type]
    orders = [f"o-{n}" for n in range(12)]
    for order in orders:
        for _ in range(2):
            bus.send("placed", PlaceOrder(order_id=order))
    async with stores_of(database, 8) as stores:
        await bus.run(stores)
        sagas = {row.id: row.status for row in await stores[0].sagas()}
    assert sagas == dict.fromkeys(orders, SagaStatus.COMPLETED)
    sent = Counter(
        (message.routing_key, message.body.decode().split('"')[3])
        for message in bus.published.values()
    )
    for order in orders:
        assert sent["risk.check", order] == 1
        assert sent["order.executed", order] + sent["order.refused", order] == 1
        assert sent["ledger.hold", order] <= 1
        is_refused = sent["order.refused", order] == 1
        assert sent["ledger.release", order] == (sent["ledger.hold", order] if is_refused else 0)


async def test_eight_connections_at_one_saga(database: str) -> None:
    """Its first message comes eight times, under as many ids: it starts once."""
    draw = random.Random(8)
    bus = Bus(Payment, world(draw), draw)  # type: ignore[arg-type]
    for _ in range(40):
        bus.send("placed", PlaceOrder(order_id="o-1"))
    async with stores_of(database, 8) as stores:
        await bus.run(stores, at_once=4)
        (story,) = await stores[0].saga("o-1")
    started = [entry for entry in story.history if entry.message_type == "PlaceOrder"]
    assert [entry.result for entry in started].count("ran") == 1
    assert len({entry.message_id for entry in started}) == len(started) == 40


async def test_a_timeout_and_its_answer_at_the_same_moment(database: str) -> None:
    """Whoever is first decides, and the other one does nothing: never both, never neither."""
    draw = random.Random(1)
    bus = Bus(Payment, lambda _: [], draw, twice=0)
    first: Counter[str] = Counter()
    async with stores_of(database, 2) as stores:
        for number in range(30):
            order = f"o-{number}"
            bus.send("placed", PlaceOrder(order_id=order))
            await bus.handle(stores[0], *bus.waiting.pop())
            bus.send("risk_answered", RiskAnswered(order_id=order))
            both = [bus.waiting.pop() for _ in range(2)]
            draw.shuffle(both)
            pairs = zip(draw.sample(stores, 2), both, strict=True)
            await asyncio.gather(*(bus.handle(store, *each) for store, each in pairs))
            bus.waiting.clear()  # the timeout of a hold
            (story,) = await stores[0].saga(order)
            results = {each.handler.rpartition(".")[2]: each.result for each in story.history}
            is_refused = story.saga.status == SagaStatus.COMPLETED
            assert (results["risk_silent"] == "ran") == is_refused
            assert (results["risk_answered"] == "ran") != is_refused
            first["timeout" if is_refused else "answer"] += 1
    assert sum(first.values()) == 30
