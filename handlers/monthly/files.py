"""Writes statements as files, each of which is there as a whole or not at all."""

from __future__ import annotations

import csv
import io
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from handlers.monthly.month import Month
from handlers.monthly.statement import Statement

BESIDE = ".part-"
"""How the name of a file begins that is being written."""


def write_statements(folder: Path, month: Month, statements: Iterable[Statement]) -> Path:
    """Write the statements of a month, and return the folder that they are in.

    The same statements are the same files, byte by byte: to write them again changes nothing.
    """
    place = folder.absolute() / str(month)
    place.mkdir(parents=True, exist_ok=True)
    for left in place.glob(f"{BESIDE}*"):  # by a process that was killed
        left.unlink(missing_ok=True)
    for statement in statements:
        name = f"{statement.account_id}-{statement.currency}.csv"
        _write(place / name, statement_text(statement))
    _sync_folder(place)
    return place


def statement_text(statement: Statement) -> str:
    """Write a statement as CSV, with the balance after each line."""
    text = io.StringIO()
    write = csv.writer(text, lineterminator="\n").writerow
    write(["posted_at", "business_key", "kind", "amount", "balance"])
    balance = statement.opening
    write([statement.month.start.isoformat(), "", "opening", "", f"{balance:.2f}"])
    for line in statement.lines:
        balance += line.amount
        at = line.posted_at.isoformat()
        write([at, line.business_key, line.kind, f"{line.amount:.2f}", f"{balance:.2f}"])
    write([statement.month.end.isoformat(), "", "closing", "", f"{balance:.2f}"])
    write(["", "", "fee due", f"{-statement.fee:.2f}", ""])
    write(["", "", "interest due", f"{statement.interest:.2f}", ""])
    return text.getvalue()


def _write(path: Path, text: str) -> None:
    """Write a file, for its owner only, beside its place, and put it there once it is on disk."""
    descriptor, name = tempfile.mkstemp(prefix=f"{BESIDE}{path.name}-", dir=path.parent)
    beside = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def _sync_folder(folder: Path) -> None:
    """Have the names of its files on disk, too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
