"""The ledger's commands and its balances, run in the test harness on either database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from typing import Any

import pytest

from handlers.accounting.audit import problems
from handlers.ledger import COMMANDS_QUEUE, service
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
    ReleaseAnswered,
)
from handlers.statements import ENTRIES, entry_message_id, entry_routing_key
from mqkit.outcome import DeathReason
from mqkit.testing.harness import Harness, Published
from tests.unit.handlers.entries import entry, writing

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


async def test_a_command_under_another_message_id_gets_the_same_answer(h: Harness) -> None:
    """The store's note of its message is not what keeps its money from being moved twice."""
    await say(h, "deposit", deposit_id="d", amount="10.00")
    for message_id in ("m1", "m1", "m2"):
        await say(h, "hold", message_id, order_id="o", amount="10.00")
        await say(h, "execute", f"{message_id}-e", order_id="o", partner=PARTNER)
    answers = [each.body_as(ExecutionAnswered) for each in published(h, "ledger.answered.execute")]
    # The second one is a copy of its message, which does not run.
    assert answers == [ExecutionAnswered(order_id="o", executed=True)] * 2
    assert len(published(h, "ledger.posted")) == 2
    assert await has(h) == (Decimal(0), Decimal(0), Decimal(0))


async def test_a_hold_beyond_what_is_there_is_answered_with_the_reason(h: Harness) -> None:
    """So is one of an account that nobody knows; no event says that something was held."""
    await say(h, "deposit", deposit_id="d", amount="10.00")
    await say(h, "hold", order_id="o", amount="10.01")
    await say(h, "hold", order_id="p", amount="0.01", account_id=8)
    answers = [each.body_as(HoldAnswered) for each in published(h, "ledger.answered.hold")]
    assert [(each.held, each.reason) for each in answers] == [
        (False, "account 7 in CZK has 10.00 available, not 10.01"),
        (False, "account 8 is not known in CZK"),
    ]
    assert published(h, "ledger.hold-changed") == []


async def test_a_hold_that_is_released_first_is_never_placed(h: Harness) -> None:
    """The release is answered at once, and the hold is refused when it comes."""
    await say(h, "deposit", deposit_id="d", amount="10.00")
    await say(h, "release", order_id="o")
    await say(h, "hold", order_id="o", amount="1.00")
    await say(h, "execute", order_id="o", partner=PARTNER)
    (released,) = published(h, "ledger.answered.release")
    assert released.body_as(ReleaseAnswered) == ReleaseAnswered(order_id="o", executed=False)
    (held,) = published(h, "ledger.answered.hold")
    assert held.body_as(HoldAnswered).reason == "order o was released before it was held"
    (executed,) = published(h, "ledger.answered.execute")
    assert executed.body_as(ExecutionAnswered).reason == "order o was released before"
    assert await has(h) == (Decimal("10.00"), Decimal(0), Decimal("10.00"))


async def test_a_release_after_the_payment_says_that_it_is_paid(h: Harness) -> None:
    """Nothing is given back."""
    await say(h, "deposit", deposit_id="d", amount="10.00")
    await say(h, "hold", order_id="o", amount="1.00")
    await say(h, "execute", order_id="o", partner=PARTNER)
    await say(h, "release", order_id="o")
    (released,) = published(h, "ledger.answered.release")
    assert released.body_as(ReleaseAnswered) == ReleaseAnswered(order_id="o", executed=True)
    assert await has(h) == (Decimal("9.00"), Decimal(0), Decimal("9.00"))


async def test_the_statement_and_the_payments_are_one_balance(h: Harness) -> None:
    """It is the exact sum of the bank's entries and of what commands posted."""
    for number in range(3):
        each = entry(number, "0.10")
        key, message_id = entry_routing_key(each), entry_message_id(each)
        await h.publish(ENTRIES, key, each, message_id=message_id)
    await h.settled()
    await say(h, "hold", order_id="o", amount="0.30")
    await say(h, "execute", order_id="o", partner=PARTNER)
    await say(h, "interest", interest_id="i", amount="9999999999999.98")
    assert (await has(h))[0] == Decimal("9999999999999.98")
    assert await has(h, "EUR") == (Decimal(0), Decimal(0), Decimal(0))


WRONG: dict[str, tuple[str, dict[str, Any]]] = {
    "currency": ("deposit", {"deposit_id": "w", "amount": "1", "currency": "XAU"}),
    "negative": ("deposit", {"deposit_id": "w", "amount": "-1.00"}),
    "nothing": ("refund", {"refund_id": "w", "order_id": "o", "amount": "0.00"}),
    "digits": ("charge", {"charge_id": "w", "amount": "12345678901234567890"}),
    "thirds": ("hold", {"order_id": "w", "amount": "0.001"}),
    "id": ("hold", {"order_id": "a b", "amount": "1.00"}),
    "kind": ("steal", {"amount": "1.00"}),
}


@pytest.mark.parametrize("name", WRONG)
async def test_what_is_no_command_is_dead_lettered(h: Harness, name: str) -> None:
    """The dead letter says which field is wrong, and no balance changes."""
    kind, fields = WRONG[name]
    await say(h, "deposit", deposit_id="d", amount="10.00")
    await say(h, kind, **fields)
    (letter,) = await h.dead_letters(COMMANDS_QUEUE)
    assert h.dead_lettered[0].reason is DeathReason.UNDECODABLE
    field = {"kind": "'kind'", "id": "order_id", "currency": "currency"}.get(name, "amount")
    assert field in (letter.error_message or "")
    assert await has(h) == (Decimal("10.00"), Decimal(0), Decimal("10.00"))


REUSED: dict[str, tuple[dict[str, Any], str]] = {
    "deposit": ({"deposit_id": "d", "amount": "10.01"}, "amount is 10.00 in the ledger"),
    "hold": ({"order_id": "o", "amount": "1.00", "currency": "EUR"}, "currency is CZK"),
    "charge": ({"charge_id": "x", "amount": "1.00", "account_id": 8}, "account 8 is not known"),
    "release": ({"order_id": "o", "account_id": 8}, "order o is account 7's"),
    "open": ({"overdraft": "1.00"}, "amount is 0.00 in the ledger and 1.00 here"),
}


@pytest.mark.parametrize("kind", REUSED)
async def test_an_id_with_another_content_is_dead_lettered(
    h: Harness, database: str, kind: str
) -> None:
    """The dead letter says what differs; nothing is answered, and no balance changes."""
    fields, reason = REUSED[kind]
    await say(h, "open")
    await say(h, "deposit", deposit_id="d", amount="10.00")
    await say(h, "hold", order_id="o", amount="1.00")
    before = len(h.published)
    await say(h, kind, **fields)
    (letter,) = await h.dead_letters(COMMANDS_QUEUE)
    assert (h.dead_lettered[0].reason, len(h.published)) == (DeathReason.REJECTED, before)
    assert reason in (letter.error_message or "")
    assert await has(h) == (Decimal("10.00"), Decimal("1.00"), Decimal("9.00"))
    async with writing(database) as connection:
        assert [each async for each in problems(connection)] == []
