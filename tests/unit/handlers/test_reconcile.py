"""The ledger beside the bank's balances; made-up statements; files that are none."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from handlers.events import Direction, EntryRecorded
from handlers.generate import statement_lines, write_statement
from handlers.reconcile import Agreement, LastDays, reconcile
from handlers.statement_file import StatementError, open_statement
from handlers.statements import parse_row


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


def test_rows_keep_their_line_and_identity(tmp_path: Path) -> None:
    """Lines are counted from the header, and a row's message id leads back to its line."""
    path = tmp_path / "s.csv"
    write_statement(path, rows=10, accounts=2)
    statement = open_statement(path)
    rows = list(statement.read())
    assert statement.rows == 10
    assert [row.line for row in rows] == list(range(2, 12))
    assert statement.line_of(statement.message_id(5)) == 5
    assert statement.line_of("row-other-5") is None
    assert statement.line_of(None) is None


def test_a_statement_that_changes_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    """Rows of another content than was checked are not passed off as this file's."""
    path = tmp_path / "s.csv"
    write_statement(path, rows=10, accounts=2)
    statement = open_statement(path)
    write_statement(path, rows=10, accounts=2, seed=8)
    with pytest.raises(StatementError, match="was changed"):
        list(statement.read())


@pytest.mark.parametrize("content", [b"", b"a;b;c\n", b"\xff\xfe\n", b'"trans_id;broken\n'])
def test_a_file_that_is_no_statement_is_refused(tmp_path: Path, content: bytes) -> None:
    """An empty file or another header is an error that names the file."""
    path = tmp_path / "s.csv"
    path.write_bytes(content)
    with pytest.raises(StatementError, match=r"s\.csv"):
        open_statement(path)
    with pytest.raises(StatementError, match="folder"):
        open_statement(tmp_path)
    with pytest.raises(StatementError, match="No such file"):
        open_statement(tmp_path / "missing.csv")
