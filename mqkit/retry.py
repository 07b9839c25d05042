"""The failure policy of a handler, in tenacity's strategies, evaluated once per failed attempt.

tenacity usually sleeps between attempts in one process. Here each attempt may run in another
process, so its strategies are only asked: the delay is then held by the broker.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tenacity import Future, RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt
from tenacity.wait import wait_none

from mqkit.outcome import (
    DeadLetter,
    DeathReason,
    Reject,
    RetryAfter,
    RetryLater,
    instruction,
)
from mqkit.strategies import STRATEGIES, check_strategy, is_yes, wait_of

MAX_ATTEMPTS_ASKED = 1_000
WAIT_DRAWS = 20

Strategy = Callable[[RetryCallState], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """When to try a failed message again (`retry`), after how long (`wait`), and when not (`stop`).

    `stop`, `wait` and `retry` are tenacity's own strategies, or functions that take its
    `RetryCallState`. By default every `Exception` is retried; `stop` and `wait` must be said.
    A wait is in seconds, a number or a timedelta, is rounded up to whole tenths of one, and may
    be 310 days at most: what is longer, infinity among it, is that. What is negative is 0, and
    with 0 it comes again at once.

    `stop_after_delay` counts from the first failure of the message, over all processes: its waits
    and runs, but not what it stood in its queue for nobody to take it.

    :raises OptionError: a strategy is not one, was not called, or is tenacity's asynchronous kind
    """

    stop: Strategy
    wait: Strategy
    retry: Strategy = field(default_factory=retry_if_exception_type)

    def __post_init__(self) -> None:
        for name in STRATEGIES:
            check_strategy(name, getattr(self, name))

    @classmethod
    def never(cls) -> Retry:
        """No second attempt: every failure is dead-lettered at once."""
        return cls(stop=stop_after_attempt(1), wait=wait_none())

    def longest(self) -> float:
        """Seconds: about the most that all retries of one message may take.

        Found by asking the strategies attempt by attempt, the longest of several draws each, since
        waits may be random. A policy that does not stop within 1,000 attempts is taken to go on
        for ever (`inf`). One that fails ends there, as a message does whose policy fails.
        `RetryLater` and time in the queue are not in it.
        """
        elapsed, error = 0.0, Exception("a failure")
        for attempt in range(1, MAX_ATTEMPTS_ASKED + 1):
            state = _state(error, attempt, elapsed)
            is_last = True  # also where a strategy fails, whatever it raises
            with contextlib.suppress(Exception):
                state.upcoming_sleep = max(wait_of(self.wait(state)) for _ in range(WAIT_DRAWS))
                is_last = is_yes("stop", self.stop(state))
            if is_last:
                return elapsed
            elapsed += state.upcoming_sleep
        return math.inf

    def decide(
        self, error: BaseException, *, attempt: int, elapsed: float = 0.0
    ) -> RetryAfter | DeadLetter:
        """What becomes of a message whose attempt number `attempt` ended with `error`.

        `elapsed` is the seconds since its first failure. Pure but for what a strategy draws
        at random.

        :raises PolicyError: a strategy answered with what is no answer; what it raises itself is
            passed on
        """
        error = instruction(error)
        if isinstance(error, Reject):
            return DeadLetter(DeathReason.REJECTED, error)
        state = _state(error, attempt, elapsed)
        if isinstance(error, RetryLater):
            state.upcoming_sleep = wait_of(error.seconds)
        elif not is_yes("retry", self.retry(state)):
            return DeadLetter(DeathReason.NOT_RETRYABLE, error)
        else:
            state.upcoming_sleep = wait_of(self.wait(state))
        if is_yes("stop", self.stop(state)):
            return DeadLetter(DeathReason.ATTEMPTS_EXHAUSTED, error)
        return RetryAfter(state.upcoming_sleep, error)


def _state(error: BaseException, attempt: int, elapsed: float) -> RetryCallState:
    state = RetryCallState(Retrying(), None, (), {})
    state.attempt_number = attempt
    state.outcome = Future.construct(attempt, error, has_exception=True)
    state.start_time = 0.0
    state.outcome_timestamp = elapsed
    return state
