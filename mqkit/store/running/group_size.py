"""Decides how many messages of a handler share a transaction, and how many such go on at a time.

Pure: it is told what happened, and keeps no time of its own.
"""

from __future__ import annotations

GROUP_TIME = 0.02
"""Seconds that the handlers of one transaction run together, about: for so long the first of them
waits for its commit, and whoever wants a row that it changed waits, too."""

DEFAULT_MOST = 100
"""Messages that share a transaction at most. PostgreSQL keeps 64 savepoints of a transaction at
hand; over that, other sessions read which of them are over from its disk cache."""

WEIGHT = 0.2
"""The share of the latest run in what the next one is expected to take."""

CAREFUL = 1_000
"""Messages that get a savepoint each, after one failed and others had to be run anew for it."""

ALONE = 50
"""Transactions that go on one at a time, after two of them met in a deadlock."""


class GroupSize:
    """Says how large the groups of one handler may be now.

    A handler that is quick runs for many messages in a transaction; one that waits for others, a
    bank say, has a transaction for each, as many at a time as its `concurrency` says. What the
    handler took lately tells which of the two it is.
    """

    def __init__(self, *, at_once: int, most: int = DEFAULT_MOST) -> None:
        """Expect nothing yet: the first groups are of one message.

        :param at_once: handlers that may run at the same time
        :param most: messages that share a transaction at most
        """
        self._at_once = at_once
        self._most = self._cap = most
        self._turn: float | None = None
        self._careful = 0
        self._alone = 0

    @property
    def messages(self) -> int:
        """Return how many messages may share the next transaction."""
        if self._turn is None:
            return 1
        fit = int(GROUP_TIME / self._turn) if self._turn > 0 else self._cap
        return max(1, min(fit, self._cap))

    @property
    def transactions(self) -> int:
        """Return how many of them may go on at the same time.

        Two of a quick handler: one runs while the other waits for its commit.
        """
        size = self.messages
        if size == 1:
            return self._at_once
        wanted = 1 if self._alone else max(2, -(-self._at_once // size))
        return min(wanted, self._at_once)

    @property
    def under_way(self) -> int:
        """Return how many messages are of use here: those that run, and the next group."""
        size = self.messages
        return self._at_once if size == 1 else size * (self.transactions + 1)

    @property
    def has_savepoints(self) -> bool:
        """Tell whether each message of the next transaction gets a savepoint."""
        return self._careful > 0

    def ran(self, seconds: float) -> None:
        """Note how long the handler took for a message."""
        known = seconds if self._turn is None else self._turn
        self._turn = known + WEIGHT * (seconds - known)

    def committed(self, messages: int) -> None:
        """Note that a transaction was committed."""
        self._careful = max(0, self._careful - messages)
        if self._alone:
            self._alone -= 1
        elif self._cap < self._most:
            self._cap += 1

    def failed(self) -> None:
        """Note that one message's failure made the others run anew."""
        self._careful = CAREFUL

    def conflicted(self) -> None:
        """Note that a transaction gave way to another one, as in a deadlock."""
        self._cap = max(1, self._cap // 2)
        self._alone = ALONE
