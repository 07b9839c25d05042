"""Header bindings found by what they ask for are those that a look at each of them finds."""

from __future__ import annotations

import time
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mqkit.embedded.engine.routing.bindings import Binding, Destination
from mqkit.embedded.engine.routing.header_index import HeaderIndex
from mqkit.embedded.engine.routing.matching import headers_match

VALUES = st.sampled_from((1, 1.0, 2, "1", True, None, b"1", [1], {"a": 1}, float("nan")))
NAMES = st.sampled_from(("a", "b", "x-c"))
TABLES = st.dictionaries(NAMES, VALUES, max_size=3)
HOW = st.sampled_from((None, "all", "any", "all-with-x", "any-with-x"))


def bound(arguments: dict[str, Any], how: str | None = None) -> Binding:
    """A binding with a header table."""
    table = arguments if how is None else {**arguments, "x-match": how}
    return Binding(Destination("queue", "q"), "", table)


@given(st.lists(st.tuples(TABLES, HOW), max_size=10), TABLES, st.data())
def test_it_finds_what_each_look_finds(
    tables: list[tuple[dict[str, Any], str | None]], headers: dict[str, Any], data: st.DataObject
) -> None:
    """Of any bindings, some of them taken out again, those that match are found, each once."""
    index = HeaderIndex()
    bindings = [bound(table, how) for table, how in tables]
    for binding in bindings:
        index.add(binding)
    gone = data.draw(st.sets(st.sampled_from(range(len(bindings))))) if bindings else set()
    for number in gone:
        index.remove(bindings[number])
    left = [each for number, each in enumerate(bindings) if number not in gone]
    found = list(index.matching(headers))
    assert len(found) == len(set(found))
    assert set(found) == {each for each in left if headers_match(each.arguments, headers)}
    for each in left:
        index.remove(each)
    assert [*index._under, *index._keys, *index._unasking] == []


def test_ten_thousand_bindings_cost_what_they_match() -> None:
    """A message to one of 10,000 that share a header takes at most ten times one of two."""

    def seconds(count: int) -> float:
        index = HeaderIndex()
        for number in range(count):
            index.add(bound({"type": "report", "customer": number}))
        headers = {"type": "report", "customer": 1}
        start = time.process_time()
        for _ in range(200):
            assert len(list(index.matching(headers))) == 1
        return time.process_time() - start

    few = min(seconds(2) for _ in range(3))
    assert seconds(10_000) < 10 * few
