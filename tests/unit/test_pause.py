"""When a handler pauses: what is stated, and how the runs of a handler are judged by it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqkit import ConfigurationError, Pause, Queue, Reject, Retry, RetryLater, Service
from mqkit.errors import HandlerError, StoreUnavailableError
from mqkit.outcome import Ack, DeadLetter, DeathReason, Lost, Outcome, Requeue, RetryAfter
from mqkit.pause import Circuit, Verdict


class GatewayDownError(Exception):
    """What a dependency raises."""


class GatewaySlowError(GatewayDownError):
    """One kind of it."""


DOWN = GatewayDownError("card 4000-1234")
GATEWAY = Pause(on=GatewayDownError, rate=0.5, over=4, minimum=2, every=7)


def failed(error: BaseException = DOWN) -> Outcome:
    """A run that a policy has answered with a retry."""
    return RetryAfter(3, error, elapsed=33)


def ended(circuit: Circuit, *outcomes: Outcome) -> list[Verdict]:
    """What becomes of runs that begin and end one after the other."""
    return [circuit.end(outcome, began=circuit.begin(), elapsed=30) for outcome in outcomes]


def raised_from(error: BaseException, cause: BaseException) -> BaseException:
    """`raise error from cause`."""
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"on": ()}, "types of exceptions"),
        ({"on": DOWN}, "types of exceptions"),
        ({"on": KeyboardInterrupt}, "types of exceptions"),
        ({"on": (OSError, Reject)}, "Reject and RetryLater say what becomes of one message"),
        ({"rate": 0}, "rate"),
        ({"rate": 1.1}, "rate"),
        ({"rate": float("nan")}, "rate"),
        ({"minimum": 21}, "the minimum is 1 to all of them"),
        ({"minimum": 0}, "the minimum is 1 to all of them"),
        ({"over": 2.5}, "both are numbers of runs"),
        ({"every": 0}, "every"),
        ({"every": float("inf")}, "every"),
        ({"probe": "ping"}, "a function without arguments"),
    ],
)
def test_a_pause_that_cannot_work_is_refused(wrong: dict[str, Any], words: str) -> None:
    """The error says which value is wrong, and what it may be."""
    with pytest.raises(ConfigurationError, match=words):
        Pause(**{"on": OSError, **wrong})


@pytest.mark.parametrize(
    ("error", "is_named"),
    [
        (DOWN, True),
        (GatewaySlowError(), True),
        (ValueError(), False),
        (raised_from(ValueError(), DOWN), True),
        (raised_from(KeyError(), raised_from(ValueError(), DOWN)), True),
        (ExceptionGroup("two", [ValueError(), DOWN]), True),
        (ExceptionGroup("two", [ValueError(), KeyError()]), False),
        (Reject("no"), False),
        (raised_from(Reject("no"), DOWN), False),
        (RetryLater(1), False),
        (raised_from(RetryLater(1), DOWN), True),
    ],
)
def test_what_counts_as_one_of_the_named_exceptions(error: BaseException, is_named: bool) -> None:
    """Subclasses, what was raised from one, and groups that hold one; never a Reject."""
    assert (GATEWAY.named(error) is not None) == is_named


def test_an_error_met_while_another_was_handled_is_not_named() -> None:
    """Only `raise ... from` says that one was the reason for the other."""
    error = ValueError()
    error.__context__ = DOWN
    assert GATEWAY.named(error) is None


def test_instructions_of_a_handler_are_no_failures_even_of_everything() -> None:
    """on=Exception takes every error, and neither Reject nor RetryLater."""
    everything = Pause(on=Exception)
    assert everything.named(KeyError()) is not None
    assert everything.named(Reject("no")) is None
    assert everything.named(RetryLater(1)) is None


def test_causes_that_go_in_a_circle_are_seen_once() -> None:
    """A chain of causes that a program has closed does not hang."""
    first, second = ValueError(), KeyError()
    first.__cause__, second.__cause__ = second, first
    assert GATEWAY.named(first) is None


def test_it_pauses_at_the_rate_once_there_are_enough_runs() -> None:
    """Two of the last four, not one of one and not one of three; the trip says how many."""
    circuit = Circuit((GATEWAY,))
    verdicts = ended(circuit, failed(), Ack(), Ack(), Ack(), failed(), Ack(), failed())
    assert [bool(verdict.trips) for verdict in verdicts] == [False] * 6 + [True]
    (trip,) = verdicts[-1].trips
    assert (trip.failed, trip.of) == (2, 4)
    assert circuit.tripped == (trip,)
    assert "GatewayDownError" in trip.because
    assert "4000" not in trip.because


def test_a_run_that_went_well_never_begins_a_pause() -> None:
    """Where the minimum is reached by a success, the next failure begins it."""
    circuit = Circuit((Pause(on=GatewayDownError, rate=0.5, over=4, minimum=3),))
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
    circuit = Circuit((Pause(on=GatewayDownError, rate=rate, over=over, minimum=minimum),))
    for number, is_failure in enumerate(runs, start=1):
        (verdict,) = ended(circuit, failed() if is_failure else Ack())
        window = runs[max(0, number - over) : number]
        due = is_failure and len(window) >= minimum and sum(window) >= rate * len(window)
        assert bool(verdict.trips) == due
        if due:
            return


def test_failures_count_as_usual_until_it_pauses_and_cost_nothing_after() -> None:
    """The one that begins the pause is not counted either, nor moves the time since the first."""
    circuit = Circuit((GATEWAY,))
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
    circuit = Circuit((GATEWAY,))
    verdicts = ended(circuit, failed(), failed(), DeadLetter(reason, error))
    assert verdicts[-1].outcome == RetryAfter(7, DOWN, elapsed=30, counted=False)


def test_other_failures_and_rejects_are_judged_by_the_policy_while_paused() -> None:
    """The pause is for what was named."""
    circuit = Circuit((GATEWAY,))
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
    circuit = Circuit((Pause(on=GatewayDownError, rate=1, over=3, minimum=2),))
    verdicts = ended(circuit, failed(), outcome, failed())
    assert verdicts[1] == Verdict(outcome, None)
    assert verdicts[2].trips


def test_after_it_resumed_it_begins_anew() -> None:
    """What was before the pause is forgotten, and failures count again."""
    circuit = Circuit((GATEWAY,))
    ended(circuit, failed(), failed())
    circuit.resume(GATEWAY)
    assert circuit.tripped == ()
    (verdict,) = ended(circuit, failed())
    assert verdict.outcome == failed()
    assert not verdict.trips


def test_a_run_that_began_before_the_dependency_came_back_is_excused() -> None:
    """It met the old outage: it costs its message no attempt, and begins no new pause."""
    circuit = Circuit((GATEWAY,))
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
    circuit = Circuit((GATEWAY, store))
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


def test_a_handlers_own_pause_goes_before_the_services() -> None:
    """The service's holds for every handler that states none."""
    whole, own = Pause(on=OSError), Pause(on=KeyError)
    service = Service("s", retry=Retry.never(), pause=whole)

    async def handle(body: bytes) -> None: ...

    service.handler(Queue("a"))(handle)
    service.handler(Queue("b"), pause=own)(handle)
    assert [handler.pause for handler in service.handlers] == [whole, own]
    with pytest.raises(HandlerError, match="pause takes Pause"):
        service.handler(Queue("c"), pause=OSError)(handle)  # type: ignore[arg-type]
    with pytest.raises(HandlerError, match="service 't': pause takes Pause"):
        Service("t", pause=5)  # type: ignore[arg-type]
