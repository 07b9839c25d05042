"""Does a message match a binding? Against definitions that are slow and plain."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqkit.embedded.engine.routing.bindings import words
from mqkit.embedded.engine.routing.matching import headers_match, topic_matches

WORDS = st.lists(st.sampled_from(("a", "b", "")), max_size=6)
PATTERNS = st.lists(st.sampled_from(("a", "b", "", "*", "#")), max_size=6)


def naively(pattern: Sequence[str], key: Sequence[str]) -> bool:
    """AMQP 0-9-1, section 3.1.3.3: `*` matches a single word, `#` zero or more words."""
    if not pattern:
        return not key
    if pattern[0] == "#":
        return any(naively(pattern[1:], key[at:]) for at in range(len(key) + 1))
    return bool(key) and pattern[0] in ("*", key[0]) and naively(pattern[1:], key[1:])


@given(PATTERNS, WORDS)
def test_topics_match_as_the_specification_says(pattern: list[str], key: list[str]) -> None:
    """Every pattern of up to six words matches what the recursive definition matches."""
    assert topic_matches(pattern, key) is naively(pattern, key)


@pytest.mark.parametrize(
    ("pattern", "key", "matches"),
    [
        ("#", "", True),
        ("*", "", False),
        ("", "", True),
        ("a.#", "a", True),
        ("a.*", "a", False),
        ("*.*", "a.b", True),
        ("*", ".", False),
        ("*.*", ".", True),
        ("#.b.#", "a.b.c", True),
        ("#.b.#.b", "a.b.c", False),
        ("a", "A", False),
    ],
)
def test_topics_by_example(pattern: str, key: str, *, matches: bool) -> None:
    """The edges: no words, empty words, `#` for none, letters' case."""
    assert topic_matches(words(pattern), words(key)) is matches


def test_many_hashes_are_not_exponential() -> None:
    """A pattern made to be slow takes its length times the key's, not a power of it."""
    start = time.process_time()
    assert not topic_matches([*(["#", "a"] * 60), "b"], ["a"] * 120)
    assert time.process_time() - start < 1


HEADERS = st.dictionaries(
    st.sampled_from(("a", "b", "x-c")), st.sampled_from((1, 2, "1", True, None)), max_size=3
)


@given(HEADERS, HEADERS, st.sampled_from(("all", "any", "all-with-x", "any-with-x")))
def test_headers_match_by_their_definition(
    wanted: dict[str, Any], headers: dict[str, Any], how: str
) -> None:
    """All or any of the pairs, with or without those that begin with `x-`."""
    pairs = {k: v for k, v in wanted.items() if how.endswith("-with-x") or not k.startswith("x-")}
    found = [
        name in headers
        and (value is None or (type(value), value) == (type(headers[name]), headers[name]))
        for name, value in pairs.items()
    ]
    expected = any(found) if how.startswith("any") else all(found)
    assert headers_match({**wanted, "x-match": how}, headers) is expected


def test_all_is_the_default() -> None:
    """Without `x-match` all pairs must be there."""
    assert headers_match({"a": 1, "b": 2}, {"a": 1, "b": 2, "c": 3})
    assert not headers_match({"a": 1, "b": 2}, {"a": 1})


def test_kinds_of_numbers_are_one() -> None:
    """A client that writes 1 and one that writes 1.0 mean the same; True is no number."""
    assert headers_match({"a": 1}, {"a": 1.0})
    assert not headers_match({"a": 1}, {"a": True})
    assert not headers_match({"a": 1}, {"a": "1"})
