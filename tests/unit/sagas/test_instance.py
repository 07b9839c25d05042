"""A saga as a state machine: what its own messages may do, and how often."""

from __future__ import annotations

import itertools

import pytest

from mqkit.sagas.errors import SagaStateError
from mqkit.sagas.instance import Instance, progress_of
from mqkit.sagas.values import SagaStatus


def instance() -> Instance:
    """A saga that is begun; its tokens are numbers."""
    numbers = itertools.count(1)
    made = Instance("saga s", "1", draw=lambda: str(next(numbers)))
    made.begin("state")
    return made


def test_a_timeout_is_taken_once() -> None:
    """Its message may come again under another id; only the one that was set last is waited for."""
    saga = instance()
    saga.set_timeout("t", 1.0, None)
    saga.set_timeout("t", 2.0, None)
    assert [saga.take_timeout("t", token) for token in ("1", "2", "2")] == [False, True, False]
    assert not saga.take_timeout("other", "2")


def test_a_timeout_that_is_cancelled_in_the_same_run_is_not_published() -> None:
    """Nobody has to hold it; and to cancel one that is not set does nothing."""
    saga = instance()
    saga.set_timeout("t", 1.0, None)
    saga.cancel_timeout("t")
    saga.cancel_timeout("t")
    assert (saga.set_now, saga.progress.timeouts) == ({}, {})


def test_giving_up_cancels_timeouts_and_keeps_the_first_reason() -> None:
    """It tells whether nothing is to be undone, the first time."""
    saga = instance()
    saga.set_timeout("t", 1.0, None)
    saga.note_done("a")
    assert not saga.give_up("first")
    assert (saga.progress.timeouts, saga.set_now) == ({}, {})
    assert not saga.give_up("second")
    assert saga.progress.reason == "first"
    assert instance().give_up("none is done")


def test_a_step_is_undone_once_and_only_when_it_is_its_turn() -> None:
    """A message of another step, or of one that was undone, does nothing."""
    saga = instance()
    saga.note_done("a")
    saga.note_done("b")
    assert not saga.take_step("b", "2")
    saga.give_up("why")
    assert not saga.take_step("a", "1")
    assert saga.take_step("b", "2")
    assert [step.name for step in saga.progress.done] == ["a"]
    step = saga.undo_next()
    assert step is not None
    assert step.token == "1"
    assert not saga.take_step("b", "2")
    assert saga.take_step("a", "1")
    assert saga.undo_next() is None
    saga.complete()
    assert not saga.take_step("a", "1")


def test_its_progress_is_read_as_it_was_written() -> None:
    """Timeouts, steps, what is being undone, and why."""
    saga = instance()
    saga.note_done("a")
    saga.give_up("a\0b")
    saga.set_timeout("t", 1.0, None)
    assert progress_of(saga.progress.to_json()) == saga.progress


def test_completed_is_the_end() -> None:
    """What would change it is an error that names the saga."""
    saga = instance()
    saga.complete()
    for change in (saga.complete, lambda: saga.note_done("a"), lambda: saga.give_up("x")):
        with pytest.raises(SagaStateError, match=r"saga s '1' cannot .*: it is completed"):
            change()
    assert saga.status is SagaStatus.COMPLETED
