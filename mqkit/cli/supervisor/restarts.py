"""Decides what to do when a process has ended, knowing neither processes nor time."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass

from tenacity import RetryCallState, Retrying, wait_exponential, wait_random

from mqkit.cli.exit_codes import CALLED_WRONGLY, FAILED

LONGEST_WAIT = 30.0
"""Seconds; no wait before a restart is longer, save by the jitter."""

DEFAULT_WAIT = wait_exponential(multiplier=0.1, max=LONGEST_WAIT) + wait_random(0, 0.4)
"""Before the n-th restart in a row. The jitter keeps processes apart that died together."""

STEADY = 5.0
"""Seconds after which a process that was ready is taken to run well, and its failures are over."""

START_ATTEMPTS = 3
"""Starts, while no process was ready yet, at which one may be killed, which may be an accident."""

LOUD_AFTER = 5
"""Failures in a row after which each further one is told as critical."""

Wait = Callable[[RetryCallState], float]


@dataclass(frozen=True, slots=True)
class End:
    """Says how a process ended."""

    code: int | None
    """As `Popen.returncode`: negative is a signal's number. None: it could not be started."""
    ready_for: float | None = None
    """Seconds from when it consumed to its end; None if it never did."""
    problem: str = ""
    """Why it could not be started."""

    @property
    def why(self) -> str:
        """The end in words: 'exit code 1', 'killed by SIGKILL'."""
        if self.code is None:
            return f"could not be started: {self.problem}"
        if self.code >= 0:
            return f"ended with exit code {self.code}"
        try:
            return f"was killed by {signal.Signals(-self.code).name}"
        except ValueError:  # a real-time signal has no name
            return f"was killed by signal {-self.code}"

    @property
    def exit_code(self) -> int:
        """Its part in the exit code of a command that was told to stop: the greatest counts."""
        if self.code == -signal.SIGTERM and self.ready_for is None:
            return 0  # stopped before it could hear of it in any other way; it held no message
        return FAILED if self.code is None or self.code < 0 else self.code


@dataclass(frozen=True, slots=True)
class Restart:
    """Start it again in `after` seconds. `loud`: this goes on, and somebody should look."""

    after: float
    failures: int
    """In a row, this one included."""
    loud: bool


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Stop everything, and end with this exit code."""

    code: int


class RestartPolicy:
    """Decides whether and when one of the processes is started again after it has ended.

    A service that cannot start is given up: until some process was ready, any exit code is final,
    0 among them, with which a module may say that there is nothing to do; at any start exit code 2
    is, which says that it is configured wrongly. What can start is started again for ever: the
    broker will be back.
    """

    def __init__(self, wait: Wait = DEFAULT_WAIT) -> None:
        self._wait = wait
        self._failures = 0

    def after(self, end: End, *, service_ran: bool) -> Restart | GiveUp:
        """Decide what to do after this end, which nobody had asked for.

        :param service_ran: whether any of the processes was ever ready
        """
        if end.ready_for is not None and end.ready_for >= STEADY:
            self._failures = 0
        self._failures += 1
        if end.ready_for is None:
            if end.code == CALLED_WRONGLY:
                return GiveUp(CALLED_WRONGLY)
            if not service_ran and end.code is not None and end.code >= 0:
                return GiveUp(end.code)
            if not service_ran and self._failures >= START_ATTEMPTS:
                return GiveUp(FAILED)
        return Restart(self._next_wait(), self._failures, loud=self._failures >= LOUD_AFTER)

    def _next_wait(self) -> float:
        state = RetryCallState(Retrying(), None, (), {})
        state.attempt_number = self._failures
        return float(self._wait(state))
