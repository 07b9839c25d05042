"""How many messages of a handler share a transaction, by what its runs took."""

from __future__ import annotations

import pytest

from mqkit.store.running.group_size import ALONE, CAREFUL, HELD_UP, STALL, GroupSize

LAG = 0.0001


def size(
    seconds: float, *, at_once: int = 20, overhead: float = 0.001, lag: float = LAG
) -> GroupSize:
    """What is said after many messages of a handler whose runs take so long."""
    made = GroupSize(at_once=at_once)
    for _ in range(200):
        made.ran(seconds, lag)
        made.committed(1, overhead)
    return made


def test_the_first_message_waits_for_no_other_one() -> None:
    """Nothing is known of its handler yet."""
    made = GroupSize(at_once=20)
    assert (made.messages, made.transactions, made.under_way) == (1, 2, 20)


def test_a_quick_handler_runs_for_many_messages_in_a_transaction() -> None:
    """Two transactions go on at a time, and more messages than it has runs are of use."""
    quick = size(0.0005)
    assert (quick.messages, quick.transactions) == (40, 2)
    assert quick.under_way == 120
    assert size(0.00001).messages == 100


def test_a_handler_that_waits_has_a_transaction_for_each_message() -> None:
    """As many at a time as it may have runs."""
    slow = size(0.1)
    assert (slow.messages, slow.transactions, slow.under_way) == (1, 20, 20)


def test_where_a_commit_takes_long_more_share_it() -> None:
    """And where a statement does, more transactions go on meanwhile: a database far away."""
    far = size(0.005, overhead=0.0202)
    assert (far.messages, far.transactions) == (20, 20)


def test_on_a_busy_machine_more_at_a_time_would_not_help() -> None:
    """Each turn of the loop takes long there, and so does each run."""
    busy = size(0.005, overhead=0.02, lag=0.002)
    assert busy.transactions == 2
    eased = size(0.1)
    for _ in range(200):
        eased.ran(0.005, 0.002)
        eased.committed(1, 0.001)
    assert eased.transactions == 2


def test_where_many_wait_a_slow_database_is_asked_for_fewer_transactions() -> None:
    """A group may take a part of the time for which the last of them waits anyway."""
    behind = size(0.1, overhead=0.21, lag=0.02)
    said = []
    for waiting in (0, 10, 40, 80, 800):
        behind.waiting = waiting
        said.append(behind.messages)
    assert said == [2, 2, 5, 10, 10], "up to five times what a transaction takes besides"


def test_runs_are_compared_only_while_others_wait() -> None:
    """Else fewer go on than might, and what they take says nothing of more."""
    made = GroupSize(at_once=20)
    for _ in range(200):
        made.ran(0.1, LAG, others_wait=False)
        made.committed(1, 0.001)
    assert made.transactions == 2


def test_where_runs_take_long_it_is_waited_longer_for_one_to_end() -> None:
    """On a machine that is busy none ends for a while, and more of them would not end sooner."""
    assert GroupSize(at_once=4).patience == STALL
    assert size(0.1).patience == pytest.approx(0.3)


def test_runs_that_do_not_end_let_others_begin() -> None:
    """One more each time, up to what the handler may have."""
    made = GroupSize(at_once=4)
    for expected in (3, 4, 4):
        made.stalled()
        assert made.transactions == expected


def test_one_run_at_a_time_stays_one() -> None:
    """Whatever it takes: its messages are handled in their order."""
    for seconds in (0.0001, 0.01, 1.0):
        assert size(seconds, at_once=1).transactions == 1


def test_after_a_failure_each_message_gets_a_savepoint_for_a_while() -> None:
    """Nobody is to run again for another one that fails."""
    made = size(0.0005)
    said = [made.has_savepoints]
    made.failed()
    for messages in (CAREFUL - 1, 1):
        made.committed(messages, 0.001)
        said.append(made.has_savepoints)
    assert said == [False, True, False]


def test_after_a_deadlock_groups_are_smaller_and_go_on_one_at_a_time() -> None:
    """For a while, and grow again."""
    made = size(0.0005)
    for expected in (40, 25, 12, 6, 3, 1, 1):
        made.conflicted()
        assert made.messages == expected
    assert made.transactions == 2, "none is shared, and each waits for its own commit"
    made = size(0.0005)
    made.conflicted()
    assert made.transactions == 1
    for _ in range(ALONE):
        made.committed(40, 0.001)
    assert made.transactions == 2


def test_one_that_is_held_up_after_a_deadlock_lets_others_go_on() -> None:
    """It waits for something else, however long that takes; and the next deadlock counts again."""
    made = size(0.0005)
    made.conflicted()
    assert (made.transactions, made.patience) == (1, HELD_UP)
    made.stalled()
    assert (made.transactions, made.patience) == (2, STALL)
    made.conflicted()
    assert (made.transactions, made.patience) == (1, HELD_UP)
