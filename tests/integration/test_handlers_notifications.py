"""The notifications service, whose handler is a `def`, run in the harness on either database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from sqlalchemy import select

from handlers import notifications
from handlers.messages import ORDERS, REFUNDS
from handlers.records.notifications import notifications as table
from mqkit import Exchange
from mqkit.outcome import DeathReason
from mqkit.testing.harness import Harness

pytestmark = pytest.mark.in_turn(embedded=True)

MONEY = {"amount": "9.90", "currency": "CZK"}
PARTNER = {"bank": "QR", "account": "13"}


def order(number: int, **more: Any) -> dict[str, Any]:
    return {"order_id": f"o-{number}", "account_id": 576, **MONEY, **more}


def refund(number: int, **more: Any) -> dict[str, Any]:
    return {"refund_id": f"r-{number}", "order_id": "o-1", **MONEY, **more}


ENDS: list[tuple[Exchange, str, dict[str, Any]]] = [
    (ORDERS, "order.executed", order(1, partner=PARTNER)),
    (ORDERS, "order.refused", order(2, reason="no money")),
    (REFUNDS, "refund.executed", refund(1, account_id=576)),
    (REFUNDS, "refund.refused", refund(2, account_id=576, reason="no more than was paid")),
]


@pytest.fixture
async def h(
    database: str, mqkit_harness: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Harness]:
    monkeypatch.setenv("NOTIFICATIONS_DATABASE", database)
    async with mqkit_harness(notifications.service) as h:
        yield h


async def told() -> list[str]:
    """What customers were told about."""
    async with notifications.store.transaction() as transaction:
        rows = await transaction.execute(select(table.c.about).order_by(table.c.about))
        return list(rows.scalars())


async def test_each_end_is_told_once(h: Harness) -> None:
    """Four ends, each three times and under two message ids, are four notifications."""
    for round_ in (1, 1, 2):
        for exchange, key, body in ENDS:
            message_id = f"{key}-{round_}"
            await h.publish(exchange, key, body, message_id=message_id)
    await h.idle()
    assert len(h.handled) == 12
    assert await told() == ["order-o-1", "order-o-2", "refund-r-1", "refund-r-2"]


async def test_another_end_is_dead_lettered(h: Harness) -> None:
    """The customer was told that his order is done; that it is refused is for a person to see."""
    await h.publish(*ENDS[0])
    await h.idle()
    await h.publish(ORDERS, "order.refused", order(1, reason="no money"))
    await h.idle()
    (letter,) = await h.dead_letters("notifications.ends")
    assert letter.reason is DeathReason.REJECTED
    assert letter.error_message == "account 576 was told otherwise about order-o-1"
    assert await told() == ["order-o-1"]


async def test_bad_input_is_dead_lettered_and_told_to_nobody(h: Harness) -> None:
    """An end of an unknown currency, a negative or 20-digit amount, or of neither kind."""
    executed = ENDS[0][2]
    for changes in (
        {"currency": "XXX"},
        {"amount": "-1.00"},
        {"amount": "1" * 20},
        {"reason": "what is executed has none"},
        {"account_id": -1},
    ):
        await h.publish(ORDERS, "order.executed", executed | changes)
    await h.idle()
    assert [each.reason for each in h.dead_lettered] == [DeathReason.UNDECODABLE] * 5
    letters = await h.dead_letters("notifications.ends")
    explained = "\n".join(sorted(each.error_message or "" for each in letters))
    for field in ("currency", "amount", "reason", "account_id"):
        assert f"{field}: " in explained
    assert await told() == []
