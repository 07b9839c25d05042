"""The failure policy, evaluated."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any, cast

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
from mqkit.errors import PolicyError
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


def _yielding(_: Any) -> Any:
    yield True


@pytest.mark.parametrize(
    "policy", [{"stop": 3}, {"wait": 1.5}, {"retry": ValueError("x")}, {"retry": _async_strategy}]
)
def test_what_is_no_strategy_is_refused_at_once(policy: dict[str, Any]) -> None:
    """A number or an asynchronous predicate in the place of a strategy is an error."""
    with pytest.raises(ConfigurationError):
        Retry(**{"stop": stop_never, "wait": wait_fixed(1), **policy})


NO_STRATEGIES: tuple[Any, ...] = (5, True, None, "5", (), [])

WRITE = {
    "stop": "stop=stop_after_attempt(6)",
    "wait": "wait=wait_exponential_jitter",
    "retry": "retry=retry_if_exception_type(KeyError)",
}


@pytest.mark.parametrize(
    ("name", "strategy", "words"),
    [
        ("stop", stop_after_attempt, "call stop_after_attempt"),
        ("stop", tenacity.stop_any, "call stop_any"),
        ("wait", wait_fixed, "call wait_fixed"),
        ("wait", tenacity.wait_none, "call wait_none"),
        ("retry", retry_if_exception_type, "call retry_if_exception_type"),
        ("retry", KeyError, "write retry=retry_if_exception_type(KeyError)"),
        (
            "retry",
            (KeyError, ValueError),
            "write retry=retry_if_exception_type((KeyError, ValueError))",
        ),
        ("retry", [OSError], "write retry=retry_if_exception_type((OSError))"),
        ("retry", ValueError("x"), "write retry=retry_if_exception_type(ValueError)"),
        ("retry", KeyboardInterrupt, "write retry=retry_if_exception_type(KeyboardInterrupt)"),
        ("retry", tenacity.retry, WRITE["retry"]),
        ("retry", Retry, "call Retry"),
        *((name, wrong, WRITE[name]) for name in WRITE for wrong in NO_STRATEGIES),
        *((name, lambda: 1, "cannot be called with one argument") for name in WRITE),
        *((name, lambda a, b: 1, "cannot be called with one argument") for name in WRITE),
        *((name, lambda *, state: 1, "cannot be called with one argument") for name in WRITE),
        ("wait", timedelta(seconds=1), WRITE["wait"]),
        ("stop", wait_fixed(1), WRITE["stop"]),
        ("wait", stop_after_attempt(3), WRITE["wait"]),
        ("retry", stop_never, WRITE["retry"]),
        ("stop", stop_after_attempt(3) | stop_after_delay, "call stop_after_delay"),
        ("wait", wait_fixed(1) + cast(Any, wait_fixed), "call wait_fixed"),
        ("wait", tenacity.wait_chain(wait_fixed(1), cast(Any, wait_fixed)), "call wait_fixed"),
        (
            "retry",
            tenacity.retry_any(cast(Any, OSError)),
            "write retry=retry_if_exception_type(OSError)",
        ),
        *((name, _async_strategy, "asynchronous") for name in WRITE),
        *((name, _yielding, "`yield`") for name in WRITE),
    ],
)
def test_what_is_no_strategy_is_refused_with_what_to_write(
    name: str, strategy: Any, words: str
) -> None:
    """One that was not called, an exception's type, a number, a function of something else."""
    with pytest.raises(ConfigurationError) as caught:
        Retry(**{"stop": stop_never, "wait": wait_fixed(1), name: strategy})
    assert f"Retry({name}=" in str(caught.value)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "policy",
    [
        {"stop": lambda state, extra=1: True},
        {"wait": lambda *states: 1},
        {"retry": retry_if_exception_type(OSError) | retry_if_exception_type(KeyError)},
        {"wait": tenacity.wait_chain(wait_fixed(1), wait_fixed(2))},
        {"stop": (stop_after_attempt(3) | stop_after_delay(4)) & stop_never},
        {"retry": tenacity.retry_always},
    ],
)
def test_a_strategy_is_whatever_takes_a_state(policy: dict[str, Any]) -> None:
    """Functions with more arguments that need not be given, and strategies of strategies."""
    Retry(**{"stop": stop_never, "wait": wait_fixed(1), **policy})


async def _coroutine() -> float:
    return 1.0


NO_WAITS = (
    lambda: math.nan,
    lambda: Decimal("NaN"),
    lambda: Decimal("sNaN"),
    lambda: None,
    lambda: "0.2",
    lambda: b"1",
    lambda: True,
    lambda: [1],
    lambda: 1j,
    lambda: wait_fixed(1),
    _coroutine,
)


@pytest.mark.parametrize("answer", NO_WAITS)
def test_a_wait_that_is_no_time_fails_the_policy(answer: Callable[[], Any]) -> None:
    """The error says what was answered; the dispatcher makes `policy-failed` of it."""
    retry = Retry(stop=stop_after_attempt(3), wait=lambda _: answer())
    with pytest.raises(PolicyError, match=r"Retry\(wait=...\) answered with .* no time"):
        retry.decide(ValueError(), attempt=1)
    assert retry.longest() == 0


@pytest.mark.parametrize(
    ("answer", "delay"),
    [
        (math.inf, MAX_DELAY),
        (10**400, MAX_DELAY),
        (1e300, MAX_DELAY),
        (timedelta(days=1000), MAX_DELAY),
        (timedelta(seconds=2), 2),
        (Decimal("0.5"), 0.5),
        (Fraction(1, 4), 0.25),
        (-1, 0),
        (-math.inf, 0),
        (-(10**400), 0),
        (timedelta(seconds=-1), 0),
        (0, 0),
    ],
)
def test_a_wait_is_kept_within_what_the_broker_can_hold(answer: Any, delay: float) -> None:
    """As the README says: 310 days at most, and never less than nothing."""
    retry = Retry(stop=stop_after_attempt(3), wait=lambda _: answer)
    outcome = retry.decide(ValueError(), attempt=1)
    assert isinstance(outcome, RetryAfter)
    assert outcome.delay == delay
    assert retry.longest() == 2 * delay


@pytest.mark.parametrize("name", ["stop", "retry"])
@pytest.mark.parametrize(
    "answer", [_coroutine, lambda: stop_after_attempt(3), lambda: KeyError, lambda: print]
)
def test_an_answer_that_was_to_be_called_or_awaited_fails_the_policy(
    name: str, answer: Callable[[], Any]
) -> None:
    """It would count as yes, whatever it had to say."""
    policy: dict[str, Any] = {"stop": stop_after_attempt(3), "wait": wait_fixed(1)}
    retry = Retry(**{**policy, name: lambda _: answer()})
    with pytest.raises(PolicyError, match=f"Retry\\({name}=...\\) answered with a "):
        retry.decide(ValueError(), attempt=1)
    assert retry.longest() in (0, 2)


@pytest.mark.parametrize(
    ("answer", "stops"), [(None, False), (math.nan, True), ("no", True), (0, False)]
)
def test_stop_answers_as_python_takes_it(answer: Any, *, stops: bool) -> None:
    """None and 0 are no, everything else is yes."""
    retry = Retry(stop=lambda _: answer, wait=wait_fixed(1))
    assert isinstance(retry.decide(ValueError(), attempt=1), DeadLetter) is stops


@pytest.mark.parametrize("name", ["stop", "wait"])
def test_the_longest_retry_of_a_policy_that_fails_ends_there(name: str) -> None:
    """As a message does whose policy fails; registering such a handler is no error."""

    def fails_at_the_third(state: Any) -> Any:
        if state.attempt_number == 3:
            raise LookupError
        return 5 if name == "wait" else False

    policy: dict[str, Any] = {"stop": stop_never, "wait": wait_fixed(5)}
    retry = Retry(**{**policy, name: fails_at_the_third})
    assert retry.longest() == 10


@pytest.mark.parametrize("seconds", ["5", None, True, math.inf, timedelta(seconds=-1), []])
def test_retry_later_takes_a_time(seconds: Any) -> None:
    """Anything else is a ValueError, and one of mqkit's."""
    with pytest.raises(ConfigurationError, match="RetryLater takes 0 to"):
        RetryLater(seconds)
    assert RetryLater(timedelta(minutes=1)).seconds == 60


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


@pytest.mark.parametrize(
    ("stop", "attempts"),
    [
        (stop_after_attempt(6), 6),
        (tenacity.stop_after_delay(5), None),
        (tenacity.stop_never, None),
        (stop_after_attempt(6) | tenacity.stop_after_delay(5), 6),
        (stop_after_attempt(6) | stop_after_attempt(3), 3),
        (stop_after_attempt(6) & stop_after_attempt(3), 6),
        (stop_after_attempt(6) & tenacity.stop_after_delay(5), None),
        (lambda state: state.attempt_number > 2, None),
    ],
)
def test_the_most_attempts_of_a_policy_are_known_where_its_stop_says_so(
    stop: Any, attempts: int | None
) -> None:
    """The log says of how many an attempt is; a function's answer nobody knows before."""
    assert Retry(stop=stop, wait=tenacity.wait_none()).attempts == attempts
