"""Reads a statement's file: checks it before anything is sent, then yields it row by row."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from handlers.bank_format import FIELDS, RowError, split_row

MAX_LINE = 64 * 1024
"""Bytes in one line; a real row has under 100. A longer one is no statement's."""

FIRST_ROW = 2
"""The line of the first row; the header is line 1."""

_BOM = b"\xef\xbb\xbf"


class StatementError(Exception):
    """A file is no statement that can be read; the message names it."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a statement, without its line break."""

    line: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement whose header has been checked; made by `open_statement`."""

    path: Path
    rows: int
    digest: str
    """Identifies the content: SHA-256, in hexadecimal."""

    @property
    def name(self) -> str:
        """The file's name without its folder."""
        return self.path.name

    def message_id(self, line: int) -> str:
        """Return the id of a row's message: the same content gives the same, run after run."""
        return f"{self._id_prefix}{line}"

    def line_of(self, message_id: str | None) -> int | None:
        """Return the line that a message is of; None if it is of another statement or of none."""
        if message_id is None or not message_id.startswith(self._id_prefix):
            return None
        line = message_id.removeprefix(self._id_prefix)
        return int(line) if line.isascii() and line.isdigit() else None

    def read(self) -> Iterator[Row]:
        """Yield all rows, in the file's order.

        :raises StatementError: it cannot be read any more, or is not what it was when opened
        """
        digest = hashlib.sha256()
        yield from read_rows(self.path, digest, FIELDS, "a statement")
        if digest.hexdigest() != self.digest:
            raise StatementError(f"{self.path} was changed while it was being read")

    @property
    def _id_prefix(self) -> str:
        return f"row-{self.digest[:16]}-"


def open_statement(path: Path) -> Statement:
    """Check that a file is a statement, and count its rows.

    Empty lines at the file's end count as nothing; one between rows is a row, a malformed one.

    :raises StatementError: it is missing, not a file, empty, or its first line is another header
    """
    digest = hashlib.sha256()
    rows = sum(1 for _ in read_rows(path, digest, FIELDS, "a statement"))
    return Statement(path, rows, digest.hexdigest())


def read_rows(
    path: Path, digest: hashlib._Hash, fields: tuple[str, ...], kind: str
) -> Iterator[Row]:
    """Yield the rows of a file of the bank's, and add its bytes to a digest.

    :param fields: the names of the columns, which its first line should have
    :param kind: what errors call it
    :raises StatementError: it cannot be read, or is no such file
    """
    if path.is_dir():
        raise StatementError(f"{path} is a folder, not {kind}")
    try:
        with path.open("rb") as file:
            number, empty = 0, 0
            while line := file.readline(MAX_LINE + 1):
                number += 1
                digest.update(line)
                if number < FIRST_ROW:
                    _check_header(path, line, fields, kind)
                    continue
                if len(line) > MAX_LINE:
                    raise StatementError(f"{path}: line {number} is over {MAX_LINE} bytes long")
                data = line.rstrip(b"\r\n")
                if not data:
                    empty += 1
                    continue
                yield from (Row(number - back, b"") for back in range(empty, 0, -1))
                empty = 0
                yield Row(number, data)
    except OSError as error:
        raise StatementError(f"{path} cannot be read: {error.strerror or error}") from error
    if number == 0:
        raise StatementError(f"{path} is empty; {kind} begins with a line of column names")


def _check_header(path: Path, line: bytes, fields: tuple[str, ...], kind: str) -> None:
    try:
        names = tuple(split_row(line.removeprefix(_BOM)))
    except RowError:
        names = ()
    if names != fields:
        raise StatementError(
            f"{path} is not {kind}: its first line should name the columns {';'.join(fields)}"
        )
