"""What an exchange is bound to, in the order of binding, found without a look at all of it."""

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
    """From an exchange to a destination."""

    destination: Destination
    routing_key: str
    arguments: dict[str, Any]
    words: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.words = words(self.routing_key)


class Index(Protocol):
    """What else is to know of each binding, to find those that match a message."""

    def add(self, binding: Binding) -> None:
        """Add one."""
        ...

    def remove(self, binding: Binding) -> None:
        """Take one out."""
        ...


class Bindings:
    """The bindings of one exchange. One is told from another by all three of its parts."""

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
        """Those with this very routing key."""
        return iter(self._by_key.get(routing_key, ()))

    def find(
        self, destination: Destination, routing_key: str, arguments: Mapping[str, Any]
    ) -> Binding | None:
        """The binding with these three."""
        return self._by_place.get((destination, routing_key, _identity(arguments)))

    def add(self, binding: Binding) -> None:
        """Add one that is not there."""
        place = binding.destination, binding.routing_key, _identity(binding.arguments)
        self._all[binding] = None
        self._by_key.setdefault(binding.routing_key, {})[binding] = None
        self._by_place[place] = binding
        self._by_destination.setdefault(binding.destination, {})[binding] = None
        if self._index is not None:
            self._index.add(binding)

    def remove(self, binding: Binding) -> None:
        """Take one out."""
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
        """Take out all that lead there; False if there are none."""
        found = list(self._by_destination.get(destination, ()))
        for binding in found:
            self.remove(binding)
        return bool(found)


def _identity(arguments: Mapping[str, Any]) -> bytes:
    """The same for the same arguments in any order, and for no others: True is not 1."""
    return encode_table(dict(sorted(arguments.items()))) if arguments else b""


def words(routing_key: str) -> tuple[str, ...]:
    """The words of a routing key: "" has none, "a..b" has an empty one."""
    return tuple(routing_key.split(".")) if routing_key else ()
