"""Fees and interest of a month, to the last digit."""

from __future__ import annotations

import datetime as dt
from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.messages import Currency
from handlers.monthly.month import Month
from handlers.monthly.statement import (
    FEES,
    YEARLY_RATE,
    Line,
    daily_balances,
    interest,
    make_statement,
)

MONTH = Month(2026, 11)
AMOUNTS = st.decimals("-9999999999999.99", "9999999999999.99", places=2)
SMALL = st.decimals("-1000.00", "1000.00", places=2)


def line(amount: Decimal | str, day: int = 1, number: int = 1) -> Line:
    """A posting on a day of the month; of an earlier month where it is less than 1."""
    at = MONTH.start + dt.timedelta(days=day - 1, hours=23)
    return Line(f"deposit-{number}", "deposit", Decimal(amount), at)


@pytest.mark.parametrize(
    ("balances", "earned"),
    [
        ([], "0.00"),
        (["730.00"], "0.01"),  # 730.00 * 0.005 / 365 is 0.01
        (["365.00"], "0.00"),  # half a hundredth: to the even neighbour
        (["1095.00"], "0.02"),  # one and a half: to the even neighbour
        (["365.01"], "0.01"),  # a little more than half
        (["364.99"], "0.00"),
        (["182.50"] * 2, "0.00"),  # rounded once, not each day
        (["182.51"] * 2, "0.01"),
        (["730.00", "-730.00"], "0.01"),  # an overdrawn day costs nothing
        (["1000000.00"] * 30, "410.96"),
    ],
)
def test_interest_is_rounded_once(balances: list[str], earned: str) -> None:
    """The sum of all days is rounded to two digits, half to even."""
    result = interest([Decimal(each) for each in balances])
    assert (result, str(result)) == (Decimal(earned), earned)


@given(balances=st.lists(AMOUNTS, max_size=31))
def test_interest_is_exact_to_the_last_digit(balances: list[Decimal]) -> None:
    """It is what arithmetic of 100 digits gives, for balances of up to 15 digits."""
    with localcontext(Context(prec=100)):
        exact = sum((max(each, Decimal(0)) for each in balances), Decimal(0)) * YEARLY_RATE / 365
        expected = exact.quantize(Decimal("0.01"), rounding=ROUND_HALF_EVEN)
    assert interest(balances) == expected


@given(balances=st.lists(AMOUNTS, max_size=31), more=st.decimals("0.00", "1000.00", places=2))
def test_more_money_earns_no_less(balances: list[Decimal], more: Decimal) -> None:
    """Interest does not fall where each day's balance rises, and is never negative."""
    assert 0 <= interest(balances) <= interest([each + more for each in balances])


@given(
    opening=SMALL,
    lines=st.lists(st.builds(line, SMALL, st.integers(-40, 30)), max_size=20),
)
def test_each_day_ends_with_what_was_posted_until_then(opening: Decimal, lines: list[Line]) -> None:
    """What comes from an earlier month counts from the first day; the last day is the closing."""
    balances = daily_balances(MONTH, opening, lines)
    assert len(balances) == 30
    for day, balance in enumerate(balances):
        end = MONTH.start + dt.timedelta(days=day + 1)
        assert balance == opening + sum(each.amount for each in lines if each.posted_at < end)
    assert balances[-1] == make_statement(MONTH, 576, "CZK", opening, lines).closing


def test_every_currency_has_a_fee() -> None:
    """An account costs its fee whatever was posted, and where nothing was."""
    assert set(FEES) == {str(each) for each in Currency}
    for currency, fee in FEES.items():
        statement = make_statement(MONTH, 576, currency, Decimal("730.00"), [])
        assert (statement.fee, statement.closing) == (fee, Decimal("730.00"))
        assert statement.interest == Decimal("0.30")
