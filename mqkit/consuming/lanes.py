"""Who may run now: so many at a time, and of one key one after the other.

Nothing here waits or runs; the consumer starts what `next` gives, and says `done` after it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Lanes(Generic[T]):
    """What waits for its turn, in the order in which it came.

    Items of one key take their turns one after the other, in their order; others pass them. A key
    of None is nobody else's.
    """

    def __init__(self, at_a_time: int) -> None:
        self._free = at_a_time
        self._ready: deque[tuple[T, Hashable]] = deque()
        # A key is here from its first item's coming to its last one's end.
        self._behind: dict[Hashable, deque[T] | None] = {}

    def __len__(self) -> int:
        """How many wait."""
        return len(self._ready) + sum(len(line) for line in self._behind.values() if line)

    def add(self, item: T, key: Hashable) -> None:
        """Let it wait behind all of its key."""
        if key is None:
            self._ready.append((item, None))
        elif key not in self._behind:
            self._behind[key] = None
            self._ready.append((item, key))
        elif (line := self._behind[key]) is None:
            self._behind[key] = deque((item,))
        else:
            line.append(item)

    @property
    def startable(self) -> int:
        """How many may run now."""
        return min(self._free, len(self._ready))

    def next(self) -> tuple[T, Hashable] | None:
        """What may run now, with its key; `done` must follow. None: nothing waits, or it must."""
        if not self._free or not self._ready:
            return None
        self._free -= 1
        return self._ready.popleft()

    def done(self, key: Hashable) -> None:
        """What `next` gave has ended, and lets the next one of its key take its turn."""
        self._free += 1
        if key is None:
            return
        if line := self._behind[key]:
            self._ready.append((line.popleft(), key))
        else:
            del self._behind[key]

    def waiting(self) -> list[T]:
        """All that wait, and go on waiting."""
        behind = (item for line in self._behind.values() if line for item in line)
        return [*(item for item, _ in self._ready), *behind]

    def longest_line(self) -> tuple[Hashable, int]:
        """The key behind which most wait, and how many."""
        lines = ((key, len(line)) for key, line in self._behind.items() if line)
        return max(lines, key=lambda line: line[1], default=(None, 0))

    def take_waiting(self) -> list[T]:
        """All that wait, and wait no longer: those of each key in their order."""
        waiting = [item for item, _ in self._ready]
        heads = {key for _, key in self._ready}
        self._ready.clear()
        for key, line in list(self._behind.items()):
            waiting += line or ()
            if key in heads:
                del self._behind[key]
            else:  # one of it runs
                self._behind[key] = None
        return waiting
