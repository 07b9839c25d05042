"""The ledger's commands and its balances, run in the test harness on either database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from typing import Any

import pytest

from handlers.ledger import service
from handlers.messages import (
    LEDGER,
    AccountBalance,
    BalanceOf,
    Currency,
    ExecutionAnswered,
    HoldAnswered,
    HoldChanged,
    HoldState,
    PayBackAnswered,
    Posted,
)
from mqkit.testing.harness import Harness, Published

pytestmark = pytest.mark.in_turn

PARTNER = {"bank": "AB", "account": "11"}


@pytest.fixture
async def h(
    database: str,
    mqkit_harness: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Harness]:
    monkeypatch.setenv("LEDGER_DATABASE", database)
    async with mqkit_harness(service) as h:
        await h.listen(LEDGER, "ledger.answered.#")
        yield h


async def say(h: Harness, kind: str, message_id: str | None = None, **fields: object) -> None:
    """Send a command of account 7 in CZK, and wait until it is done with."""
    body: dict[str, object] = {"kind": kind, "account_id": 7}
    if kind not in ("execute", "release"):
        body["currency"] = "CZK"
    body |= fields
    await h.publish(LEDGER, f"ledger.command.{kind}", body, message_id=message_id)
    await h.settled()


def published(h: Harness, routing_key: str) -> list[Published]:
    return [each for each in h.published if each.routing_key == routing_key]


async def has(h: Harness, currency: str = "CZK") -> tuple[Decimal, Decimal, Decimal]:
    """Ask for the balance of account 7, what is held, and what is available."""
    question = BalanceOf(account_id=7, currency=Currency(currency))
    found = await h.request(LEDGER.key("ledger.balance"), question, AccountBalance)
    return found.balance, found.held, found.available


async def test_an_order_is_held_paid_and_paid_back(h: Harness) -> None:
    """Each step is answered, published as an event, and seen in the balance to the last digit."""
    await say(h, "open", overdraft="50.00")
    await say(h, "deposit", deposit_id="d", amount="100.10")
    await say(h, "hold", order_id="o", amount="150.10")
    assert await has(h) == (Decimal("100.10"), Decimal("150.10"), Decimal(0))
    await say(h, "execute", order_id="o", partner=PARTNER)
    assert await has(h) == (Decimal(-50), Decimal(0), Decimal(0))
    await say(h, "refund", refund_id="r", order_id="o", amount="0.10")
    await say(h, "charge", charge_id="c", amount="1.00")
    await say(h, "interest", interest_id="i", amount="0.25")
    assert await has(h) == (Decimal("-50.65"), Decimal(0), Decimal("-0.65"))
    answers = [
        published(h, "ledger.answered.hold")[0].body_as(HoldAnswered),
        published(h, "ledger.answered.execute")[0].body_as(ExecutionAnswered),
        published(h, "ledger.answered.refund")[0].body_as(PayBackAnswered),
    ]
    assert answers == [
        HoldAnswered(order_id="o", held=True),
        ExecutionAnswered(order_id="o", executed=True),
        PayBackAnswered(refund_id="r", order_id="o", paid=True),
    ]
    postings = [each.body_as(Posted) for each in published(h, "ledger.posted")]
    keys = ["deposit-d", "execute-o", "refund-r", "charge-c", "interest-i"]
    assert [each.business_key for each in postings] == keys
    assert all(sum(side.amount for side in each.sides) == 0 for each in postings)
    states = [each.body_as(HoldChanged).state for each in published(h, "ledger.hold-changed")]
    assert states == [HoldState.PLACED, HoldState.EXECUTED]
    assert not h.dead_lettered
