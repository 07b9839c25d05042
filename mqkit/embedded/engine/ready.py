"""The messages that wait in a queue: for a consumer, or for a queue that takes dead letters."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator

from mqkit.embedded.engine.clock import Timer
from mqkit.embedded.engine.message import Entry, Message

RETRY_FIRST, RETRY_MOST = 1.0, 60.0
"""Seconds until dead letters that no queue took are tried again, doubling from try to try."""


class Ready:
    """The ready messages: highest priority first, and within one priority the oldest.

    What comes back unacknowledged takes its old place again (`returns_first=False`, classic
    queues), or goes before all others in the order of coming back (quorum queues).
    """

    def __init__(self, *, priorities: int = 0, returns_first: bool = False) -> None:
        self._lines = [_Line(returns_first=returns_first) for _ in range(priorities + 1)]
        self._used = 0
        """A bit for each priority that has messages: most of a queue's priorities have none."""
        self._count = 0
        self.bytes = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Entry]:
        """Return the messages in the order of going out."""
        for line in reversed(self._lines):
            yield from line

    def append(self, entry: Entry) -> None:
        """Add a new message."""
        self._line_for(entry).fresh.append(entry)

    def put_back(self, entry: Entry) -> None:
        """Add a message that came back."""
        self._line_for(entry).put_back(entry)

    def heads(self) -> Iterator[Entry]:
        """Return the next message of each priority, the highest first."""
        used = self._used
        while used:
            priority = used.bit_length() - 1
            used ^= 1 << priority
            if (head := self._lines[priority].head()) is not None:
                yield head

    def head(self) -> Entry | None:
        """Return the next message; None if there is none."""
        return self._lines[self._used.bit_length() - 1].head() if self._used else None

    def take(self, entry: Entry) -> None:
        """Remove a message that is the next of its priority."""
        line = self._lines[entry.priority]
        line.take()
        if not line.fresh and not line.returned:
            self._used ^= 1 << entry.priority
        self._count -= 1
        self.bytes -= entry.size

    def clear(self) -> list[Entry]:
        """Remove all messages, and return them."""
        entries = list(self)
        for line in self._lines:
            line.fresh.clear()
            line.returned.clear()
        self._used = self._count = self.bytes = 0
        return entries

    def _line_for(self, entry: Entry) -> _Line:
        self._used |= 1 << entry.priority
        self._count += 1
        self.bytes += entry.size
        return self._lines[entry.priority]


class _Line:
    """The messages of one priority."""

    __slots__ = ("_count", "_returns_first", "fresh", "returned")

    def __init__(self, *, returns_first: bool) -> None:
        self.fresh: deque[Entry] = deque()
        self.returned: list[tuple[int, Entry]] = []
        self._returns_first = returns_first
        self._count = 0

    def __iter__(self) -> Iterator[Entry]:
        returned = [entry for _, entry in sorted(self.returned, key=lambda pair: pair[0])]
        if self._returns_first:
            yield from returned
            yield from self.fresh
        else:
            yield from heapq.merge(returned, self.fresh, key=lambda entry: entry.number)

    def put_back(self, entry: Entry) -> None:
        self._count += 1
        order = self._count if self._returns_first else entry.number
        heapq.heappush(self.returned, (order, entry))

    def head(self) -> Entry | None:
        if self._is_returned_next():
            return self.returned[0][1]
        return self.fresh[0] if self.fresh else None

    def take(self) -> None:
        if self._is_returned_next():
            heapq.heappop(self.returned)
        else:
            self.fresh.popleft()

    def _is_returned_next(self) -> bool:
        if not self.returned or not self.fresh:
            return bool(self.returned)
        return self._returns_first or self.returned[0][0] < self.fresh[0].number


class Held:
    """Dead letters that no queue has taken yet, with the message to publish (at-least-once)."""

    def __init__(self) -> None:
        self.bytes = 0
        self.timer: Timer | None = None
        """When they are tried again."""
        self._messages: dict[Entry, Message] = {}
        self._pause = RETRY_FIRST

    def __len__(self) -> int:
        return len(self._messages)

    def __iter__(self) -> Iterator[tuple[Entry, Message]]:
        """Return those that are held now, in the order of dying."""
        return iter(list(self._messages.items()))

    def add(self, entry: Entry, message: Message) -> None:
        """Hold a dead letter."""
        self._messages[entry] = message
        self.bytes += entry.size

    def remove(self, entry: Entry) -> None:
        """Remove one that was taken, so that the others are worth another try soon."""
        del self._messages[entry]
        self.bytes -= entry.size
        self._pause = RETRY_FIRST

    def pause(self) -> float:
        """Return the seconds until the next try, and double them for the one after."""
        pause = self._pause
        self._pause = min(2 * pause, RETRY_MOST)
        return pause

    def clear(self) -> None:
        """Remove all, and cancel the next try."""
        self._messages.clear()
        self.bytes = 0
        if self.timer is not None:
            self.timer.cancel()
