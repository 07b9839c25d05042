"""The bindings of an exchange, in the order of binding, indexed by key and by destination."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from mqkit.embedded.wire.tables import encode_table


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a binding leads: a queue or another exchange."""

    kind: str
    name: str


@dataclass(slots=True, eq=False)
class Binding:
    """A binding from an exchange to a destination."""

    destination: Destination
    routing_key: str
    arguments: dict[str, Any]
    words: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.words = words(self.routing_key)


class Index(Protocol):
    """A second index of the bindings, to find those that match a message."""

    def add(self, binding: Binding) -> None:
        """Add a binding."""
        ...

    def remove(self, binding: Binding) -> None:
        """Remove a binding."""
        ...


class Bindings:
    """The bindings of one exchange; two are the same if all of their three parts are."""

    def __init__(self, index: Index | None = None) -> None:
        self._index = index
        # Dictionaries without values, as sets that keep their order.
        self._all: dict[Binding, None] = {}
        self._by_key: dict[str, dict[Binding, None]] = {}
        self._by_place: dict[tuple[Destination, str, bytes], Binding] = {}
        self._by_destination: dict[Destination, dict[Binding, None]] = {}

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Binding]:
        return iter(self._all)

    def with_key(self, routing_key: str) -> Iterator[Binding]:
        """Return the bindings with this very routing key."""
        return iter(self._by_key.get(routing_key, ()))

    def find(
        self, destination: Destination, routing_key: str, arguments: Mapping[str, Any]
    ) -> Binding | None:
        """Return the binding with these three parts; None if there is none."""
        return self._by_place.get((destination, routing_key, _identity(arguments)))

    def add(self, binding: Binding) -> None:
        """Add a binding that is not there."""
        place = binding.destination, binding.routing_key, _identity(binding.arguments)
        self._all[binding] = None
        self._by_key.setdefault(binding.routing_key, {})[binding] = None
        self._by_place[place] = binding
        self._by_destination.setdefault(binding.destination, {})[binding] = None
        if self._index is not None:
            self._index.add(binding)

    def remove(self, binding: Binding) -> None:
        """Remove a binding."""
        del self._all[binding]
        del self._by_key[binding.routing_key][binding]
        del self._by_place[binding.destination, binding.routing_key, _identity(binding.arguments)]
        del self._by_destination[binding.destination][binding]
        if not self._by_key[binding.routing_key]:
            del self._by_key[binding.routing_key]
        if not self._by_destination[binding.destination]:
            del self._by_destination[binding.destination]
        if self._index is not None:
            self._index.remove(binding)

    def remove_to(self, destination: Destination) -> bool:
        """Remove all bindings to a destination; False if there are none."""
        found = list(self._by_destination.get(destination, ()))
        for binding in found:
            self.remove(binding)
        return bool(found)


def _identity(arguments: Mapping[str, Any]) -> bytes:
    """Encode arguments, the same for the same ones in any order; True is not 1."""
    return encode_table(dict(sorted(arguments.items()))) if arguments else b""


def words(routing_key: str) -> tuple[str, ...]:
    """Split a routing key into words: "" has none, "a..b" has an empty one."""
    return tuple(routing_key.split(".")) if routing_key else ()
