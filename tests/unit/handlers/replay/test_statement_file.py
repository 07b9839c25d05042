"""A statement's file: its rows, and files that are no statements."""

from __future__ import annotations

from pathlib import Path

import pytest

from handlers.replay.generate import write_statement
from handlers.replay.statement_file import StatementError, open_statement


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
