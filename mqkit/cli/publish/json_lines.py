"""Reads a file of JSON values, one a line."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pydantic_core import from_json

from mqkit.errors import ConfigurationError

MAX_LINE = 128 * 1024 * 1024
"""Bytes; RabbitMQ's own limit for a message is 16 MiB, and was this before 4.0. It keeps a file
that has no line ends from being read into memory whole."""

_WHY_A_FILE = "put the lines into one, which a run that goes on after an interruption reads again"

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class JsonLine:
    """A line that is not blank, without its line end."""

    number: int
    """From 1, blank lines counted."""
    body: bytes
    problem: str | None
    """Why it is not JSON, or None."""


def count_lines(path: Path) -> int:
    """Count the lines of a file that are not blank.

    :raises ConfigurationError: it is not a regular file (a pipe cannot be read again), or cannot
        be read
    """
    if not path.is_file():
        exists = path.exists() or path.name == "-"
        what = f"is not a regular file: {_WHY_A_FILE}" if exists else "does not exist"
        raise ConfigurationError(f"--file {path} {what}")
    try:
        with path.open("rb") as file:
            return sum(1 for _ in _not_blank(file))
    except OSError as error:
        raise ConfigurationError(f"--file {path} cannot be read: {error.strerror}") from error


def read_lines(file: BinaryIO) -> Iterator[JsonLine]:
    """Read the lines of a file that are not blank, each checked to be JSON (RFC 8259) in UTF-8."""
    for number, body, cut in _not_blank(file):
        problem = f"longer than {MAX_LINE} bytes" if cut else _problem(body)
        yield JsonLine(number, body, problem)


def _not_blank(file: BinaryIO) -> Iterator[tuple[int, bytes, bool]]:
    number = 0
    while raw := file.readline(MAX_LINE + 1):
        number += 1
        cut = len(raw) > MAX_LINE and not raw.endswith(b"\n")
        rest = raw
        while cut and rest and not rest.endswith(b"\n"):
            rest = file.readline(MAX_LINE)
        body = raw.rstrip(b"\r\n")
        if cut or body.strip():
            yield number, body, cut


def _problem(body: bytes) -> str | None:
    try:
        # Python's own json takes NaN and Infinity, which no other reader needs to know.
        from_json(body, allow_inf_nan=False, cache_strings="none")
    except ValueError as error:
        if body.startswith(_BYTE_ORDER_MARK):
            return "it begins with a byte order mark; save the file as UTF-8 without one"
        try:
            body.decode()
        except UnicodeDecodeError as undecodable:
            return f"not UTF-8: byte {undecodable.start + 1}"
        return "not JSON: " + str(error).replace(" at line 1 column ", " at column ")
    return None
