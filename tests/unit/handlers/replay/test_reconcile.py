"""The ledger's balances beside the bank's."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest

from handlers.events import Direction, EntryRecorded
from handlers.replay.reconcile import Agreement, LastDays, reconcile


def recorded(account: int, day: int, balance: str) -> EntryRecorded:
    """An entry of which only the balance matters."""
    return EntryRecorded(
        transaction_id=1,
        account_id=account,
        date=date(1993, 1, day),
        direction=Direction.CREDIT,
        amount=Decimal(1),
        balance_after=Decimal(balance),
    )


@pytest.mark.parametrize(
    ("ledger", "agreement"),
    [
        ("100.00", Agreement.EXACT),
        ("200.00", Agreement.EXACT),
        ("100.70", Agreement.WITHIN_ROUNDING),
        ("199.30", Agreement.WITHIN_ROUNDING),
        ("100.71", Agreement.OFF),
        ("50.00", Agreement.OFF),
    ],
)
def test_the_nearest_balance_of_the_last_day_counts(ledger: str, agreement: Agreement) -> None:
    """Any of the last day's balances may be the last, within 0.70; an earlier day's does not."""
    entries = [
        recorded(7, 2, "100.00"),
        recorded(7, 1, "50.00"),
        recorded(7, 2, "200.00"),
    ]
    result = reconcile(LastDays(entries), {7: Decimal(ledger), 8: Decimal(5)})
    (account,) = result.accounts
    assert account.agreement is agreement
    assert result.total == Decimal(ledger)
    assert bool(result.off) == (agreement is Agreement.OFF)


def test_an_account_without_postings_is_off() -> None:
    """What the ledger lacks counts as zero, not as agreed."""
    assert len(reconcile(LastDays([recorded(7, 1, "100.00")]), {}).off) == 1
