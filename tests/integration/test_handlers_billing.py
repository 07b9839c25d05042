"""The billing service, run in the test harness on either database."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from handlers import billing
from handlers.clock import Clock
from handlers.messages import BILLING, LEDGER, MonthClosed
from handlers.monthly.month import Month
from mqkit.outcome import DeathReason
from mqkit.testing.brokers.broker import Broker
from mqkit.testing.harness import Harness, harness
from tests.support import eventually

pytestmark = pytest.mark.in_turn(embedded=True)

POSTED: dict[str, Any] = {
    "business_key": "deposit-1",
    "kind": "deposit",
    "account_id": 576,
    "sides": [
        {"account": "customer:576", "currency": "CZK", "amount": "73000.00"},
        {"account": "bank:cash", "currency": "CZK", "amount": "-73000.00"},
    ],
}


def posted(**changes: Any) -> dict[str, Any]:
    """An event of the ledger, of now."""
    return {**POSTED, "posted_at": dt.datetime.now(dt.UTC).isoformat(), **changes}


@pytest.fixture(autouse=True)
def _places(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BILLING_DATABASE", database)
    monkeypatch.setenv("BILLING_STATEMENTS", str(tmp_path))


@pytest.fixture
async def h(
    mqkit_harness: Callable[..., AbstractAsyncContextManager[Harness]],
) -> AsyncIterator[Harness]:
    async with mqkit_harness(billing.service) as h:
        await h.listen(LEDGER, "ledger.command.*")
        await h.listen(BILLING, "billing.month-closed")
        yield h


def this_month() -> Month:
    return Month.of(dt.datetime.now(dt.UTC))


def sent(h: Harness) -> list[str]:
    """What the service published, apart from the closes that are planned."""
    ids = [each.message_id or "" for each in h.published]
    return sorted(each for each in ids if not each.startswith("close-"))


def dues(month: Month) -> list[str]:
    """The ids of what a month's close publishes for the account."""
    return [f"fee-{month}-576-CZK", f"interest-{month}-576-CZK", f"month-closed-{month}"]


async def all_sent() -> None:
    """Wait until what the service's transactions published is published."""

    async def is_empty() -> bool:
        return await billing.store.pending() == 0

    await eventually(is_empty, what="an empty outbox")


async def test_a_month_that_is_closed_twice_is_billed_once(h: Harness, tmp_path: Path) -> None:
    """Under other message ids, too: its fee, interest and end are published once."""
    month, deposit = this_month(), posted()
    for _ in range(2):
        await h.publish(LEDGER, "ledger.posted", deposit)
    await eventually(lambda: len(h.handled) == 2, what="two postings")
    for _ in range(2):
        await h.publish(BILLING, "billing.close-month", {"month": str(month)})
    await eventually(lambda: len(h.handled) == 4, what="two closes")
    await all_sent()
    assert sent(h) == dues(month)
    (event,) = [each for each in h.published if each.routing_key == "billing.month-closed"]
    folder = tmp_path / str(month)
    assert event.body_as(MonthClosed) == MonthClosed(
        month=str(month), accounts=1, statements=str(folder)
    )
    text = (folder / "576-CZK.csv").read_text()
    assert ",deposit-1,deposit,73000.00,73000.00\n" in text
    assert [each.name for each in folder.iterdir()] == ["576-CZK.csv"]


async def test_bad_input_is_dead_lettered_with_its_reason(h: Harness, tmp_path: Path) -> None:
    """A month that is none, or not due, and a posting that cannot be: nothing is billed."""
    month = this_month()
    sides = POSTED["sides"]
    bad = [
        (LEDGER, "ledger.posted", posted(account_id=577), "no posting to customer:577"),
        (LEDGER, "ledger.posted", posted(posted_at="2026-11-30T10:00:00"), "posted_at: Input"),
        (LEDGER, "ledger.posted", posted(business_key="a\0"), "business_key: String should match"),
        (
            LEDGER,
            "ledger.posted",
            posted(sides=[sides[0] | {"currency": "XXX"}]),
            "sides.0.currency: Input should be 'CZK', 'EUR' or 'USD'",
        ),
        (
            LEDGER,
            "ledger.posted",
            posted(sides=[sides[0] | {"amount": "1" * 20}]),
            "sides.0.amount: Decimal input should have no more than 15 digits",
        ),
        (BILLING, "billing.close-month", {"month": "2026-13"}, "month: String should match"),
        (BILLING, "billing.close-month", {"month": "0000-01"}, "month: String should match"),
        (BILLING, "billing.close-month", {"month": str(month.next)}, f"to be closed is {month}"),
        (BILLING, "billing.close-month", {"month": "1999-01"}, f"to be closed is {month}"),
    ]
    for exchange, key, body, _ in bad:
        await h.publish(exchange, key, body)
    await eventually(lambda: len(h.dead_lettered) == len(bad), what="dead letters")
    reasons = [each.reason for each in h.dead_lettered]
    assert sorted(map(str, reasons)) == sorted(
        map(str, [DeathReason.REJECTED] * 3 + [DeathReason.UNDECODABLE] * 6)
    )
    letters = [
        *await h.dead_letters("billing.postings"),
        *await h.dead_letters("billing.close-month"),
    ]
    for _, _, _, why in bad:
        assert any(why in (letter.error_message or "") for letter in letters), why
    assert sent(h) == []
    assert list(tmp_path.rglob("*.csv")) == []
    # The month is still open, and nobody is known who would be billed.
    await h.publish(BILLING, "billing.close-month", {"month": str(month)})
    await eventually(lambda: len(h.handled) == 1, what="the close")
    await all_sent()
    assert sent(h) == [f"month-closed-{month}"]


async def test_months_are_closed_as_they_end(
    mqkit_embedded: Broker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """From the first start on, each month's close comes when it is over, without anybody's help."""
    month = this_month()
    async with harness(billing.service, mqkit_embedded) as h:
        monkeypatch.setattr(Clock, "now", lambda _: h.now())
        await h.listen(LEDGER, "ledger.command.*")
        await h.listen(BILLING, "billing.month-closed")
        await h.publish(LEDGER, "ledger.posted", posted())
        await eventually(lambda: len(h.handled) == 1, what="a posting")
        before = (month.end - h.now()).total_seconds() - 60
        if before > 0:
            await h.advance(before)
        assert sent(h) == []
        of_months: list[str] = []
        for number in range(3):
            await h.advance((month.end - h.now()).total_seconds() + 1)
            await eventually(lambda: len(h.handled) == number + 2, what="a close")  # noqa: B023
            await all_sent()
            of_months += dues(month)
            assert sent(h) == sorted(of_months)
            month = month.next
        assert len(list(tmp_path.rglob("*.csv"))) == 3
