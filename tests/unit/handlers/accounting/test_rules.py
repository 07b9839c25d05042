"""What becomes of a command, decided without a database."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from handlers.accounting.errors import ConflictError, RefusedError
from handlers.accounting.rules import (
    MOST,
    Account,
    Command,
    Decision,
    Hold,
    HoldState,
    Kind,
    decide,
)

HUNDRED = Decimal("100.00")
ACCOUNT = Account(7, "CZK", overdraft=Decimal("50.00"), balance=HUNDRED, held=Decimal("30.00"))
PLACED = Hold("o", 7, Decimal("30.00"), "CZK", HoldState.PLACED)
RELEASED = replace(PLACED, state=HoldState.RELEASED)
EXECUTED = replace(PLACED, state=HoldState.EXECUTED)
TOMBSTONE = Hold("o", 7, None, None, HoldState.RELEASED)


def command(kind: Kind, amount: str | None = None, account: int = 7) -> Command:
    """One of order `o`, in CZK."""
    money = None if amount is None else Decimal(amount)
    return Command(f"{kind}-x", kind, account, money, "CZK", "o")


def reason(decision: Decision) -> str:
    """Why it is not done; nothing is to be changed then."""
    assert not decision.done
    assert decision == Decision(done=False, reason=decision.reason)
    return decision.reason


def test_what_is_available_can_be_held_and_no_haler_more() -> None:
    """Available is the balance and the overdraft, less what is held."""
    decision = decide(command(Kind.HOLD, "120.00"), ACCOUNT, None)
    assert (decision.done, decision.held, decision.balance) == (True, Decimal("120.00"), Decimal(0))
    assert reason(decide(command(Kind.HOLD, "120.01"), ACCOUNT, None)) == (
        "account 7 in CZK has 120.00 available, not 120.01"
    )


def test_a_hold_on_an_unknown_account_is_refused_with_a_reason() -> None:
    """It is answered, and the order can end."""
    said = reason(decide(command(Kind.HOLD, "1.00"), None, None))
    assert said == "account 7 is not known in CZK"


def test_a_hold_after_its_release_is_refused() -> None:
    """The release was told that nothing will be held."""
    said = reason(decide(command(Kind.HOLD, "1.00"), ACCOUNT, TOMBSTONE))
    assert said == "order o was released before it was held"


def test_what_is_executed_leaves_the_account_and_the_hold() -> None:
    """It goes to the account that stands for other banks."""
    decision = decide(command(Kind.EXECUTE), ACCOUNT, PLACED)
    assert [(each.account, each.amount) for each in decision.postings] == [
        ("customer:7", Decimal("-30.00")),
        ("bank:clearing", Decimal("30.00")),
    ]
    assert (decision.held, decision.hold) == (Decimal("-30.00"), EXECUTED)


@pytest.mark.parametrize(
    ("hold", "said"),
    [
        (None, "nothing is held for order o"),
        (RELEASED, "order o was released before"),
        (TOMBSTONE, "order o was released before"),
        (EXECUTED, "order o was executed before"),
    ],
)
def test_what_is_not_held_is_not_executed(hold: Hold | None, said: str) -> None:
    """The answer says why."""
    assert reason(decide(command(Kind.EXECUTE), ACCOUNT, hold)) == said


def test_an_execution_that_a_fee_has_made_too_large_is_refused() -> None:
    """A fee takes what is held, too; no order is executed beyond the overdraft."""
    poor = replace(ACCOUNT, balance=Decimal("-20.01"))
    said = reason(decide(command(Kind.EXECUTE), poor, PLACED))
    assert said == "account 7 in CZK has 29.99 to pay from, not 30.00"
    assert decide(command(Kind.EXECUTE), replace(poor, balance=Decimal(-20)), PLACED).done


@pytest.mark.parametrize(
    ("hold", "held", "after"),
    [
        (None, Decimal(0), TOMBSTONE),
        (PLACED, Decimal("-30.00"), RELEASED),
        (TOMBSTONE, Decimal(0), TOMBSTONE),
    ],
)
def test_after_a_release_nothing_is_held(hold: Hold | None, held: Decimal, after: Hold) -> None:
    """Where there was no hold, a tombstone is left."""
    decision = decide(command(Kind.RELEASE), ACCOUNT, hold)
    assert (decision.done, decision.held, decision.hold) == (True, held, after)


def test_a_release_after_the_execution_says_that_it_is_paid() -> None:
    """It stays paid."""
    assert reason(decide(command(Kind.RELEASE), ACCOUNT, EXECUTED)) == "order o is paid"


@pytest.mark.parametrize("kind", [Kind.EXECUTE, Kind.RELEASE])
def test_an_order_is_one_accounts(kind: Kind) -> None:
    """A command of another account's for it is a conflict."""
    with pytest.raises(ConflictError, match="order o is account 7's in the ledger"):
        decide(command(kind, account=8), replace(ACCOUNT, account_id=8), PLACED)


def test_refunds_together_are_what_was_paid_at_most() -> None:
    """The ledger holds this, too, and not only who asks it."""
    half = replace(EXECUTED, refunded=Decimal("15.00"))
    decision = decide(command(Kind.REFUND, "15.00"), ACCOUNT, half)
    assert (decision.balance, decision.hold) == (
        Decimal("15.00"),
        replace(EXECUTED, refunded=Decimal("30.00")),
    )
    assert reason(decide(command(Kind.REFUND, "15.01"), ACCOUNT, half)) == (
        "of order o 30.00 were paid and 15.00 are paid back: 15.01 are too much"
    )


@pytest.mark.parametrize("hold", [None, PLACED, RELEASED, TOMBSTONE])
def test_what_was_not_paid_is_not_paid_back(hold: Hold | None) -> None:
    """Neither a hold nor a released one is a payment."""
    assert reason(decide(command(Kind.REFUND, "1.00"), ACCOUNT, hold)) == "order o was not paid"


def test_an_order_is_paid_back_in_its_own_currency() -> None:
    """Nothing here converts one into another."""
    euros = replace(command(Kind.REFUND, "1.00"), currency="EUR")
    said = reason(decide(euros, replace(ACCOUNT, currency="EUR"), EXECUTED))
    assert said == "order o was paid in CZK, not EUR"


@pytest.mark.parametrize(
    ("kind", "against", "amount"),
    [
        (Kind.DEPOSIT, "bank:cash", 5),
        (Kind.INTEREST, "bank:interest-expense", 5),
        (Kind.CHARGE, "bank:fee-income", -5),
    ],
)
def test_money_stands_against_an_account_of_the_banks(
    kind: Kind, against: str, amount: int
) -> None:
    """The two postings sum to zero."""
    customers, banks = decide(command(kind, "5.00"), ACCOUNT, None).postings
    assert (customers.account, banks.account) == ("customer:7", against)
    assert (customers.amount, banks.amount) == (Decimal(amount), Decimal(-amount))


def test_a_fee_is_taken_beyond_the_overdraft() -> None:
    """Nothing else is."""
    assert decide(command(Kind.CHARGE, "1000.00"), ACCOUNT, None).balance == -1000


@pytest.mark.parametrize("kind", [Kind.CHARGE, Kind.INTEREST])
def test_what_has_no_answer_and_no_account_is_refused(kind: Kind) -> None:
    """The error names the command, the account and the currency."""
    with pytest.raises(RefusedError, match=f"{kind}-x: account 7 is not known in CZK"):
        decide(command(kind, "1.00"), None, None)


@pytest.mark.parametrize("kind", [Kind.OPEN, Kind.DEPOSIT, Kind.INTEREST, Kind.CHARGE])
def test_no_balance_has_more_than_fifteen_digits(kind: Kind) -> None:
    """What could not be told in a message, or kept, is refused before."""
    amount = str(2 * MOST if kind is Kind.CHARGE else MOST)
    with pytest.raises(RefusedError, match="more than 15 digits"):
        decide(command(kind, amount), ACCOUNT, None)
    said = decide(command(Kind.REFUND, "1.00"), replace(ACCOUNT, balance=MOST - 50), EXECUTED)
    assert reason(said) == "account 7 in CZK would have a balance of more than 15 digits"
