"""How long a channel stays open after what the broker was told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqkit.consuming.told import ANSWERED, TICK, UNDER_WAY, Told


class Clock:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_few_commands_need_no_wait() -> None:
    """What a channel passes on at once is not lost with it."""
    told = Told(Clock())
    assert told.left() == 0
    told.note(UNDER_WAY - 1)
    assert told.left() == 0


def test_many_commands_are_waited_for_until_the_queue_has_answered() -> None:
    """The wait ends some time after the last of them, and no command is counted for longer."""
    clock = Clock()
    told = Told(clock)
    for _ in range(UNDER_WAY):
        told.note(1)
    assert told.left() == pytest.approx(TICK + ANSWERED)
    clock.now += 0.2
    assert told.left() == pytest.approx(TICK + ANSWERED - 0.2)
    clock.now += told.left() + 0.001
    assert told.left() == 0


def test_what_came_after_many_does_not_make_the_wait_longer() -> None:
    """A few acks after many need no wait of their own."""
    clock = Clock()
    told = Told(clock)
    told.note(500)
    clock.now += 0.3
    told.note(UNDER_WAY - 1)
    assert told.left() == pytest.approx(TICK + ANSWERED - 0.3)


@given(st.lists(st.tuples(st.floats(0, 0.3), st.integers(1, 20)), min_size=1, max_size=200))
def test_no_more_are_without_an_answer_than_are_passed_on_at_once(
    writes: list[tuple[float, int]],
) -> None:
    """Whenever the wait ends, fewer commands than that are younger than what a queue needs."""
    clock = Clock()
    told = Told(clock)
    noted: list[tuple[float, int]] = []
    for later, commands in writes:
        clock.now += later
        told.note(commands)
        noted.append((clock.now, commands))
    clock.now += told.left()
    young = sum(count for at, count in noted if at > clock.now - ANSWERED + 1e-6)
    assert young < UNDER_WAY
    assert clock.now <= noted[-1][0] + TICK + ANSWERED + 1e-6
