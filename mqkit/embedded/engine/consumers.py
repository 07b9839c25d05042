"""Who takes from a queue, and whose turn it is."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mqkit.embedded.engine.queue import Queue
    from mqkit.embedded.session.channel import Channel


@dataclass(slots=True, eq=False)
class Consumer:
    """One `basic.consume`."""

    tag: str
    queue: Queue
    channel: Channel
    no_ack: bool = False
    exclusive: bool = False
    priority: int = 0
    prefetch: int = 0
    """Unacknowledged messages that it may have; 0 is no limit."""
    arguments: dict[str, Any] = field(default_factory=dict)
    unacked: int = 0

    def can_take(self) -> bool:
        """True if a message may be sent to it now."""
        return (
            self.no_ack or not self.prefetch or self.unacked < self.prefetch
        ) and self.channel.can_take()


class Consumers:
    """The consumers of one queue: higher priority first, in turn within one priority.

    With `single_active` only one of them gets messages, the first that came, until it goes; with
    `takeover`, until one of a higher priority is there and it has nothing unacknowledged.
    https://www.rabbitmq.com/docs/consumers#single-active-consumer
    """

    def __init__(self, *, single_active: bool = False, takeover: bool = False) -> None:
        self._single_active = single_active
        self._takeover = takeover
        self._lines: dict[int, deque[Consumer]] = {}
        self.active: Consumer | None = None
        """The one that gets messages, where only one does."""

    def __len__(self) -> int:
        return sum(len(line) for line in self._lines.values())

    def __iter__(self) -> Iterator[Consumer]:
        for priority in sorted(self._lines, reverse=True):
            yield from self._lines[priority]

    @property
    def has_exclusive(self) -> bool:
        """True if one of them must be the only one."""
        return any(consumer.exclusive for consumer in self)

    def add(self, consumer: Consumer) -> None:
        """Let it take its turn."""
        self._lines.setdefault(consumer.priority, deque()).append(consumer)
        if self.active is None:
            self.active = consumer

    def remove(self, consumer: Consumer) -> None:
        """Take it out; where only one is active, the next one becomes it."""
        line = self._lines[consumer.priority]
        line.remove(consumer)
        if not line:
            del self._lines[consumer.priority]
        if self.active is consumer:
            self.active = next(iter(self), None)

    def next(self) -> Consumer | None:
        """Whose turn it is, of those that can take a message."""
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

    def _next_active(self) -> Consumer | None:
        active, first = self.active, next(iter(self), None)
        if active is None or first is None:
            return None
        if self._takeover and first.priority > active.priority:
            if active.unacked:
                return None
            self.active = active = first
        return active if active.can_take() else None
