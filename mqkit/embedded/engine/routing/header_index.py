"""Indexes header bindings by the headers they ask for, so that not each is compared to a message.

A binding that wants all of its pairs is kept under one of them, the rarest; one that is content
with any, under each. A message looks under its own headers only, and what it finds there is held
against it in full. https://www.rabbitmq.com/docs/exchanges#headers
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from typing import Any

from mqkit.embedded.engine.routing.bindings import Binding
from mqkit.embedded.engine.routing.matching import header_pairs, headers_match, is_any

ANY_VALUE = ("*",)
"""The key of a pair without a value: the header has to be there, whatever it says."""

Key = tuple[str, Hashable]


class HeaderIndex:
    """The bindings of a headers exchange, by the headers that they ask for."""

    def __init__(self) -> None:
        self._under: dict[Key, dict[Binding, None]] = {}
        self._keys: dict[Binding, tuple[Key, ...]] = {}
        """What each is kept under."""
        self._unasking: dict[Binding, None] = {}
        """Those without a pair."""

    def add(self, binding: Binding) -> None:
        """Add a binding."""
        keys = tuple(
            (name, ANY_VALUE if value is None else _key(value))
            for name, value in header_pairs(binding.arguments)
        )
        if not keys:
            self._unasking[binding] = None
        elif not is_any(binding.arguments):
            keys = (min(keys, key=lambda key: len(self._under.get(key, ()))),)
        self._keys[binding] = keys
        for key in keys:
            self._under.setdefault(key, {})[binding] = None

    def remove(self, binding: Binding) -> None:
        """Remove a binding."""
        self._unasking.pop(binding, None)
        for key in set(self._keys.pop(binding)):
            del self._under[key][binding]
            if not self._under[key]:
                del self._under[key]

    def matching(self, headers: Mapping[str, Any]) -> Iterator[Binding]:
        """Return the bindings that match these headers, each once."""
        found = dict(self._unasking)
        for name, value in headers.items():
            for key in ((name, _key(value)), (name, ANY_VALUE)):
                found.update(self._under.get(key, {}))
        return (each for each in found if headers_match(each.arguments, headers))


def _key(value: Any) -> Hashable:
    """Return a key that is the same for equal values, and mostly another one for others."""
    if isinstance(value, bool):
        return ("bool", value)
    if isinstance(value, int | float):
        return ("number", value)
    if isinstance(value, str | bytes):
        return (type(value), value)
    return type(value).__name__
