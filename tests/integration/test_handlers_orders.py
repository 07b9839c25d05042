"""The orders service in the test harness, beside a stub of all whom it asks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from handlers import orders
from handlers.messages import (
    LEDGER,
    ORDERS,
    RISK,
    CheckRisk,
    ExecuteHold,
    ExecutionAnswered,
    HoldAnswered,
    LedgerCommand,
    OrderExecuted,
    OrderRefused,
    PlaceHold,
    ReleaseAnswered,
    RiskAnswered,
)
from mqkit import BrokerUrl, Publisher, Queue, Retry, Runtime, Service
from mqkit.outcome import DeathReason
from mqkit.testing.harness import Harness, harness
from tests.support import eventually

pytestmark = pytest.mark.in_turn(embedded=True)

PATIENT = 600.0

ORDER: dict[str, Any] = {
    "order_id": "o-1",
    "account_id": 576,
    "partner": {"bank": "QR", "account": "13943797"},
    "amount": "10.00",
    "currency": "CZK",
}

SILENT = "silent"
"""An order whose id begins so, and names a step, is not answered at that step."""


def stub() -> tuple[Service, list[object]]:
    """Make a service that agrees to everything it answers, and a list of what it was asked."""
    service = Service("stub", retry=Retry.never())
    asked: list[object] = []

    @service.handler(Queue("stub.risk"), bind=[RISK.key("risk.check")])
    async def check(question: CheckRisk, publisher: Publisher) -> None:
        asked.append(question)
        if not question.order_id.startswith(f"{SILENT}-risk"):
            answer = RiskAnswered(order_id=question.order_id, passed=True)
            await publisher.publish(RISK, "risk.answered", answer)

    @service.handler(Queue("stub.ledger"), bind=[LEDGER.key("ledger.command.#")])
    async def carry_out(command: LedgerCommand, publisher: Publisher) -> None:
        asked.append(command)
        order_id: str = getattr(command, "order_id", "")
        if order_id.startswith(f"{SILENT}-{command.kind}"):
            return
        answer: object = ReleaseAnswered(order_id=order_id, executed=False)
        if isinstance(command, PlaceHold):
            answer = HoldAnswered(order_id=order_id, held=True)
        elif isinstance(command, ExecuteHold):
            answer = ExecutionAnswered(order_id=order_id, executed=True)
        await publisher.publish(LEDGER, f"ledger.answered.{command.kind}", answer)

    return service, asked


@pytest.fixture
async def world(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Harness, list[object]]]:
    """The service on the embedded broker, whose time can be moved, and what the stub was asked."""
    monkeypatch.setenv("ORDERS_DATABASE", database)
    monkeypatch.setenv("ORDERS_PATIENCE", str(PATIENT))
    other, asked = stub()
    async with harness(orders.service) as h, Runtime(other, BrokerUrl.parse(h.url)):
        yield h, asked


def ends(h: Harness) -> dict[str, list[OrderExecuted | OrderRefused]]:
    """The ends of each order."""
    kinds = {orders.EXECUTED: OrderExecuted, orders.REFUSED: OrderRefused}
    found: dict[str, list[OrderExecuted | OrderRefused]] = {}
    for each in h.published:
        if (kind := kinds.get(each.routing_key)) is not None:
            end = each.body_as(kind)
            found.setdefault(end.order_id, []).append(end)
    return found


async def test_many_orders_are_executed_side_by_side(world: tuple[Harness, list[object]]) -> None:
    """Each of a hundred is, once, though every one is placed twice."""
    h, asked = world
    for number in range(200):
        await h.publish(ORDERS, "order.place", ORDER | {"order_id": f"o-{number % 100}"})
    await eventually(lambda: len(ends(h)) == 100, 60)
    await h.settled()
    assert {type(end) for found in ends(h).values() for end in found} == {OrderExecuted}
    assert [len(found) for found in ends(h).values()] == [1] * 100
    # By its content: what is not confirmed in its time is published once more.
    assert len({str(each) for each in asked}) == 300


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        ("risk", "risk did not answer in time"),
        ("hold", "the ledger did not answer in time whether the amount is held"),
        ("execute", "the ledger did not execute it in time"),
    ],
)
async def test_a_step_that_is_silent_refuses_the_order(
    world: tuple[Harness, list[object]], step: str, reason: str
) -> None:
    """The broker holds the timeout; the order ends by it, with what was held released."""
    h, asked = world
    order_id = f"{SILENT}-{step}"
    await h.publish(ORDERS, "order.place", ORDER | {"order_id": order_id})
    steps = {"risk": 1, "hold": 2, "execute": 3}[step]
    await eventually(lambda: len(asked) == steps)
    await h.settled()
    await h.advance(PATIENT / 2)  # real time passes, too
    assert ends(h) == {}
    await h.advance(PATIENT / 2 + 1)
    await eventually(lambda: order_id in ends(h))
    (end,) = ends(h)[order_id]
    assert isinstance(end, OrderRefused)
    assert (end.reason, end.compensated) == (reason, step != "risk")
    released = [each for each in asked if getattr(each, "kind", "") == "release"]
    assert len(released) == (step != "risk")


async def test_bad_orders_are_dead_lettered_and_nobody_is_asked(
    world: tuple[Harness, list[object]],
) -> None:
    """Each has its reason: what no order can be, and an id that was used for another order."""
    h, asked = world
    bad: list[dict[str, Any]] = [
        ORDER | {"amount": "-1.00"},
        ORDER | {"amount": "0"},
        ORDER | {"amount": "12345678901234567890.00"},
        ORDER | {"amount": "NaN"},
        ORDER | {"currency": "XYZ"},
        ORDER | {"order_id": "no id"},
        ORDER | {"order_id": ""},
        ORDER | {"more": 1},
        {"order_id": "o-1"},
    ]
    for each in bad:
        await h.publish(ORDERS, "order.place", each)
    await h.idle()
    assert [each.reason for each in h.dead_lettered] == [DeathReason.UNDECODABLE] * len(bad)
    assert asked == []
    await h.publish(ORDERS, "order.place", ORDER)
    await eventually(lambda: "o-1" in ends(h))
    await h.publish(ORDERS, "order.place", ORDER | {"amount": "10.01"})
    await eventually(lambda: len(h.dead_lettered) == len(bad) + 1)
    assert h.dead_lettered[-1].reason == DeathReason.REJECTED
    assert "order o-1 was placed before" in str(h.dead_lettered[-1].error)
    assert len(asked) == 3


async def test_an_order_goes_on_after_its_service_was_stopped(
    database: str,
    mqkit_vhost: str,
    mqkit_harness: Callable[..., AbstractAsyncContextManager[Harness]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A question that nobody listened for is asked once somebody does, and the order ends once."""
    monkeypatch.setenv("ORDERS_DATABASE", database)
    async with mqkit_harness(orders.service, url=mqkit_vhost) as h:
        await h.publish(ORDERS, "order.place", ORDER)
        await eventually(lambda: len(h.handled) == 1)
    other, asked = stub()
    async with (
        Runtime(other, BrokerUrl.parse(mqkit_vhost)),
        mqkit_harness(orders.service, url=mqkit_vhost) as h,
    ):
        await eventually(lambda: "o-1" in ends(h), 30)
        await h.settled()
    assert [type(each) for each in ends(h)["o-1"]] == [OrderExecuted]
    assert len(asked) == 3
