"""The consumers of one queue, and which of them gets the next message."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar


class Taker(Protocol):
    """What has to be known of a consumer to choose one."""

    unacked: int
    """Messages that it was sent and that are not settled."""

    @property
    def priority(self) -> int: ...

    @property
    def exclusive(self) -> bool: ...

    def can_take(self) -> bool:
        """Return True if a message may be sent to it now."""
        ...


C = TypeVar("C", bound=Taker)


class Consumers(Generic[C]):
    """Chooses among the consumers of one queue: higher priority first, in turn within a priority.

    With `single_active` only one of them gets messages, the first that came, until it goes; with
    `takeover`, until one of a higher priority is there and it has nothing unacknowledged.
    https://www.rabbitmq.com/docs/consumers#single-active-consumer
    """

    def __init__(self, *, single_active: bool = False, takeover: bool = False) -> None:
        self._single_active = single_active
        self._takeover = takeover
        self._lines: dict[int, deque[C]] = {}
        self.active: C | None = None
        """The one that gets messages, where only one does."""

    def __len__(self) -> int:
        return sum(len(line) for line in self._lines.values())

    def __iter__(self) -> Iterator[C]:
        for priority in sorted(self._lines, reverse=True):
            yield from self._lines[priority]

    @property
    def has_exclusive(self) -> bool:
        """True if one of them must be the only one."""
        return any(consumer.exclusive for consumer in self)

    def add(self, consumer: C) -> None:
        """Add a consumer, as the last of its priority."""
        self._lines.setdefault(consumer.priority, deque()).append(consumer)
        if self.active is None:
            self.active = consumer

    def remove(self, consumer: C) -> None:
        """Remove a consumer; where only one is active, the next one becomes it."""
        line = self._lines[consumer.priority]
        line.remove(consumer)
        if not line:
            del self._lines[consumer.priority]
        if self.active is consumer:
            self.active = next(iter(self), None)

    def next(self) -> C | None:
        """Choose the consumer of the next message; None if none can take one."""
        if self._single_active:
            return self._next_active()
        for priority in sorted(self._lines, reverse=True):
            line = self._lines[priority]
            for _ in range(len(line)):
                consumer = line[0]
                line.rotate(-1)
                if consumer.can_take():
                    return consumer
        return None

    def _next_active(self) -> C | None:
        active, first = self.active, next(iter(self), None)
        if active is None or first is None:
            return None
        if self._takeover and first.priority > active.priority:
            if active.unacked:
                return None
            self.active = active = first
        return active if active.can_take() else None
