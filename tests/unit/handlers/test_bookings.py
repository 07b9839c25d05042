"""What a command asks of the ledger, and under which key."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter

from handlers.accounting.books import Outcome
from handlers.accounting.rules import Command, Decision, Kind
from handlers.bookings import answer, booking
from handlers.messages import LedgerCommand, ReleaseAnswered

COMMANDS: TypeAdapter[Any] = TypeAdapter(LedgerCommand)
MONEY = {"amount": "1.50", "currency": "EUR"}
PARTNER = {"bank": "AB", "account": "11"}


@pytest.mark.parametrize(
    ("fields", "key"),
    [
        ({"kind": "open", "currency": "EUR"}, "open-7-EUR"),
        ({"kind": "deposit", "deposit_id": "d", **MONEY}, "deposit-d"),
        ({"kind": "hold", "order_id": "o", **MONEY}, "hold-o"),
        ({"kind": "execute", "order_id": "o", "partner": PARTNER}, "execute-o"),
        ({"kind": "release", "order_id": "o"}, "release-o"),
        ({"kind": "refund", "refund_id": "r", "order_id": "o", **MONEY}, "refund-r"),
        ({"kind": "charge", "charge_id": "c", **MONEY}, "charge-c"),
        ({"kind": "interest", "interest_id": "i", **MONEY}, "interest-i"),
    ],
)
def test_each_command_has_a_business_key_of_its_own(fields: dict[str, Any], key: str) -> None:
    """The kind and what its sender chose; the content is all that the message says."""
    asked = booking(COMMANDS.validate_python({"account_id": 7, **fields}))
    assert (asked.key, asked.account_id) == (key, 7)
    assert asked.order_id == fields.get("order_id")
    assert asked.currency == fields.get("currency")
    if "amount" in fields:
        assert f"{asked.amount:.2f}" == fields["amount"]
    if "partner" in fields:
        assert asked == Command(
            key, Kind.EXECUTE, 7, order_id="o", partner_bank="AB", partner_account="11"
        )


@pytest.mark.parametrize("paid", [False, True])
def test_a_release_is_answered_with_whether_the_order_is_paid(paid: bool) -> None:
    """A release that cannot be done is one of an order that is paid."""
    release = COMMANDS.validate_python({"kind": "release", "account_id": 7, "order_id": "o"})
    said = answer(release, Outcome(Decision(done=not paid)))
    assert said == ("ledger.answered.release", ReleaseAnswered(order_id="o", executed=paid))
