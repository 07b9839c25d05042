"""Indexes topic bindings as a tree of words, so that not each is compared to a message.

A pattern is a way from the root, a word a step. A message takes all ways at once, word by word:
on from each place that it has reached by its word and by `*`; the place behind a `#` is reached
without a word, too, and is stayed at with any. What it costs goes by the places reached, not by
the bindings that there are. AMQP 0-9-1, section 3.1.3.3.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mqkit.embedded.engine.routing.bindings import Binding

ONE, ANY = "*", "#"
"""The words of a pattern that stand for one word, and for none or more."""


class _Place:
    """A place in the tree, reached by the words of a pattern."""

    __slots__ = ("bindings", "nexts", "stays")

    def __init__(self, *, stays: bool = False) -> None:
        self.nexts: dict[str, _Place] = {}
        self.bindings: dict[Binding, None] = {}
        self.stays = stays
        """Any word may be taken here: it is behind a `#`."""


class Topics:
    """The bindings of a topic exchange, as a tree of the words of their patterns."""

    def __init__(self) -> None:
        self._root = _Place()

    def add(self, binding: Binding) -> None:
        """Add a binding."""
        place = self._root
        for word in binding.words:
            following = place.nexts.get(word)
            if following is None:
                following = place.nexts[word] = _Place(stays=word == ANY)
            place = following
        place.bindings[binding] = None

    def remove(self, binding: Binding) -> None:
        """Remove a binding, and the places that lead nowhere without it."""
        place = self._root
        way: list[tuple[_Place, str]] = []
        for word in binding.words:
            way.append((place, word))
            place = place.nexts[word]
        del place.bindings[binding]
        for before, word in reversed(way):
            here = before.nexts[word]
            if here.bindings or here.nexts:
                return
            del before.nexts[word]

    def matching(self, words: Sequence[str]) -> Iterator[Binding]:
        """Return the bindings whose patterns match these words, each once."""
        reached = _with_those_behind_any({self._root: None})
        for word in words:
            following: dict[_Place, None] = {}
            for place in reached:
                if place.stays:
                    following[place] = None
                for step in (word, ONE):
                    if (there := place.nexts.get(step)) is not None:
                        following[there] = None
            if not following:
                return
            reached = _with_those_behind_any(following)
        for place in reached:
            yield from place.bindings


def _with_those_behind_any(places: dict[_Place, None]) -> dict[_Place, None]:
    """Add the places that are reached from these by `#` without a word."""
    waiting = list(places)
    while waiting:
        behind = waiting.pop().nexts.get(ANY)
        if behind is not None and behind not in places:
            places[behind] = None
            waiting.append(behind)
    return places
