"""The broker's time: what is due runs in its order and at its own time."""

from __future__ import annotations

import time
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqkit.embedded.engine.clock import CANCELLED_KEPT, Clock


class Hand:
    """A monotonic clock that is moved by hand."""

    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def hand() -> Hand:
    """What the clock under test reads."""
    return Hand()


@pytest.fixture
def clock(hand: Hand) -> Clock:
    """A clock that stands still unless it is moved."""
    return Clock(hand, lambda: 1_000_000.0)


def test_timers_run_in_the_order_of_their_times(clock: Clock) -> None:
    """What is due first runs first, and of two at one time the one that was asked for first."""
    ran: list[str] = []
    for due, name in ((103.0, "c"), (101.0, "a"), (102.0, "b1"), (102.0, "b2")):
        clock.call_at(due, partial(ran.append, name))
    clock.advance(5)
    assert ran == ["a", "b1", "b2", "c"]


@given(
    st.lists(st.integers(0, 50), max_size=30), st.lists(st.integers(0, 20), min_size=1, max_size=5)
)
def test_each_runs_once_at_its_own_time(dues: list[int], steps: list[int]) -> None:
    """However time is moved, a timer runs once, and sees the time at which it was due."""
    hand = Hand()
    clock = Clock(hand, lambda: 0.0)
    seen: list[tuple[float, float]] = []

    def note(due: float) -> None:
        seen.append((due, clock.now()))

    for due in dues:
        clock.call_at(100.0 + due, partial(note, 100.0 + due))
    for step in steps:
        clock.advance(step)
    end = 100 + sum(steps)
    assert clock.now() == end
    assert [due for due, _ in seen] == sorted(100.0 + due for due in dues if 100 + due <= end)
    assert all(due == now for due, now in seen)


def test_a_chain_takes_as_long_as_it_says(clock: Clock) -> None:
    """A timer that starts another counts from its own time, also when all of it is past."""
    ran: list[float] = []

    def step() -> None:
        ran.append(clock.now())
        clock.call_at(clock.now() + 10, step)

    clock.call_at(110, step)
    clock.advance(35)
    assert ran == [110, 120, 130]
    assert clock.now() == 135


def test_what_is_not_due_waits(clock: Clock, hand: Hand) -> None:
    """`run_due` leaves later timers alone, and `wait` tells the seconds that are left."""
    ran: list[str] = []
    clock.call_at(101, lambda: ran.append("now"))
    clock.call_at(110, lambda: ran.append("later"))
    hand.time = 102
    assert clock.wait() == 0
    clock.run_due()
    assert ran == ["now"]
    assert clock.wait() == 8


def test_a_cancelled_timer_does_not_run(clock: Clock) -> None:
    """A timer that was cancelled, even by one due just before it, never runs."""
    ran: list[str] = []
    second = clock.call_at(102, lambda: ran.append("second"))
    clock.call_at(101, second.cancel)
    clock.call_at(103, lambda: ran.append("third")).cancel()
    clock.advance(5)
    assert ran == []
    assert second.is_cancelled
    assert clock.wait() is None


def test_cancelled_timers_are_not_held(clock: Clock) -> None:
    """A timer that is set anew again and again, days ahead, leaves no more than a few behind."""
    clock.call_at(10**7, lambda: None)
    for _ in range(100 * CANCELLED_KEPT):
        timer = clock.call_at(10**6, lambda: None)
        timer.cancel()
        timer.cancel()
    assert clock.timers <= CANCELLED_KEPT + 2


def test_the_next_timer_is_known_after_cancellations(clock: Clock) -> None:
    """Sorting out what was cancelled keeps the order of the rest."""
    kept: list[int] = []
    timers = [clock.call_at(101 + at, partial(kept.append, at)) for at in range(1000)]
    for at, timer in enumerate(timers):
        if at % 10:
            timer.cancel()
    assert clock.timers < 1000
    clock.advance(2000)
    assert kept == list(range(0, 1000, 10))


def test_advance_within_a_timer(clock: Clock) -> None:
    """Time that passes while a timer runs runs what is due by then, and never goes back."""
    times: list[float] = []

    def outer() -> None:
        times.append(clock.now())
        clock.advance(10)
        times.append(clock.now())

    clock.call_at(101, outer)
    clock.call_at(105, lambda: times.append(clock.now()))
    clock.call_at(112, lambda: times.append(clock.now()))
    clock.advance(2)
    clock.advance(1)
    assert times == [101, 105, 111, 112]
    assert clock.now() == 113


def test_time_goes_forward_only(clock: Clock) -> None:
    """A negative number of seconds is refused, and nothing runs."""
    clock.call_at(99, lambda: pytest.fail("it ran"))
    with pytest.raises(ValueError, match="forward only"):
        clock.advance(-1)
    assert clock.now() == 100


def test_wall_time_moves_with_it(clock: Clock) -> None:
    """Seconds since 1970 are advanced too, so that what is kept has a time that fits."""
    clock.advance(3600)
    assert clock.wall() == 1_003_600


def test_after_each_is_called_at_each_timers_time(clock: Clock) -> None:
    """What settles after a timer sees that timer's time."""
    times: list[float] = []
    clock.call_at(101, lambda: None)
    clock.call_at(102, lambda: None)
    clock.advance(9, lambda: times.append(clock.now()))
    assert times == [101, 102]


def test_a_timer_that_fails_does_not_stop_time(clock: Clock) -> None:
    """An error in one timer is the caller's to see; the next call runs the others."""
    ran: list[str] = []

    def fail() -> None:
        raise LookupError

    clock.call_at(101, fail)
    clock.call_at(102, lambda: ran.append("next"))
    with pytest.raises(LookupError):
        clock.advance(5)
    clock.advance(5)
    assert ran == ["next"]
    assert clock.now() == 105


def test_whoever_drives_it_is_told_of_an_earlier_timer(clock: Clock) -> None:
    """`on_change` is called when the first timer changes, and not for later ones."""
    calls: list[None] = []
    clock.on_change = lambda: calls.append(None)
    clock.call_at(110, lambda: None)
    clock.call_at(120, lambda: None)
    clock.call_at(105, lambda: None)
    assert len(calls) == 2


def test_it_takes_the_time_that_there_is_when_it_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever replaces `time.monotonic` and `time.time` replaces them for clocks made after it."""
    monkeypatch.setattr(time, "monotonic", lambda: 5.0)
    monkeypatch.setattr(time, "time", lambda: 1000.0)
    clock = Clock()
    assert (clock.now(), clock.wall()) == (5.0, 1000.0)
