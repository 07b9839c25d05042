"""When a handler pauses: how its runs are judged by what is stated."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqkit import Pause, Reject
from mqkit.consuming.pausing.circuit_breaker import CircuitBreaker, RunVerdict
from mqkit.errors import StoreUnavailableError
from mqkit.outcome import Ack, DeadLetter, DeathReason, Lost, Outcome, Requeue, RetryAfter


class GatewayDownError(Exception):
    """What a dependency raises."""


DOWN = GatewayDownError("card 4000-1234")
GATEWAY = Pause(on=GatewayDownError, rate=0.5, over=4, minimum=2, every=7)


def failed(error: BaseException = DOWN) -> Outcome:
    """A run that a policy has answered with a retry."""
    return RetryAfter(3, error, elapsed=33)


def ended(circuit: CircuitBreaker, *outcomes: Outcome) -> list[RunVerdict]:
    """What becomes of runs that begin and end one after the other."""
    return [circuit.end(outcome, began=circuit.begin(), elapsed=30) for outcome in outcomes]


def raised_from(error: BaseException, cause: BaseException) -> BaseException:
    """`raise error from cause`."""
    error.__cause__ = cause
    return error


def test_it_pauses_at_the_rate_once_there_are_enough_runs() -> None:
    """Two of the last four, not one of one and not one of three; the trip says how many."""
    circuit = CircuitBreaker((GATEWAY,))
    verdicts = ended(circuit, failed(), Ack(), Ack(), Ack(), failed(), Ack(), failed())
    assert [bool(verdict.trips) for verdict in verdicts] == [False] * 6 + [True]
    (trip,) = verdicts[-1].trips
    assert (trip.failed, trip.of) == (2, 4)
    assert circuit.tripped == (trip,)
    assert "GatewayDownError" in trip.because
    assert "4000" not in trip.because


def test_a_run_that_went_well_never_begins_a_pause() -> None:
    """Where the minimum is reached by a success, the next failure begins it."""
    circuit = CircuitBreaker((Pause(on=GatewayDownError, rate=0.5, over=4, minimum=3),))
    verdicts = ended(circuit, failed(), failed(), Ack(), failed())
    assert [bool(verdict.trips) for verdict in verdicts] == [False, False, False, True]


@given(
    st.lists(st.booleans(), max_size=60),
    st.integers(1, 10),
    st.integers(1, 10),
    st.floats(0.05, 1),
)
def test_it_pauses_at_the_first_failure_at_which_the_stated_share_is_reached(
    runs: list[bool], over: int, minimum: int, rate: float
) -> None:
    """As counted anew from the list of all runs each time."""
    over = max(over, minimum)
    circuit = CircuitBreaker((Pause(on=GatewayDownError, rate=rate, over=over, minimum=minimum),))
    for number, is_failure in enumerate(runs, start=1):
        (verdict,) = ended(circuit, failed() if is_failure else Ack())
        window = runs[max(0, number - over) : number]
        due = is_failure and len(window) >= minimum and sum(window) >= rate * len(window)
        assert bool(verdict.trips) == due
        if due:
            return


def test_failures_count_as_usual_until_it_pauses_and_cost_nothing_after() -> None:
    """The one that begins the pause is not counted either, nor moves the time since the first."""
    circuit = CircuitBreaker((GATEWAY,))
    before, tripping, after = ended(circuit, failed(), failed(), failed())
    assert before.outcome == RetryAfter(3, DOWN, elapsed=33)
    assert tripping.outcome == RetryAfter(3, DOWN, elapsed=30, counted=False)
    assert after.outcome == RetryAfter(3, DOWN, elapsed=30, counted=False)
    assert (after.failed, after.trips) == (True, ())


@pytest.mark.parametrize(
    "reason",
    [DeathReason.ATTEMPTS_EXHAUSTED, DeathReason.NOT_RETRYABLE, DeathReason.POLICY_FAILED],
)
def test_while_paused_no_policy_dead_letters_for_the_dependency(reason: DeathReason) -> None:
    """Whatever the policy says, the message comes again after `every`."""
    error: BaseException = DOWN
    if reason is DeathReason.POLICY_FAILED:
        error = ZeroDivisionError("the policy's own")
        error.__context__ = DOWN
    circuit = CircuitBreaker((GATEWAY,))
    verdicts = ended(circuit, failed(), failed(), DeadLetter(reason, error))
    assert verdicts[-1].outcome == RetryAfter(7, DOWN, elapsed=30, counted=False)


def test_other_failures_and_rejects_are_judged_by_the_policy_while_paused() -> None:
    """The pause is for what was named."""
    circuit = CircuitBreaker((GATEWAY,))
    others: tuple[Outcome, ...] = (
        failed(ValueError()),
        DeadLetter(DeathReason.ATTEMPTS_EXHAUSTED, ValueError()),
        DeadLetter(DeathReason.REJECTED, raised_from(Reject("no"), DOWN)),
        Ack(),
    )
    verdicts = ended(circuit, failed(), failed(), *others)[2:]
    assert tuple(verdict.outcome for verdict in verdicts) == others
    assert [verdict.failed for verdict in verdicts] == [False] * 4


@pytest.mark.parametrize(
    "outcome",
    [
        Lost(),
        Requeue(),
        DeadLetter(DeathReason.UNDECODABLE, ValueError()),
        DeadLetter(DeathReason.UNIDENTIFIED, ValueError()),
    ],
)
def test_what_was_not_run_to_its_end_tells_nothing(outcome: Outcome) -> None:
    """It is in no window: after it, two of two runs have failed, and not two of three."""
    circuit = CircuitBreaker((Pause(on=GatewayDownError, rate=1, over=3, minimum=2),))
    verdicts = ended(circuit, failed(), outcome, failed())
    assert verdicts[1] == RunVerdict(outcome, None)
    assert verdicts[2].trips


def test_after_it_resumed_it_begins_anew() -> None:
    """What was before the pause is forgotten, and failures count again."""
    circuit = CircuitBreaker((GATEWAY,))
    ended(circuit, failed(), failed())
    circuit.resume(GATEWAY)
    assert circuit.tripped == ()
    (verdict,) = ended(circuit, failed())
    assert verdict.outcome == failed()
    assert not verdict.trips


def test_a_run_that_began_before_the_dependency_came_back_is_excused() -> None:
    """It met the old outage: it costs its message no attempt, and begins no new pause."""
    circuit = CircuitBreaker((GATEWAY,))
    began = circuit.begin()
    ended(circuit, failed(), failed())
    circuit.resume(GATEWAY)
    for _ in range(3):
        verdict = circuit.end(failed(), began=began)
        assert verdict.outcome == RetryAfter(3, DOWN, elapsed=0, counted=False)
        assert not verdict.trips


def test_two_pauses_of_a_handler_are_apart() -> None:
    """Each has its own window; a failure that one excuses counts for the other one's errors."""
    store = Pause(on=StoreUnavailableError, rate=1, over=2, minimum=2)
    circuit = CircuitBreaker((GATEWAY, store))
    ended(circuit, failed(), failed())
    away = failed(StoreUnavailableError("away"))
    first, second = ended(circuit, away, away)
    assert (first.outcome, first.failed, first.trips) == (away, True, ())
    assert [trip.pause for trip in second.trips] == [store]
    assert isinstance(second.outcome, RetryAfter)
    assert not second.outcome.counted
    circuit.resume(GATEWAY)
    assert [trip.pause for trip in circuit.tripped] == [store]
    (verdict,) = ended(circuit, failed())
    assert verdict.outcome == failed()
