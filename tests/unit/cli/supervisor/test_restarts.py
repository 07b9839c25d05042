"""What a supervisor does when a process has ended."""

from __future__ import annotations

import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqkit.cli.supervisor.restarts import (
    LONGEST_WAIT,
    LOUD_AFTER,
    START_ATTEMPTS,
    STEADY,
    End,
    GiveUp,
    Restart,
    RestartPolicy,
)

JITTER = 0.4

KILLED = -signal.SIGKILL

DEAD_AT_ONCE = End(KILLED, ready_for=0.1)


def failures(policy: RestartPolicy, end: End) -> int:
    """Which failure in a row this end is."""
    decision = policy.after(end, service_ran=True)
    assert isinstance(decision, Restart)
    return decision.failures


@pytest.mark.parametrize("code", [0, 1, 2, 7, 77])
def test_a_service_that_cannot_start_is_given_up(code: int) -> None:
    """Where nothing ever ran, an exit code is final, and the command's own; 0 is one."""
    assert RestartPolicy().after(End(code), service_ran=False) == GiveUp(code)


@pytest.mark.parametrize("code", [KILLED, 0, 1, 77, None])
def test_a_process_that_cannot_start_ends_no_service_that_runs(code: int | None) -> None:
    """Its first start is no other than any later one: the others run on, and it is tried again."""
    assert isinstance(RestartPolicy().after(End(code), service_ran=True), Restart)
    assert RestartPolicy().after(End(2), service_ran=True) == GiveUp(2)


@pytest.mark.parametrize("code", [KILLED, None])
def test_what_is_killed_at_its_start_is_tried_a_few_times(code: int | None) -> None:
    """A signal may be an accident, which does not happen each time."""
    policy = RestartPolicy()
    for _ in range(START_ATTEMPTS - 1):
        assert isinstance(policy.after(End(code), service_ran=False), Restart)
    assert policy.after(End(code), service_ran=False) == GiveUp(1)


def test_an_error_after_an_accident_is_final_where_nothing_ever_ran() -> None:
    """Only a process that was ready proves that the service can start."""
    policy = RestartPolicy()
    assert isinstance(policy.after(End(KILLED), service_ran=False), Restart)
    assert policy.after(End(1), service_ran=False) == GiveUp(1)


def test_a_service_that_ran_is_started_again_for_ever() -> None:
    """Its broker may be away for long; only a service that is configured wrongly is given up."""
    policy = RestartPolicy()
    decisions = [policy.after(End(code), service_ran=True) for code in [KILLED, *[1] * 100]]
    loud = [isinstance(one, Restart) and one.loud for one in decisions]
    assert all(isinstance(one, Restart) for one in decisions)
    assert loud == [False] * (LOUD_AFTER - 1) + [True] * (102 - LOUD_AFTER)
    assert policy.after(End(2), service_ran=True) == GiveUp(2)


def test_an_exit_code_of_one_that_was_ready_is_no_configuration_error() -> None:
    """Whatever code a handler ended its process with, it is started again."""
    assert isinstance(RestartPolicy().after(End(2, ready_for=1.0), service_ran=True), Restart)


def test_failures_are_forgotten_once_it_has_run_well() -> None:
    """After a steady run the next failure is the first again, and its wait is short."""
    policy = RestartPolicy()
    assert [failures(policy, DEAD_AT_ONCE) for _ in range(3)] == [1, 2, 3]
    assert failures(policy, End(1, ready_for=STEADY - 0.1)) == 4
    assert failures(policy, End(1, ready_for=STEADY)) == 1
    assert failures(policy, End(1)) == 2


def test_the_wait_doubles_up_to_the_longest() -> None:
    """Each is as long as stated, and the jitter keeps two processes apart."""
    policies = [RestartPolicy() for _ in range(50)]
    longest = 0.0
    for n in range(12):
        decisions = [policy.after(DEAD_AT_ONCE, service_ran=True) for policy in policies]
        waits = [one.after for one in decisions if isinstance(one, Restart)]
        least = min(0.1 * 2**n, LONGEST_WAIT)
        assert len(set(waits)) == len(policies)
        assert least <= min(waits) <= max(waits) <= least + JITTER
        longest = least
    assert longest == LONGEST_WAIT


@given(
    st.lists(
        st.builds(
            End,
            st.none() | st.integers(-64, 255),
            ready_for=st.none() | st.floats(0, 100),
        ),
        max_size=50,
    ),
    st.none() | st.integers(0, 50),
)
def test_whatever_happens_it_waits_in_bounds_or_gives_up_for_a_reason(
    ends: list[End], other_ready: int | None
) -> None:
    """No order of ends makes it wait for too long, or give up what can start and is not wrong."""
    policy = RestartPolicy()
    ran, row = False, 0
    for n, end in enumerate(ends):
        ran = ran or end.ready_for is not None or other_ready == n
        row = 1 if end.ready_for is not None and end.ready_for >= STEADY else row + 1
        decision = policy.after(end, service_ran=ran)
        if isinstance(decision, GiveUp):
            assert end.ready_for is None
            assert decision.code == (end.code if end.code is not None and end.code >= 0 else 1)
            assert not ran or end.code == 2
            return
        assert 0 < decision.after <= LONGEST_WAIT + JITTER
        assert (decision.failures, decision.loud) == (row, row >= LOUD_AFTER)


@pytest.mark.parametrize(
    ("end", "why", "code"),
    [
        (End(0, 5.0), "ended with exit code 0", 0),
        (End(1, 5.0), "ended with exit code 1", 1),
        (End(2), "ended with exit code 2", 2),
        (End(7), "ended with exit code 7", 7),
        (End(77, 5.0), "ended with exit code 77", 77),
        (End(-signal.SIGKILL, 5.0), "was killed by SIGKILL", 1),
        (End(-signal.SIGTERM, 5.0), "was killed by SIGTERM", 1),
        (End(-signal.SIGTERM), "was killed by SIGTERM", 0),
        (End(-40, 5.0), "was killed by signal 40", 1),
        (End(None, problem="no room"), "could not be started: no room", 1),
    ],
)
def test_an_end_says_why_and_what_it_means(end: End, why: str, code: int) -> None:
    """In words, and as its part of the exit code; killed before it ran, it has failed nothing."""
    assert (end.why, end.exit_code) == (why, code)
