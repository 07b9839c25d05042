"""Pages of long lists."""

from __future__ import annotations

import pytest
from starlette.requests import Request

from mqkit.console.rendering.paging import LONGEST_SEARCH, has, paged, searched


def request(query: str) -> Request:
    """A request with this query."""
    return Request(
        {
            "type": "http",
            "query_string": query.encode(),
            "headers": [],
            "path": "/",
            "method": "GET",
        }
    )


@pytest.mark.parametrize(
    ("asked", "number", "first", "last"),
    [
        ("", 1, 1, 50),
        ("1", 1, 1, 50),
        ("3", 3, 101, 120),
        ("4", 3, 101, 120),
        ("0", 1, 1, 50),
        ("-1", 1, 1, 50),
        ("x", 1, 1, 50),
        ("\u0663", 1, 1, 50),
        ("9" * 5_000, 1, 1, 50),
    ],
)
def test_a_page_is_the_nearest_there_is(asked: str, number: int, first: int, last: int) -> None:
    """Whatever stands in the address."""
    found = paged(range(120), request(f"page={asked}"))
    assert (found.number, found.pages, found.first, found.last) == (number, 3, first, last)


def test_an_empty_list_has_one_empty_page() -> None:
    """It has no first row, and no last one."""
    none: list[int] = []
    found = paged(none, request(""))
    assert (found.number, found.pages, found.first, found.last) == (1, 1, 0, 0)


def test_each_word_is_looked_for() -> None:
    """In any of the texts, in upper or lower case; no words are in all."""
    assert has("LED post", "ledger", "x.Post")
    assert not has("ledger refund", "ledger", "x.post")
    assert not has("gerx", "ledger", "x.post")
    assert has("", None)


def test_a_search_is_short() -> None:
    """What is longer is cut, as nothing has such a name."""
    assert len(searched(request(f"q={'a' * 900}"))) == LONGEST_SEARCH
