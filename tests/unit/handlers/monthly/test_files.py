"""Statements as files: their text, and that each is there as a whole or not at all."""

from __future__ import annotations

import os
from decimal import Decimal
from pathlib import Path

import pytest

from handlers.monthly.files import BESIDE, write_statements
from handlers.monthly.statement import make_statement
from tests.unit.handlers.monthly.test_statement import MONTH, line

LINES = [line("700.5", 1, 1), line("-200.00", 30, 2)]
STATEMENT = make_statement(MONTH, 576, "CZK", Decimal("100.00"), LINES)

TEXT = """\
posted_at,business_key,kind,amount,balance
2026-11-01T00:00:00+00:00,,opening,,100.00
2026-11-01T23:00:00+00:00,deposit-1,deposit,700.50,800.50
2026-11-30T23:00:00+00:00,deposit-2,deposit,-200.00,600.50
2026-12-01T00:00:00+00:00,,closing,,600.50
,,fee due,-15.00,
,,interest due,0.33,
"""


def test_a_statement_has_the_balance_after_each_line(tmp_path: Path) -> None:
    """It stands in its month's folder, for its owner only, and nothing stands beside it."""
    place = write_statements(tmp_path, MONTH, [STATEMENT])
    (path,) = tmp_path.rglob("*.*")
    assert (path, place) == (tmp_path / "2026-11" / "576-CZK.csv", tmp_path / "2026-11")
    assert path.read_text() == TEXT
    assert path.stat().st_mode & 0o777 == 0o600


def test_writing_again_changes_nothing(tmp_path: Path) -> None:
    """The second run has the same file, byte by byte, also where it was cut short meanwhile."""
    write_statements(tmp_path, MONTH, [STATEMENT])
    path = tmp_path / "2026-11" / "576-CZK.csv"
    written = path.read_bytes()
    path.write_bytes(written[:20])
    write_statements(tmp_path, MONTH, [STATEMENT])
    assert path.read_bytes() == written


def test_a_write_that_fails_leaves_the_earlier_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the disk is full in the middle of it, the file of before stands there alone."""
    write_statements(tmp_path, MONTH, [STATEMENT])

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    other = make_statement(MONTH, 576, "CZK", Decimal("0.00"), [])
    with pytest.raises(OSError, match="No space left"):
        write_statements(tmp_path, MONTH, [other])
    assert [each.name for each in (tmp_path / "2026-11").iterdir()] == ["576-CZK.csv"]
    assert (tmp_path / "2026-11" / "576-CZK.csv").read_text() == TEXT


def test_what_a_killed_process_left_is_taken_away(tmp_path: Path) -> None:
    """The next run leaves its own files alone in the folder."""
    (tmp_path / "2026-11").mkdir()
    (tmp_path / "2026-11" / f"{BESIDE}576-CZK.csv-x7").write_text(TEXT[:20])
    write_statements(tmp_path, MONTH, [STATEMENT])
    assert [each.name for each in (tmp_path / "2026-11").iterdir()] == ["576-CZK.csv"]
