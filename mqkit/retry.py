"""The retry policy of a handler: tenacity's strategies, asked once after each failure.

tenacity usually sleeps between attempts in one process. Here each attempt may run in another
process, so its strategies are only asked: the delay is then held by the broker.
"""

from __future__ import annotations

import contextlib
import inspect
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from numbers import Real
from typing import Any

import tenacity
from tenacity import Future, RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt
from tenacity.retry import retry_base
from tenacity.stop import stop_all, stop_any, stop_base
from tenacity.wait import wait_base, wait_none

from mqkit.checks import checked
from mqkit.errors import OptionError, PolicyError
from mqkit.outcome import (
    MAX_DELAY,
    DeadLetter,
    DeathReason,
    Reject,
    RetryAfter,
    RetryLater,
    instruction,
)

MAX_ATTEMPTS_ASKED = 1_000
WAIT_DRAWS = 20

Strategy = Callable[[RetryCallState], Any]

_KINDS = {"stop": stop_base, "wait": wait_base, "retry": retry_base}

STRATEGIES = {
    "stop": "stop=stop_after_attempt(6)",
    "wait": "wait=wait_exponential_jitter(max=60)",
    "retry": "retry=retry_if_exception_type(KeyError)",
}


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
        """Make a policy without a second attempt: every failure is dead-lettered at once."""
        return cls(stop=stop_after_attempt(1), wait=wait_none())

    @property
    def attempts(self) -> int | None:
        """How many attempts `stop` allows at most, as far as that can be seen; else None."""
        return _attempts(self.stop)

    def longest(self) -> float:
        """Estimate the most seconds that all retries of one message may take.

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
        """Decide what becomes of a message whose attempt number `attempt` ended with `error`.

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


def check_strategy(name: str, strategy: Any) -> None:
    """Check that a strategy can be asked.

    :raises OptionError: it cannot; the error says what to write
    """
    shown, example = checked.shown(strategy), STRATEGIES[name]
    kinds = strategy if isinstance(strategy, tuple | list) else (strategy,)
    if name == "retry" and any(_is_error(kind) for kind in kinds):
        names = ", ".join(getattr(kind, "__name__", type(kind).__name__) for kind in kinds)
        to_write = f"({names})" if isinstance(strategy, tuple | list) else names
        raise OptionError(
            f"Retry(retry=...) takes a tenacity strategy, not {shown}: write "
            f"retry=retry_if_exception_type({to_write})"
        )
    if isinstance(strategy, type):
        raise OptionError(
            f"Retry({name}=...) takes a tenacity strategy, not a class of them: call "
            f"{strategy.__name__}, as in {example}"
        )
    if strategy is tenacity.retry or isinstance(
        strategy, tuple(kind for other, kind in _KINDS.items() if other != name)
    ):
        raise OptionError(
            f"Retry({name}=...) takes what decides on {name}, not {shown}: write one like {example}"
        )
    if not callable(strategy):
        raise OptionError(
            f"Retry({name}=...) takes a tenacity strategy, not {shown}: write one like {example}"
        )
    call = getattr(strategy, "__call__", None)  # noqa: B004 - the method itself is inspected
    if any(is_kind(each) for is_kind in _NO_ANSWERS for each in (strategy, call)):
        raise OptionError(
            f"Retry({name}={shown}): asynchronous strategies, and those with a `yield`, are not "
            "supported"
        )
    if not checked.takes(strategy, 1):
        raise OptionError(
            f"Retry({name}=...) takes a tenacity strategy or a function of a RetryCallState, and "
            f"{shown} cannot be called with one argument; write one like {example}"
        )
    for part in _parts(strategy):
        check_strategy(name, part)


def _parts(strategy: Any) -> Iterator[Any]:
    """Return the strategies that one of tenacity's combines: of `stop | stop`, both."""
    if isinstance(strategy, tuple(_KINDS.values())):
        for attribute in ("stops", "retries", "wait_funcs", "strategies"):
            parts = getattr(strategy, attribute, ())
            if isinstance(parts, tuple | list):
                yield from parts


def _attempts(stop: Any) -> int | None:
    if type(stop) is stop_after_attempt:
        number = stop.max_attempt_number
        return number if isinstance(number, int) else None
    found = [_attempts(part) for part in _parts(stop)]
    known = [number for number in found if number is not None]
    if type(stop) is stop_any:
        return min(known, default=None)
    if type(stop) is stop_all and len(known) == len(found):
        return max(known, default=None)
    return None


_NO_ANSWERS = (
    inspect.iscoroutinefunction,
    inspect.isgeneratorfunction,
    inspect.isasyncgenfunction,
)


def _is_error(kind: object) -> bool:
    return isinstance(kind, BaseException) or (
        isinstance(kind, type) and issubclass(kind, BaseException)
    )


def _seconds(answer: Any) -> float:
    """Return the seconds of a number or a timedelta; NaN for anything else."""
    if isinstance(answer, timedelta):
        return answer.total_seconds()
    is_number = isinstance(answer, Real | Decimal) and not isinstance(answer, bool)
    try:
        return float(answer) if is_number else math.nan
    except OverflowError:
        return math.inf if answer > 0 else -math.inf
    except ValueError:  # a signaling NaN
        return math.nan


def is_yes(name: str, answer: Any) -> bool:
    """Read the answer of `retry` or `stop`: anything that Python takes for true or false.

    :raises PolicyError: it is a strategy, which was to be called, or something to be awaited
    """
    if answer is True or answer is False:
        return bool(answer)
    if callable(answer) or inspect.isawaitable(answer) or inspect.isgenerator(answer):
        _close(answer)
        raise PolicyError(
            f"Retry({name}=...) answered with a {type(answer).__name__}, which says neither yes "
            "nor no: return what that returns when it is called, or awaited"
        )
    return bool(answer)


def wait_of(answer: Any) -> float:
    """Read the answer of `wait`: seconds, within what the broker can hold.

    :raises PolicyError: it is no time
    """
    seconds = _seconds(answer)
    if math.isnan(seconds):
        _close(answer)
        raise PolicyError(
            f"Retry(wait=...) answered with {checked.shown(answer)}, which is no time: return "
            "seconds, as a number or a timedelta"
        )
    return min(max(seconds, 0.0), MAX_DELAY)


def _close(answer: Any) -> None:
    """Close a coroutine that nobody awaits; Python would warn of it at some later time."""
    if inspect.iscoroutine(answer):
        answer.close()
