"""From a load to the options of a handler."""

from __future__ import annotations

import math
from typing import Any

import pytest

from mqkit.capacity import Load, plan
from mqkit.errors import OptionError

LOAD = Load(40, 0.1)


def test_a_deadline_gives_the_fewest_workers_spread_over_processes() -> None:
    """5 workers in 2 processes are 3 runs each, and one message is ahead for the way."""
    made = plan(LOAD, deadline=0.5, processes=2, backlog=500, round_trip=0.01)
    assert (made.fewest, made.waits.workers, made.concurrency, made.prefetch) == (5, 5, 3, 4)
    assert made.holds
    assert made.drain == pytest.approx(50)


def test_workers_that_are_there_are_held_to_the_deadline() -> None:
    """Too few do not hold, and the plan says how many would."""
    for workers, holds in ((3, False), (5, True), (9, True)):
        made = plan(LOAD, deadline=0.5, workers=workers)
        assert (made.waits.workers, made.fewest, made.holds) == (workers, 5, holds)
    assert plan(LOAD, workers=5).holds
    assert plan(LOAD, workers=5).fewest is None
    overloaded = plan(LOAD, workers=4, backlog=1)
    assert (overloaded.holds, overloaded.drain) == (False, math.inf)


def test_a_load_for_over_a_million_workers_is_told_of_where_there_are_some() -> None:
    """With workers given, the plan says that they are too few and not that none can be found."""
    made = plan(Load(1e9, 1), deadline=1, workers=5)
    assert (made.holds, made.fewest) == (False, None)


def test_quick_handlers_need_many_messages_ahead() -> None:
    """The prefetch covers a round trip's worth of runs, up to what AMQP can say."""
    assert plan(Load(100, 0.001), workers=4, round_trip=0.01).prefetch == 44
    assert plan(Load(100, 1e-9), workers=4, round_trip=10).prefetch == 65_535
    assert plan(Load(1, 60), workers=100, round_trip=0).prefetch == 100


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"deadline": -1},
        {"deadline": 1, "quantile": 1},
        {"workers": 0},
        {"workers": 1, "processes": 0},
        {"workers": 1, "processes": 10**6},
        {"workers": 1, "backlog": -1},
        {"workers": 1, "backlog": 1.5},
        {"workers": 1, "round_trip": math.nan},
    ],
)
def test_what_cannot_be_planned_is_refused(options: dict[str, Any]) -> None:
    """Each wrong option is an error, and so is saying neither a deadline nor workers."""
    with pytest.raises(OptionError):
        plan(LOAD, **options)
