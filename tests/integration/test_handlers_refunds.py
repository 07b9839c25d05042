"""The refunds service and the ledger beside it, run in the test harness on either database."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from handlers.accounting.database import open_database
from handlers.ledger import service as ledger_service
from handlers.messages import (
    LEDGER,
    ORDERS,
    REFUNDS,
    AccountBalance,
    BalanceOf,
    Currency,
    PayBack,
    PayBackAnswered,
    RefundExecuted,
    RefundRefused,
)
from handlers.records.refunds import refunds
from handlers.refunds import service as refunds_service
from mqkit.outcome import DeathReason
from mqkit.testing.harness import Harness, Published, harness
from tests.postgres import PostgresServer
from tests.support import eventually, running

pytestmark = pytest.mark.in_turn

PARTNER = {"bank": "AB", "account": "11"}

MANY = 1000 if os.environ.get("MQKIT_TEST_LONG") else 300
"""Orders of which each is refunded three times at once; a thousand take ten minutes on a busy
machine, and are raced on the records alone in any case."""


@pytest.fixture
async def r(
    database: str, mqkit_harness: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Harness]:
    """The refunds service by itself."""
    monkeypatch.setenv("REFUNDS_DATABASE", database)
    async with mqkit_harness(refunds_service) as r:
        await r.listen(LEDGER, "ledger.command.refund")
        yield r


@pytest.fixture(params=["sqlite", "postgres"])
def databases(request: pytest.FixtureRequest, name: str, tmp_path: Path) -> Iterator[list[str]]:
    """Two databases of a kind."""
    names = [f"{name}-{number}" for number in range(2)]
    if request.param == "sqlite":
        yield [f"sqlite+aiosqlite:///{tmp_path / each}.sqlite" for each in names]
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    yield [server.create_database(each) for each in names]
    for each in names:
        server.drop_database(each)


@pytest.fixture
async def both(
    databases: list[str], mqkit_harness: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Harness, Harness]]:
    """The refunds service and the ledger, with a database each."""
    monkeypatch.setenv("REFUNDS_DATABASE", databases[0])
    monkeypatch.setenv("LEDGER_DATABASE", databases[1])
    async with mqkit_harness(ledger_service) as ledger, mqkit_harness(refunds_service) as r:
        await ledger.listen(LEDGER, "ledger.answered.#")
        yield r, ledger


async def executed(h: Harness, order: str = "o", amount: str = "100.00", account: int = 7) -> None:
    """Say that an order is executed."""
    body = {"order_id": order, "account_id": account, "amount": amount, "currency": "CZK"}
    await h.publish(ORDERS, "order.executed", {**body, "partner": PARTNER})


async def ask(h: Harness, refund: str = "r", order: str = "o", **fields: object) -> str:
    """Ask for a refund of 60 CZK."""
    body = {"refund_id": refund, "order_id": order, "amount": "60.00", "currency": "CZK"}
    return await h.publish(REFUNDS, "refund.request", {**body, **fields})


def published(h: Harness, routing_key: str) -> list[Published]:
    return [each for each in h.published if each.routing_key == routing_key]


def reasons(h: Harness) -> list[str]:
    """Why refunds were refused."""
    return [each.body_as(RefundRefused).reason for each in published(h, "refund.refused")]


async def test_a_refund_is_paid_and_then_executed(r: Harness) -> None:
    """It is executed once the ledger says so, and once, however often that is said."""
    await executed(r)
    await r.settled()
    await ask(r)
    await r.settled()
    (command,) = published(r, "ledger.command.refund")
    asked: dict[str, Any] = {"refund_id": "r", "order_id": "o", "amount": "60", "currency": "CZK"}
    assert command.body_as(PayBack) == PayBack(**asked, account_id=7)
    assert published(r, "refund.executed") == []
    for _ in range(2):
        answer = PayBackAnswered(refund_id="r", order_id="o", paid=True)
        await r.publish(LEDGER, "ledger.answered.refund", answer)
        await r.settled()
    (end,) = published(r, "refund.executed")
    assert end.body_as(RefundExecuted) == RefundExecuted(**asked, account_id=7)


async def test_what_the_ledger_refuses_is_refused_and_free_again(r: Harness) -> None:
    """The reason is the ledger's, and another refund may take the amount."""
    await executed(r)
    await r.settled()
    await ask(r, "r")
    await r.settled()
    answer = PayBackAnswered(refund_id="r", order_id="o", paid=False, reason="the books are closed")
    await r.publish(LEDGER, "ledger.answered.refund", answer)
    await r.settled()
    assert reasons(r) == ["the books are closed"]
    await ask(r, "s", amount="100.00")
    await r.settled()
    assert len(published(r, "ledger.command.refund")) == 2


async def test_an_order_that_is_known_a_little_later_is_waited_for(r: Harness) -> None:
    """The broker holds the request meanwhile, and it is paid then."""
    refund = await ask(r)
    await r.settled()
    assert [each.message_id for each in r.retried] == [refund]
    await executed(r)
    assert (await r.outcome(refund)).acked
    await r.settled()
    assert len(published(r, "ledger.command.refund")) == 1


async def test_an_order_that_stays_unknown_is_refused(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After some seconds, with a reason; it is no dead letter, and there is no account to tell."""
    monkeypatch.setenv("REFUNDS_DATABASE", database)
    async with harness(refunds_service) as r:
        await r.listen(REFUNDS)
        refund = await ask(r)
        await r.advance(9)
        assert reasons(r) == []
        await r.advance(3)
        result = await r.outcome(refund)
        assert (result.acked, len(result.delays)) == (True, 7)
        await r.settled()
        assert reasons(r) == ["order o is not known to be paid"]
        assert published(r, "refund.refused")[0].body_as(RefundRefused).account_id is None
        # Later it is: but this refund has had its end.
        await executed(r)
        await ask(r)
        await r.settled()
        assert len(r.published) == 1


async def test_what_cannot_be_refunded_is_refused_with_a_reason(r: Harness) -> None:
    """Another currency, or more than is left; the ledger is not asked."""
    await executed(r)
    await r.settled()
    await ask(r, "r", currency="EUR")
    await ask(r, "s", amount="100.01")
    await r.settled()
    assert sorted(reasons(r)) == [
        "of 100.00 paid for order o 100.00 are left to refund",
        "order o was paid in CZK, not EUR",
    ]
    assert published(r, "ledger.command.refund") == []


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"amount": "0.00"}, "amount"),
        ({"amount": "-1.00"}, "amount"),
        ({"amount": "12345678901234567890"}, "amount"),
        ({"currency": "XAU"}, "currency"),
        ({"refund_id": ""}, "refund_id"),
    ],
    ids=str,
)
async def test_what_is_no_refund_is_dead_lettered(
    r: Harness, fields: dict[str, Any], field: str
) -> None:
    """The dead letter names the field, and nothing is taken."""
    await executed(r)
    await r.settled()
    await ask(r, "r", **fields)
    await r.settled()
    (letter,) = await r.dead_letters("refunds.requests")
    assert r.dead_lettered[0].reason is DeathReason.UNDECODABLE
    assert field in (letter.error_message or "")
    assert r.published == []


async def test_a_known_id_with_another_content_is_dead_lettered(r: Harness) -> None:
    """Of a refund and of an order; the same content again does nothing."""
    await executed(r)
    await r.settled()
    for amount in ("60.00", "60.0", "40.00"):
        await ask(r, "r", amount=amount)
        await r.settled()
    await executed(r, amount="1000.00")
    await r.settled()
    assert [each.reason for each in r.dead_lettered] == [DeathReason.REJECTED] * 2
    (request,) = await r.dead_letters("refunds.requests")
    (order,) = await r.dead_letters("refunds.orders")
    assert "amount is 60.00 there and 40.00 here" in (request.error_message or "")
    assert "paid is 100.00 there and 1000.00 here" in (order.error_message or "")
    assert len(r.published) == 1


ACCOUNTS = 20
"""What a test pays is spread over so many, as each one's commands go one after the other."""


async def paid_orders(r: Harness, ledger: Harness, count: int) -> None:
    """Have the ledger pay so many orders of 100 CZK."""

    async def pay(number: int) -> None:
        order, account = f"o{number}", number % ACCOUNTS
        money = {"amount": "100.00", "currency": "CZK"}
        for kind, fields in (
            ("deposit", {"deposit_id": order, **money}),
            ("hold", {"order_id": order, **money}),
            ("execute", {"order_id": order, "partner": PARTNER}),
        ):
            body = {"kind": kind, "account_id": account, **fields}
            await ledger.publish(LEDGER, f"ledger.command.{kind}", body)
        await executed(r, order, account=account)

    for first in range(0, count, 50):
        await asyncio.gather(*(pay(number) for number in range(first, min(count, first + 50))))
        await ledger.settled(within=60)
        await r.settled(within=60)


async def balance(ledger: Harness) -> Decimal:
    """Sum what the accounts have."""
    total = Decimal(0)
    for account in range(ACCOUNTS):
        question = BalanceOf(account_id=account, currency=Currency.CZK)
        route = LEDGER.key("ledger.balance")
        found: AccountBalance = await ledger.request(route, question, AccountBalance)
        total += found.balance
    return total


async def ended(r: Harness, count: int) -> Counter[str]:
    """Wait until so many refunds have ended; count them by their ends."""

    def ends() -> list[str]:
        return [each.routing_key for each in r.published if each.exchange == REFUNDS.name]

    await eventually(lambda: len(ends()) >= count, within=60)
    return Counter(ends())


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("times", [15, pytest.param(MANY, marks=pytest.mark.long)])
async def test_of_three_refunds_of_60_percent_at_once_one_succeeds(
    both: tuple[Harness, Harness], times: int
) -> None:
    """The others are refused with a reason, and the account gets the one back: every time."""
    r, ledger = both
    await paid_orders(r, ledger, times)
    assert await balance(ledger) == 0
    for number in range(times):
        await asyncio.gather(*(ask(r, f"r{number}-{each}", f"o{number}") for each in range(3)))
        if number % 50 == 49:
            await ended(r, 3 * (number - 9))
    ends = await ended(r, 3 * times)
    assert ends == {"refund.executed": times, "refund.refused": 2 * times}
    by_order = [each.body_as(RefundExecuted).order_id for each in published(r, "refund.executed")]
    assert len(set(by_order)) == times
    assert set(reasons(r)) <= {
        f"of 100.00 paid for order o{n} 40.00 are left to refund" for n in range(times)
    }
    assert await balance(ledger) == times * Decimal("60.00")
    assert not r.dead_lettered
    assert not ledger.dead_lettered


@pytest.mark.long
@pytest.mark.timeout(300)
async def test_over_processes_no_order_is_paid_back_more_than_was_paid(
    databases: list[str],
    mqkit_harness: Callable[..., Any],
    mqkit_vhost: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Three processes take the requests, in no order: each order has one refund of three."""
    times = 200
    monkeypatch.setenv("LEDGER_DATABASE", databases[1])
    environment = {"REFUNDS_DATABASE": databases[0]}
    processes = running(
        "handlers.refunds:service",
        mqkit_vhost,
        tmp_path / "log",
        *("--processes", "3"),
        **environment,
    )
    async with mqkit_harness(ledger_service) as ledger:
        await ledger.listen(LEDGER, "ledger.answered.#")
        with processes as process:
            await process.says("refunds.answers: consuming")
            await paid_orders(ledger, ledger, times)
            for number in range(times):
                order = f"o{number}"
                await asyncio.gather(*(ask(ledger, f"r{number}-{n}", order) for n in range(3)))
            ends = {"executed": times, "refused": 2 * times}

            async def have_ended() -> bool:
                return await states(databases[0]) == ends

            await eventually(have_ended, within=120)
            process.send(signal.SIGTERM)
            await process.ends()
        assert await balance(ledger) == times * Decimal("60.00")
    assert not ledger.dead_lettered


async def states(database: str) -> Counter[str]:
    """Count refunds by what has become of them."""
    async with open_database(database) as engine, engine.connect() as connection:
        return Counter(await connection.scalars(select(refunds.c.state)))
