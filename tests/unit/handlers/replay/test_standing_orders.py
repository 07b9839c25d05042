"""Standing orders, read from a bank's file as payment orders."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from handlers.bank_format import RowError, StandingOrder
from handlers.messages import Currency, Partner, PlaceOrder
from handlers.replay.standing_orders import payment_order, read_orders

STANDING = StandingOrder(29402, 2, "ST", "89597016", Decimal("3372.70"), "UVER")


def test_a_standing_order_is_a_payment_order_by_the_banks_number() -> None:
    """It is in the bank's currency, exact, and the same at each reading."""
    assert payment_order(STANDING) == PlaceOrder(
        order_id="standing-29402",
        account_id=2,
        partner=Partner(bank="ST", account="89597016"),
        amount=Decimal("3372.70"),
        currency=Currency.CZK,
        purpose="UVER",
    )


def test_a_name_that_is_too_long_to_be_paid_to_is_told() -> None:
    """The reason names the field, and does not quote what stands there."""
    standing = StandingOrder(1, 2, "ST", "9" * 51, Decimal("1.00"), "")
    with pytest.raises(RowError, match="account: String should have at most 50 characters"):
        payment_order(standing)


def test_a_row_that_is_none_is_told_by_its_line_and_stops_no_other_one(tmp_path: Path) -> None:
    """It is None in its place, between the orders of the other rows."""
    path = tmp_path / "o.csv"
    path.write_text(
        "order_id;account_id;bank_to;account_to;amount;k_symbol\n"
        "1;2;ST;3;4.50;\n"
        "2;2;ST;3;-4.50;\n"
        "3;2;ST;3;4.50;\n"
    )
    told: list[str] = []
    found = [each and each.order_id for each in read_orders(path, told.append)]
    assert found == ["standing-1", None, "standing-3"]
    assert told == ["o.csv, line 3: amount '-4.50' is not an amount"]
