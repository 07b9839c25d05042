"""The rule of double entry."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.accounting.double_entry import BankAccount, double_entry
from handlers.events import Direction
from tests.unit.handlers.entries import entry


@given(
    minor=st.integers(1, 10**14),
    direction=st.sampled_from(Direction),
    operation=st.sampled_from(["VKLAD", "VYBER", "PREVOD NA UCET", "", "?"]),
    k_symbol=st.sampled_from(["", "UROK", "SLUZBY", "SANKC. UROK", "SIPO"]),
)
def test_postings_sum_to_zero(
    minor: int, direction: Direction, operation: str, k_symbol: str
) -> None:
    """Every entry moves money between two accounts, the customer's as the bank says it."""
    of = entry(1, str(Decimal(minor).scaleb(-2)), direction=direction)
    of = of.model_copy(update={"operation": operation, "k_symbol": k_symbol})
    customer, bank = double_entry(of)
    assert customer.amount + bank.amount == 0
    assert (customer.account, customer.amount) == ("customer:7", of.signed_amount)
    assert bank.account != customer.account


@pytest.mark.parametrize(
    ("operation", "k_symbol", "account"),
    [
        ("VKLAD", "", BankAccount.CASH),
        ("VYBER", "SLUZBY", BankAccount.FEE_INCOME),
        ("", "UROK", BankAccount.INTEREST_EXPENSE),
        ("VYBER", "SANKC. UROK", BankAccount.PENALTY_INTEREST_INCOME),
        ("PREVOD NA UCET", "SIPO", BankAccount.CLEARING),
        ("VYBER KARTOU", "", BankAccount.CARDS),
        ("?", "?", BankAccount.SUSPENSE),
    ],
)
def test_the_other_side_is_chosen_by_the_banks_words(
    operation: str, k_symbol: str, account: BankAccount
) -> None:
    """What the bank books on its own account goes there; what nobody explains, into suspense."""
    of = entry(1, operation=operation, k_symbol=k_symbol)
    assert double_entry(of)[1].account == account
