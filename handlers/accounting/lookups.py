"""Keeps the texts of look-ups few: a connection to PostgreSQL prepares each text of a statement."""

from __future__ import annotations

from collections.abc import Collection
from typing import TypeVar

T = TypeVar("T")


def to_look_up(values: Collection[T]) -> list[T]:
    """Return the values of an `IN (...)`, the last one repeated up to a power of two of them.

    A batch has any number of messages up to its size. With a text for each number, most would be
    prepared, and push those out that the connection keeps.
    """
    found = list(values)
    if found:
        found += found[-1:] * ((1 << (len(found) - 1).bit_length()) - len(found))
    return found
