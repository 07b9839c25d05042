"""Counts failures of the database that a message's policy does not count, and limits them.

A database that is away is waited for, and so is a message that changed the same row first. A
database that answers, while the transactions of one message fail again and again, is not what is
wrong: such a message waits longer each time, and has an end.
"""

from __future__ import annotations

import random
from collections import OrderedDict

MAX_UNCOUNTED = 10
"""Failures of one message, while the database answers, that its policy does not count."""

LONGEST_WAIT = 60.0
"""Seconds; no wait after one of these failures is longer."""

SHORTEST_WAIT = 0.5

CONFLICT_WAIT = 0.5
"""Seconds at most until a message is handled anew that another one was quicker than.

No failure of the message's, however often it comes: each time another message got on.
"""

MAX_MESSAGES = 10_000
"""Messages to remember; the ones that failed longest ago are forgotten first."""

Key = tuple[str, str, str]
"""Handler, queue and message id."""


class TransientFailures:
    """Counts the failures of each message in this process that its policy does not count."""

    def __init__(self) -> None:
        self._failures: OrderedDict[Key, int] = OrderedDict()

    def failed(self, key: Key) -> int:
        """Count a failure of this message, and return how many it has had."""
        failures = self._failures.pop(key, 0) + 1
        self._failures[key] = failures
        if len(self._failures) > MAX_MESSAGES:
            self._failures.popitem(last=False)
        return failures

    def ended(self, key: Key) -> None:
        """Forget a message: it succeeded, or failed in a way that counts."""
        if self._failures:
            self._failures.pop(key, None)


def wait_after(failures: int) -> float:
    """Draw the seconds until a message that failed so often is tried again."""
    longest = min(2 * SHORTEST_WAIT * 2.0 ** min(failures - 1, 16), LONGEST_WAIT)
    return random.uniform(longest / 2, longest)


def conflict_wait() -> float:
    """Draw the seconds until a message that another one was quicker than is handled anew."""
    return random.uniform(0, CONFLICT_WAIT)
