"""Six of the payment services on one broker, each with a database of its own."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from handlers import billing, ledger, notifications, orders, refunds, risk
from handlers.messages import BILLING, LEDGER, ORDERS, REFUNDS, RISK, AccountBalance
from handlers.monthly.month import Month
from handlers.records.notifications import notifications as told
from mqkit.testing.harness import Harness
from tests.support import eventually

pytestmark = pytest.mark.in_turn(embedded=True)

SERVICES = [billing, ledger, notifications, orders, refunds, risk]
ACCOUNT = {"account_id": 576, "currency": "CZK"}


def order(order_id: str, amount: str, partner: str = "13") -> dict[str, Any]:
    return {
        **ACCOUNT,
        "order_id": order_id,
        "amount": amount,
        "partner": {"bank": "QR", "account": partner},
    }


async def balance(h: Harness) -> Decimal:
    answer = await h.request(LEDGER.key("ledger.balance"), ACCOUNT, AccountBalance)
    return Decimal(answer.balance)


async def notices() -> dict[str, str]:
    """What the customer was told."""
    async with notifications.store.transaction() as transaction:
        rows = await transaction.execute(select(told.c.about, told.c.text))
        return {row.about: row.text for row in rows}


async def test_a_month_of_an_account(
    mqkit_harness: Callable[..., Any],
    mqkit_vhost: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Its orders are paid or refused, one is paid back in part, and its month is closed."""
    for module in SERVICES:
        name = module.service.name
        monkeypatch.setenv(f"{name.upper()}_DATABASE", str(tmp_path / f"{name}.sqlite"))
    monkeypatch.setenv("BILLING_STATEMENTS", str(tmp_path))
    month = Month.of(dt.datetime.now(dt.UTC))
    async with contextlib.AsyncExitStack() as stack:
        running: dict[str, Harness] = {}
        for module in SERVICES:
            entered = await stack.enter_async_context(
                mqkit_harness(module.service, url=mqkit_vhost)
            )
            running[module.service.name] = entered
        h = running["orders"]

        async def has_handled(service: str, count: int) -> None:
            handled = running[service].handled
            await eventually(lambda: len(handled) >= count, what=f"{count} messages of {service}")

        async def is_told(about: str) -> str:
            await eventually(lambda: _is_told(about), what=f"a notification about {about}")
            return (await notices())[about]

        async def has(amount: str) -> None:
            async def it_has() -> bool:
                return await balance(h) == Decimal(amount)

            await eventually(it_has, what=f"a balance of {amount}")

        await h.publish(LEDGER, "ledger.command.open", {"kind": "open", **ACCOUNT})
        deposit = {"kind": "deposit", "deposit_id": "d", "amount": "1000.00", **ACCOUNT}
        await h.publish(LEDGER, "ledger.command.deposit", deposit)
        refused = {"partner": {"bank": "QR", "account": "66"}, "reason": "fraud"}
        await h.publish(RISK, "risk.refuse-partner", refused)
        await has("1000.00")
        await has_handled("risk", 1)

        await h.publish(ORDERS, "order.place", order("paid", "300.00"))
        assert "done: 300.00 CZK went to account 13 at bank QR" in await is_told("order-paid")
        await h.publish(ORDERS, "order.place", order("too-much", "900.00"))
        assert "is refused: " in await is_told("order-too-much")
        await h.publish(ORDERS, "order.place", order("to-a-thief", "1.00", partner="66"))
        reason = "refused: partner 66 at bank QR is refused: fraud"
        assert reason in await is_told("order-to-a-thief")

        await has_handled("refunds", 1)  # that the order is paid
        for refund_id, amount in (("some", "100.00"), ("more", "200.01")):
            refund = {"refund_id": refund_id, "order_id": "paid", "amount": amount}
            await h.publish(REFUNDS, "refund.request", {**refund, "currency": "CZK"})
            await is_told(f"refund-{refund_id}")
        assert "100.00 CZK of your order paid are back" in await is_told("refund-some")
        assert "The refund of 200.01 CZK" in await is_told("refund-more")

        await has("800.00")
        await has_handled("billing", 3)
        await h.publish(BILLING, "billing.close-month", {"month": str(month)})
        statement = tmp_path / str(month) / "576-CZK.csv"
        await eventually(statement.exists, what="the statement")
        *lines, fee, interest = statement.read_text().splitlines()
        assert [line.split(",")[3:] for line in lines[2:5]] == [
            ["1000.00", "1000.00"],
            ["-300.00", "700.00"],
            ["100.00", "800.00"],
        ]
        assert fee == ",,fee due,-15.00,"
        # How much it is goes by the day of the month.
        earned = Decimal(interest.split(",")[3])
        assert earned > 0
        await has(str(Decimal("785.00") + earned))


async def _is_told(about: str) -> bool:
    return about in await notices()
