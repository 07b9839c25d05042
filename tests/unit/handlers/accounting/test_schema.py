"""Amounts in the database, kept to the last digit."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.accounting.schema import from_minor_units, to_minor_units

AMOUNTS = st.integers(1, 10**15).map(lambda minor: Decimal(minor).scaleb(-2))


@given(st.integers(-(10**18), 10**18))
def test_money_is_kept_exactly(minor: int) -> None:
    """An amount comes back from its minor units as it went, always with two digits."""
    amount = from_minor_units(minor)
    assert to_minor_units(amount) == minor
    assert amount.as_tuple().exponent == -2


@pytest.mark.parametrize("amount", [Decimal("0.001"), Decimal("NaN"), Decimal("Infinity"), 1.5])
def test_what_minor_units_cannot_hold_is_refused(amount: Decimal) -> None:
    """A third digit, no number, and a float are errors, not rounded."""
    with pytest.raises(ValueError, match=r"digits|finite"):
        to_minor_units(amount)


@given(st.lists(AMOUNTS, min_size=1, max_size=5))
def test_sums_are_exact_to_the_last_digit(amounts: list[Decimal]) -> None:
    """A balance is the sum of Decimals, however large they are."""
    assert sum(map(to_minor_units, amounts)) == to_minor_units(sum(amounts, Decimal(0)))
