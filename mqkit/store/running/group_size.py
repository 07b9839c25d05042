"""Decides how many messages of a handler share a transaction, and how many such go on at a time.

Pure: it is told what happened, and keeps no time of its own.
"""

from __future__ import annotations

from mqkit.store.running.pace import Pace

GROUP_TIME = 0.02
"""Seconds that the handlers of one transaction run together, about: for so long the first of them
waits for its commit, and whoever wants a row that it changed waits, too."""

LONGEST_GROUP = 0.25
"""Seconds; a group takes longer than `GROUP_TIME` where its commit takes long, up to this."""

LONGEST_BEHIND = 2.0
"""Seconds; up to this it takes where more messages wait than can be handled in `BEHIND` times as
long: so slow are statements on a machine that has too much to do, and a transaction for each
message would be more to do still."""

BEHIND = 4

OVERHEAD = 5
"""A group may run for so many times the time that its transaction takes besides the handlers."""

DEFAULT_MOST = 100
"""Messages that share a transaction at most. PostgreSQL keeps 64 savepoints of a transaction at
hand; over that, other sessions read which of them are over from its disk cache."""

WEIGHT = 0.2
"""The share of the latest run in what the next one is expected to take."""

CAREFUL = 1_000
"""Messages that get a savepoint each, after one failed and others had to be run anew for it; and
that get a transaction each, after one changed the session."""

ALONE = 50
"""Transactions that go on one at a time, after two of them met in a deadlock."""

AT_FIRST = 2
"""Transactions at a time of a quick handler: one runs while the other waits for its commit."""

WAITS, WORKS = 10.0, 5.0
"""A run of more than `WAITS` turns of the event loop waits for something else most of the time, and
others should go on meanwhile. One of fewer than `WORKS` turns has the loop busy."""

STALL = 0.01
"""Seconds without any run's end after which another one may begin beside those that go on."""

HELD_UP = 0.5
"""The same, while transactions go on one at a time after a deadlock: what takes longer is held up,
by a lock that another program has, say, and who has nothing to do with that must not wait for it.
Below that it may be a commit on a slow disk; who begins beside it may meet the next deadlock."""

OVERDUE = 3
"""Another run begins early only after this many times the length of an average run, at least."""

QUICK = 0.001
"""Seconds; a run that takes less waits for nothing that others could use."""


class GroupSize:
    """Says how large the groups of one handler may be now.

    A handler that is quick runs for many messages in a transaction; one that waits for others, a
    bank say, has a transaction for each, as many at a time as its `concurrency` says. What the
    handler took lately tells which of the two it is, compared with the turns of the event loop, and
    with what it takes when more or fewer go on: on a machine or a database that is busy all is
    slow, and more at a time would not help.
    """

    def __init__(self, *, at_once: int, most: int = DEFAULT_MOST) -> None:
        """Expect nothing yet: the first groups are of one message.

        :param at_once: handlers that may run at the same time
        :param most: messages that share a transaction at most
        """
        self.at_once = at_once
        self.waiting = 0
        """Messages that wait for their turn."""
        self._most = self._cap = most
        self._pace = Pace(AT_FIRST, at_once)
        self._run: float | None = None
        self._lag = 0.0
        self._overhead = 0.0
        self._careful = 0
        self._alone = 0
        self._single = 0

    @property
    def messages(self) -> int:
        """Return how many messages may share the next transaction."""
        if self._run is None or self._single:
            return 1
        behind = self.waiting * self._run / self.transactions / BEHIND
        longest = max(LONGEST_GROUP, min(behind, LONGEST_BEHIND))
        together = max(GROUP_TIME, min(OVERHEAD * self._overhead, longest))
        fit = int(together / self._run) if self._run > 0 else self._cap
        return max(1, min(fit, self._cap))

    @property
    def transactions(self) -> int:
        """Return how many of them may go on at the same time."""
        return 1 if self._is_alone else self._pace.at_a_time

    @property
    def _is_alone(self) -> bool:
        return self._alone > 0 and self._cap > 1

    @property
    def under_way(self) -> int:
        """Return how many messages are of use here: those that run, and the next group."""
        size = self.messages
        return self.at_once if size == 1 else max(self.at_once, size * (self.transactions + 1))

    @property
    def has_savepoints(self) -> bool:
        """Tell whether each message of the next transaction gets a savepoint."""
        return self._careful > 0

    def ran(self, seconds: float, lag: float, *, others_wait: bool = True) -> None:
        """Note how long the handler took for a message.

        :param lag: seconds that one turn of the event loop took then
        :param others_wait: whether others could have run meanwhile, if more might go on
        """
        known = seconds if self._run is None else self._run
        self._run = known + WEIGHT * (seconds - known)
        self._lag += WEIGHT * (lag - self._lag)
        if others_wait:
            self._pace.ran(seconds)

    @property
    def patience(self) -> float:
        """Return the seconds without any run's end after which another one may begin."""
        least = HELD_UP if self._is_alone else STALL
        return max(least, OVERDUE * (self._run or 0.0))

    def stalled(self) -> None:
        """Note that messages wait, and no run ended for a while: let another one begin."""
        if self._is_alone:
            self._alone = 0
        else:
            self._pace.one_more()

    def committed(self, messages: int, overhead: float) -> None:
        """Note that a transaction was committed.

        :param overhead: seconds that it took besides the runs of the handlers
        """
        self._overhead += WEIGHT * (overhead - self._overhead)
        self._careful = max(0, self._careful - messages)
        self._single = max(0, self._single - messages)
        if self._alone:
            self._alone -= 1
        elif self._cap < self._most:
            self._cap += 1
        if self._run is None:
            return
        if self._run > WAITS * self._lag + QUICK:
            self._pace.more()
        elif self._run < WORKS * self._lag:
            self._pace.one_fewer()

    def failed(self) -> None:
        """Note that one message's failure made the others run anew."""
        self._careful = CAREFUL

    def changed_session(self) -> None:
        """Note that a run changed what others of its transaction would find of the session."""
        self._single = CAREFUL

    def conflicted(self) -> None:
        """Note that a transaction gave way to another one, as in a deadlock."""
        self._cap = max(1, self._cap // 2)
        self._alone = ALONE
