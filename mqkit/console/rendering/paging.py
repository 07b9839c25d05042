"""Takes one page of a long list, and says where the others are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from starlette.requests import Request

T = TypeVar("T")

ROWS = 50
"""Rows of a page."""


@dataclass(frozen=True, slots=True)
class Paged(Generic[T]):
    """One page of a list."""

    rows: Sequence[T]
    number: int
    """From 1 on."""
    pages: int
    total: int
    first: int
    """The number of its first row, from 1 on; 0 where there is none."""

    @property
    def last(self) -> int:
        """The number of its last row."""
        return self.first + len(self.rows) - 1 if self.rows else 0


def asked_page(request: Request, most: int = 10_000_000) -> int:
    """Return the number of the page that is asked for by `page=`; 1 for what is none."""
    asked = request.query_params.get("page", "")
    number = int(asked) if asked.isascii() and asked.isdigit() and len(asked) < 8 else 1  # noqa: PLR2004
    return min(max(number, 1), most)


def paged(rows: Sequence[T], request: Request, size: int = ROWS) -> Paged[T]:
    """Take the page that is asked for by `page=`; what is no number of one is the nearest."""
    pages = max(-(-len(rows) // size), 1)
    number = min(asked_page(request), pages)
    start = (number - 1) * size
    shown = rows[start : start + size]
    return Paged(shown, number, pages, len(rows), start + 1 if shown else 0)


LONGEST_SEARCH = 200

LONGEST_ID = 255
"""Characters of the id of a message or a saga: AMQP's short strings hold as many bytes."""


def searched(request: Request, name: str = "q", most: int = LONGEST_SEARCH) -> str:
    """Return the words of the filter box, cut where they are too long."""
    return request.query_params.get(name, "").strip()[:most]


def has(words: str, *texts: str | None) -> bool:
    """Whether each of some words is in one of the texts, in upper or lower case."""
    whole = "\0".join(each.lower() for each in texts if each)
    return all(word in whole for word in words.lower().split())
