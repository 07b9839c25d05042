"""Packs the values of a column into one text, which PostgreSQL makes an array of.

asyncpg asks of each element of an array whether it is an array itself, by two checks of abstract
classes: for mqkit's own rows that takes longer than to write all of their bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import count
from typing import NamedTuple

_SEPARATOR, _NULL = "\x1f", "\x1e"
"""ASCII's unit separator and record separator, which hardly any text has in it."""


class Marks(NamedTuple):
    """What stands between two values, and what stands for NULL."""

    separator: str
    null: str


_USUAL = Marks(_SEPARATOR, _NULL)


def unpacked(number: int, marks: int) -> str:
    """Write the SQL that makes a `text[]` of a packed parameter.

    :param number: the parameter's
    :param marks: of the first of the two parameters that are the marks
    """
    packed = f"CAST(${number} AS text), CAST(${marks} AS text), CAST(${marks + 1} AS text)"
    # From the second on: a text that is empty would be an array without elements.
    return f"(string_to_array({packed}))[2:]"


def pack(columns: Sequence[Sequence[str | None]]) -> tuple[list[str], Marks]:
    """Return a text for each column, and the marks that they are packed with.

    :param columns: of the same length, without NUL
    """
    packed = [_pack(column, _USUAL) for column in columns]
    rows = len(columns[0])
    for column, text in zip(columns, packed, strict=True):
        if text.count(_SEPARATOR) != rows or _NULL in column:
            marks = _other_marks(columns)
            return [_pack(each, marks) for each in columns], marks
    return packed, _USUAL


def _pack(column: Sequence[str | None], marks: Marks) -> str:
    texts = [marks.null if each is None else each for each in column]
    return marks.separator + marks.separator.join(texts)


def _other_marks(columns: Sequence[Sequence[str | None]]) -> Marks:
    """Return marks that occur in none of the values of these columns."""
    return next(
        marks
        for marks in (Marks(f"{_SEPARATOR}{n}{_SEPARATOR}", f"{_NULL}{n}") for n in count(1))
        # Split from the left on, as PostgreSQL does it: the end of a value and a separator may
        # have another separator in them.
        if all(_split(_pack(each, marks), marks) == list(each) for each in columns)
    )


def _split(text: str, marks: Marks) -> list[str | None]:
    parts = text.split(marks.separator)[1:]
    return [None if each == marks.null else each for each in parts]


def numbers(values: Iterable[int]) -> str:
    """Write whole numbers, or flags as 0 and 1, as PostgreSQL writes an array of them."""
    return f"{{{','.join(map(str, map(int, values)))}}}"
