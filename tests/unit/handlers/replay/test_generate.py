"""Made-up statements."""

from __future__ import annotations

from decimal import Decimal

import pytest

from handlers.bank_format import parse_row
from handlers.replay.generate import statement_lines
from handlers.replay.reconcile import Agreement, LastDays, reconcile


@pytest.mark.parametrize("seed", range(5))
def test_a_made_up_statement_reconciles(seed: int) -> None:
    """Summed exactly, some accounts agree to the last digit, the others within rounding."""
    lines = list(statement_lines(seed=seed, rows=3000, accounts=100))
    assert lines == list(statement_lines(seed=seed, rows=3000, accounts=100))
    entries = [parse_row(line.encode()) for line in lines[1:]]
    assert len({entry.transaction_id for entry in entries}) == 3000
    balances: dict[int, Decimal] = {}
    for entry in entries:
        balances[entry.account_id] = (
            balances.get(entry.account_id, Decimal(0)) + entry.signed_amount
        )
    result = reconcile(LastDays(entries), balances)
    assert len(result.accounts) == 100
    assert not result.off
    assert result.count(Agreement.EXACT) > 10
    assert result.count(Agreement.WITHIN_ROUNDING) > 10
