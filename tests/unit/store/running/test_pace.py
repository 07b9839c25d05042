"""How many transactions of a handler are worth having at a time, by what its runs take then."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mqkit.store.running.pace import HOLD, Pace


def played(pace: Pace, takes: Callable[[int], float], runs: int = 2_000) -> Pace:
    """Let a handler run so often, that always wants more at a time, and say what each run took.

    :param takes: what a run takes while so many go on
    """
    for _ in range(runs):
        pace.ran(takes(pace.at_a_time))
        pace.more()
    return pace


@pytest.mark.parametrize("most", [1, 2, 7, 20, 250])
def test_runs_that_wait_for_something_else_go_on_as_many_as_may(most: int) -> None:
    """Each takes as long, however many there are."""
    pace = Pace(2, most)
    played(pace, lambda _: 0.1)
    reached = {played(pace, lambda _: 0.1, 1).at_a_time for _ in range(HOLD)}
    assert max(reached) == most
    assert min(reached) >= most // 2, "half of them are tried now and then"


@pytest.mark.parametrize("first", [1, 2, 4])
def test_runs_that_wait_for_each_other_stay_few(first: int) -> None:
    """Each takes the longer the more there are, and twice as many are soon given up."""
    pace = played(Pace(first, 20), lambda at_a_time: 0.01 * at_a_time)
    reached = [played(pace, lambda n: 0.01 * n, 1).at_a_time for _ in range(HOLD)]
    assert set(reached) <= {first, 2 * first}
    assert reached.count(2 * first) < HOLD / 5


def test_when_all_becomes_slow_there_are_fewer_again() -> None:
    """As when a database, or the machine, has more to do than it can."""
    pace = played(Pace(2, 20), lambda _: 0.1)
    assert pace.at_a_time >= 10
    assert played(pace, lambda n: 0.05 * n).at_a_time <= 4


def test_one_more_is_given_up_where_it_gains_nothing() -> None:
    """It is let go on since none ended, and is compared once they do."""
    pace = played(Pace(2, 20), lambda n: 0.01 * n, HOLD)
    for _ in range(6):
        pace.one_more()
    assert pace.at_a_time >= 8
    for _ in range(60):
        pace.ran(0.01 * pace.at_a_time)
    assert pace.at_a_time == 2


def test_one_fewer_is_not_fewer_than_at_first() -> None:
    """Whatever is asked."""
    pace = played(Pace(2, 4), lambda _: 0.1, 100)
    said = []
    for _ in range(4):
        pace.one_fewer()
        said.append(pace.at_a_time)
    assert said == [3, 2, 2, 2]
