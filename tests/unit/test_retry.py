"""The failure policy, evaluated."""

from __future__ import annotations

from typing import Any

import pytest
import tenacity
from hypothesis import given
from hypothesis import strategies as st
from tenacity import (
    retry_if_exception_type,
    stop_after_attempt,
    stop_after_delay,
    stop_before_delay,
    stop_never,
    wait_exponential,
    wait_fixed,
    wait_random_exponential,
)

from mqkit import ConfigurationError, Reject, Retry, RetryLater
from mqkit.outcome import MAX_DELAY, DeadLetter, DeathReason, RetryAfter


def test_tenacitys_strategies_decide_for_the_attempt_at_hand() -> None:
    """wait_exponential gives 1, 2, 4 s, and stop_after_attempt(4) ends it at the fourth."""
    retry = Retry(stop=stop_after_attempt(4), wait=wait_exponential(multiplier=1))
    outcomes = [retry.decide(ValueError(), attempt=n) for n in (1, 2, 3, 4)]
    assert [o.delay for o in outcomes if isinstance(o, RetryAfter)] == [1, 2, 4]
    assert isinstance(outcomes[3], DeadLetter)
    assert outcomes[3].reason is DeathReason.ATTEMPTS_EXHAUSTED


def test_an_exception_that_is_not_retried_dies_at_once() -> None:
    """What `retry` does not take is dead-lettered at its first attempt."""
    retry = Retry(stop=stop_never, wait=wait_fixed(1), retry=retry_if_exception_type(OSError))
    assert isinstance(retry.decide(OSError(), attempt=1), RetryAfter)
    outcome = retry.decide(ValueError(), attempt=1)
    assert isinstance(outcome, DeadLetter)
    assert outcome.reason is DeathReason.NOT_RETRYABLE


def test_reject_dies_and_retry_later_waits_whatever_the_policy_says() -> None:
    """Reject is never retried; RetryLater overrides wait and retry, but not stop."""
    retry = Retry(
        stop=stop_after_attempt(2), wait=wait_fixed(60), retry=retry_if_exception_type(OSError)
    )
    rejected = retry.decide(Reject("no"), attempt=1)
    assert isinstance(rejected, DeadLetter)
    assert rejected.reason is DeathReason.REJECTED
    later = retry.decide(RetryLater(5), attempt=1)
    assert isinstance(later, RetryAfter)
    assert later.delay == 5
    assert isinstance(retry.decide(RetryLater(5), attempt=2), DeadLetter)


def test_stop_after_delay_counts_from_the_first_failure() -> None:
    """The time that passed is what the message carries, not what this process has waited."""
    retry = Retry(stop=stop_after_delay(60), wait=wait_fixed(1))
    assert isinstance(retry.decide(ValueError(), attempt=9, elapsed=59), RetryAfter)
    assert isinstance(retry.decide(ValueError(), attempt=9, elapsed=60), DeadLetter)
    before = Retry(stop=stop_before_delay(60), wait=wait_fixed(10))
    assert isinstance(before.decide(ValueError(), attempt=1, elapsed=45), RetryAfter)
    assert isinstance(before.decide(ValueError(), attempt=1, elapsed=51), DeadLetter)


@given(attempt=st.integers(1, 500), elapsed=st.floats(0, 1e7))
def test_a_delay_always_fits_the_ladder(attempt: int, elapsed: float) -> None:
    """However far a strategy backs off, the delay is one that the broker can hold."""
    retry = Retry(stop=stop_never, wait=wait_random_exponential(multiplier=1e6, max=1e12))
    outcome = retry.decide(ValueError(), attempt=attempt, elapsed=elapsed)
    assert isinstance(outcome, RetryAfter)
    assert 0 <= outcome.delay <= MAX_DELAY


def test_never_means_one_attempt() -> None:
    """Retry.never() dead-letters the first failure."""
    assert isinstance(Retry.never().decide(ValueError(), attempt=1), DeadLetter)


async def _async_strategy(_: Any) -> bool:
    return True


@pytest.mark.parametrize(
    "policy", [{"stop": 3}, {"wait": 1.5}, {"retry": ValueError("x")}, {"retry": _async_strategy}]
)
def test_what_is_no_strategy_is_refused_at_once(policy: dict[str, Any]) -> None:
    """A number or an asynchronous predicate in the place of a strategy is an error."""
    with pytest.raises(ConfigurationError):
        Retry(**{"stop": stop_never, "wait": wait_fixed(1), **policy})


@pytest.mark.parametrize("seconds", [-1, MAX_DELAY + 1, float("nan")])
def test_retry_later_takes_what_the_ladder_holds(seconds: float) -> None:
    """RetryLater refuses a negative wait, and one that is over 310 days."""
    with pytest.raises(ValueError, match="RetryLater takes 0 to"):
        RetryLater(seconds)


def test_strategies_combine_as_in_tenacity() -> None:
    """`stop | stop` and `wait + wait` are strategies too."""
    retry = Retry(
        stop=tenacity.stop_any(stop_after_attempt(9), stop_after_delay(5)),
        wait=wait_fixed(1) + wait_fixed(2),
    )
    outcome = retry.decide(ValueError(), attempt=1, elapsed=0)
    assert isinstance(outcome, RetryAfter)
    assert outcome.delay == 3
