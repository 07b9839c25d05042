"""The messages of a queue that wait for a consumer, in the order in which they go out."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator

from mqkit.embedded.message import Entry


class Ready:
    """Highest priority first, and within one priority the oldest.

    What comes back unacknowledged takes its old place again (`returns_first=False`, classic
    queues), or goes before all others in the order of coming back (quorum queues).
    """

    def __init__(self, *, priorities: int = 0, returns_first: bool = False) -> None:
        self._lines = [_Line(returns_first=returns_first) for _ in range(priorities + 1)]
        self.bytes = 0

    def __len__(self) -> int:
        return sum(len(line) for line in self._lines)

    def __iter__(self) -> Iterator[Entry]:
        """In the order of going out."""
        for line in reversed(self._lines):
            yield from line

    def append(self, entry: Entry) -> None:
        """A new message."""
        self.bytes += entry.size
        self._line(entry).fresh.append(entry)

    def put_back(self, entry: Entry) -> None:
        """A message that came back."""
        self.bytes += entry.size
        self._line(entry).put_back(entry)

    def heads(self) -> Iterator[Entry]:
        """The next message of each priority, the highest first."""
        for line in reversed(self._lines):
            if (head := line.head()) is not None:
                yield head

    def head(self) -> Entry | None:
        """The next message."""
        return next(self.heads(), None)

    def head_of(self, priority: int) -> Entry | None:
        """The next message of one priority."""
        return self._lines[priority].head()

    def take(self, entry: Entry) -> None:
        """Remove a head."""
        self._line(entry).take()
        self.bytes -= entry.size

    def clear(self) -> list[Entry]:
        """Remove and return all."""
        entries = list(self)
        for line in self._lines:
            line.fresh.clear()
            line.returned.clear()
        self.bytes = 0
        return entries

    def _line(self, entry: Entry) -> _Line:
        return self._lines[entry.priority]


class _Line:
    """The messages of one priority."""

    __slots__ = ("_count", "_returns_first", "fresh", "returned")

    def __init__(self, *, returns_first: bool) -> None:
        self.fresh: deque[Entry] = deque()
        self.returned: list[tuple[int, Entry]] = []
        self._returns_first = returns_first
        self._count = 0

    def __len__(self) -> int:
        return len(self.fresh) + len(self.returned)

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
