"""The monitoring service, run in the test harness."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from handlers.invariants import Event
from handlers.messages import (
    ALERTS,
    BILLING,
    LEDGER,
    MONITORING,
    ORDERS,
    REFUNDS,
    Alert,
    AskSummary,
    HoldChanged,
    HoldState,
    Invariant,
    MonthClosed,
    OrderAccepted,
    OrderExecuted,
    OrderRefused,
    Posted,
    RefundExecuted,
    RefundRefused,
    Summary,
)
from handlers.monitoring import EVENTS_QUEUE, GRACE, JUDGE_EVERY, service
from mqkit import Exchange
from mqkit.testing.harness import Harness, harness
from tests.unit.handlers.histories import Payment

pytestmark = pytest.mark.in_turn(embedded=True)

TIME = 60.0
"""Seconds from an order's accepting to its deadline."""


@pytest.fixture
async def h(
    tmp_path: Path, mqkit_harness: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Harness]:
    monkeypatch.setenv("MONITORING_DATABASE", str(tmp_path / "monitoring.sqlite"))
    async with mqkit_harness(service) as h:
        yield h


WHERE: dict[type, tuple[Exchange, str]] = {
    OrderAccepted: (ORDERS, "order.accepted"),
    OrderExecuted: (ORDERS, "order.executed"),
    OrderRefused: (ORDERS, "order.refused"),
    Posted: (LEDGER, "ledger.posted"),
    HoldChanged: (LEDGER, "ledger.hold-changed"),
    RefundExecuted: (REFUNDS, "refund.executed"),
    RefundRefused: (REFUNDS, "refund.refused"),
    MonthClosed: (BILLING, "billing.month-closed"),
}
"""Where the services publish each event."""


async def publish(h: Harness, *events: Event) -> None:
    """Publish events as the services do, with deadlines by the harness's clock."""
    deadline = h.now() + dt.timedelta(seconds=TIME)
    for event in events:
        if isinstance(event, OrderAccepted):
            event = event.model_copy(update={"deadline": deadline})  # noqa: PLW2901
        await h.publish(*WHERE[type(event)], event)


def alerts(h: Harness) -> list[Alert]:
    """What the service published as such; its message to itself is no alert."""
    return [each.body_as(Alert) for each in h.published if each.exchange == ALERTS.name]


async def test_every_event_is_heard_and_counted(h: Harness) -> None:
    """One of each kind, of whichever exchange, is in the summary, and nothing is dead-lettered."""
    month = MonthClosed(month="2026-03", accounts=1, statements="there")
    executed = Payment("o-1").executed_history(Decimal("1.00"))
    await publish(h, *executed, *Payment("o-2").released_history(), month)
    await h.settled()
    said = await h.request(MONITORING.key("monitoring.summary"), AskSummary(), Summary)
    assert sum(count.number for count in said.counts) == len(executed) + 4 + 1
    assert (said.alerts, said.unsettled) == (0, 0)
    assert h.dead_lettered == []


async def test_an_order_without_an_end_is_an_alert_once_its_time_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service's own message, published later, finds it; before that nothing is said."""
    monkeypatch.setenv("MONITORING_DATABASE", str(tmp_path / "monitoring.sqlite"))
    async with harness(service) as h:  # on the embedded broker, whose time it moves
        await late(h)


async def late(h: Harness) -> None:
    """Let an order's time be over."""
    await publish(h, *Payment("o-1").executed_history(), Payment("o-2").accepted())
    await h.advance(TIME + GRACE - 5)
    assert alerts(h) == []
    await h.advance(5 + JUDGE_EVERY + 1)
    (alert,) = alerts(h)
    assert (alert.invariant, alert.about) == (Invariant.ORDER_IN_TIME, "o-2")
    # What comes late changes nothing, and is no second alert.
    await publish(h, Payment("o-2").ended(executed=False))
    await h.advance(TIME)
    assert len(alerts(h)) == 1


async def test_a_contradiction_is_an_alert_at_once(h: Harness) -> None:
    """An order with two ends, and a body that is no event is dead-lettered alone."""
    payment = Payment("o-1")
    await publish(h, *payment.executed_history(), payment.ended(executed=False))
    bad = await h.publish(ORDERS, "order.refused", {"order_id": "o-1"})
    await publish(h, payment.hold(HoldState.PLACED))
    assert (await h.outcome(bad, queue=EVENTS_QUEUE)).dead_lettered
    await h.settled()
    assert [alert.invariant for alert in alerts(h)] == [Invariant.ONE_END]
