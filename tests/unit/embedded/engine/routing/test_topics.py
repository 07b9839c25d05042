"""Topic bindings found by the tree of their words are those that a look at each of them finds."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqkit.embedded.engine.routing.bindings import Binding, Destination, words
from mqkit.embedded.engine.routing.matching import topic_matches
from mqkit.embedded.engine.routing.topics import Topics

KEYS = st.lists(st.sampled_from(("a", "b", "", "*", "#")), max_size=6)
PATTERNS = st.lists(st.sampled_from(("a", "b", "", "*", "#")), max_size=6)


def bound(pattern: str, queue: str = "q") -> Binding:
    """A binding with a pattern."""
    return Binding(Destination("queue", queue), pattern, {})


def matches(pattern: str, key: str) -> bool:
    """Whether a tree of this pattern alone finds it."""
    topics = Topics()
    topics.add(bound(pattern))
    return bool(list(topics.matching(words(key))))


@given(st.lists(PATTERNS, max_size=12), KEYS, st.data())
def test_it_finds_what_each_look_finds(
    patterns: list[list[str]], key: list[str], data: st.DataObject
) -> None:
    """Of any bindings, some of them taken out again, those that match are found, each once."""
    topics = Topics()
    bindings = [bound(".".join(pattern)) for pattern in patterns]
    for binding in bindings:
        topics.add(binding)
    gone = data.draw(st.sets(st.sampled_from(range(len(bindings))))) if bindings else set()
    for index in gone:
        topics.remove(bindings[index])
    left = [each for index, each in enumerate(bindings) if index not in gone]
    found = list(topics.matching(words(".".join(key))))
    assert len(found) == len(set(found))
    assert set(found) == {each for each in left if topic_matches(each.words, words(".".join(key)))}


@given(st.lists(PATTERNS, max_size=12))
def test_nothing_is_left_of_what_was_taken_out(patterns: list[list[str]]) -> None:
    """When the last binding has gone, so has the last word of the tree."""
    topics = Topics()
    bindings = [bound(".".join(pattern)) for pattern in patterns]
    for binding in bindings:
        topics.add(binding)
    for binding in reversed(bindings):
        topics.remove(binding)
    assert not topics._root.nexts
    assert not topics._root.bindings


@pytest.mark.parametrize(
    ("pattern", "key", "expected"),
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
        ("#.#", "", True),
        ("*.#.#.c", "a.c", True),
    ],
)
def test_topics_by_example(pattern: str, key: str, *, expected: bool) -> None:
    """The edges: no words, empty words, `#` for none, letters' case."""
    assert matches(pattern, key) is expected


def test_many_hashes_are_not_exponential() -> None:
    """A pattern made to be slow takes its length times the key's, not a power of it."""
    start = time.process_time()
    assert not matches(".".join([*(["#", "a"] * 60), "b"]), ".".join(["a"] * 120))
    assert time.process_time() - start < 1


def test_ten_thousand_bindings_cost_what_they_match() -> None:
    """A message that goes to two of 10,000 bindings takes at most ten times one of two."""

    def seconds(count: int) -> float:
        topics = Topics()
        for number in range(count):
            topics.add(bound(f"orders.{number}.*.#", f"q{number}"))
            topics.add(bound(f"*.{number}.accepted", f"q{number}"))
        key = words(f"orders.{count // 2}.accepted")
        start = time.process_time()
        for _ in range(200):
            assert len(list(topics.matching(key))) == 2
        return time.process_time() - start

    few = min(seconds(1) for _ in range(3))
    assert seconds(10_000) < 10 * few
