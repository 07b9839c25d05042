"""What an exchange is bound to, in the order of binding, found without a look at all of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a binding leads: a queue or another exchange."""

    kind: str
    name: str


@dataclass(slots=True, eq=False)
class Binding:
    """From an exchange to a destination."""

    destination: Destination
    routing_key: str
    arguments: dict[str, Any]
    words: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.words = words(self.routing_key)


class Bindings:
    """The bindings of one exchange. One is told from another by all three of its parts."""

    def __init__(self) -> None:
        # Dictionaries without values, as sets that keep their order.
        self._all: dict[Binding, None] = {}
        self._by_key: dict[str, dict[Binding, None]] = {}
        self._by_place: dict[tuple[Destination, str], list[Binding]] = {}
        self._by_destination: dict[Destination, dict[Binding, None]] = {}

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Binding]:
        return iter(self._all)

    def with_key(self, routing_key: str) -> Iterator[Binding]:
        """Those with this very routing key."""
        return iter(self._by_key.get(routing_key, ()))

    def find(
        self, destination: Destination, routing_key: str, arguments: Mapping[str, Any]
    ) -> Binding | None:
        """The binding with these three."""
        for binding in self._by_place.get((destination, routing_key), ()):
            if binding.arguments == arguments:
                return binding
        return None

    def add(self, binding: Binding) -> None:
        """Add one that is not there."""
        place = binding.destination, binding.routing_key
        self._all[binding] = None
        self._by_key.setdefault(binding.routing_key, {})[binding] = None
        self._by_place.setdefault(place, []).append(binding)
        self._by_destination.setdefault(binding.destination, {})[binding] = None

    def remove(self, binding: Binding) -> None:
        """Take one out."""
        place = binding.destination, binding.routing_key
        del self._all[binding]
        del self._by_key[binding.routing_key][binding]
        self._by_place[place].remove(binding)
        del self._by_destination[binding.destination][binding]
        if not self._by_key[binding.routing_key]:
            del self._by_key[binding.routing_key]
        if not self._by_place[place]:
            del self._by_place[place]
        if not self._by_destination[binding.destination]:
            del self._by_destination[binding.destination]

    def remove_to(self, destination: Destination) -> bool:
        """Take out all that lead there; False if there are none."""
        found = list(self._by_destination.get(destination, ()))
        for binding in found:
            self.remove(binding)
        return bool(found)


def words(routing_key: str) -> tuple[str, ...]:
    """The words of a routing key: "" has none, "a..b" has an empty one."""
    return tuple(routing_key.split(".")) if routing_key else ()
