"""Rates from counters at several times."""

from __future__ import annotations

import dataclasses

import pytest

from mqkit.observability.states.state import State
from mqkit.overview.rates import KEPT, Counted, History, Span, counted, latest
from tests.simulated_states import states

STATE = states(60.0, processes=1, queues=1, services=1)[0]


def said(*points: tuple[float, int]) -> list[State]:
    """What a process has said: seconds since its start, and what it has counted by then."""
    return [
        dataclasses.replace(STATE, up=up, published={"confirmed": count}) for up, count in points
    ]


def count(said: Counted) -> int:
    """Read the counter."""
    return said.published


@pytest.mark.parametrize(
    ("points", "rate"),
    [
        ([(100.0, 5000)], 0.0),
        ([(98.0, 4000), (100.0, 5000)], 500.0),
        ([(50.0, 0), (96.0, 4000), (98.0, 4400), (100.0, 5000)], 250.0),
        ([(98.0, 5000), (100.0, 5000)], 0.0),
        ([(2.0, 100)], 50.0),
        ([(0.0, 0)], 0.0),
        ([(98.0, 5000), (100.0, 40)], 0.0),
        ([(40.0, 0), (70.0, 2000), (100.0, 5000)], 100.0),
    ],
    ids=[
        "one word says nothing of one that runs for long",
        "over what is known",
        "over the last ten seconds",
        "nothing happens",
        "one that has only just started began with 0",
        "no time has passed",
        "a counter that falls is no negative rate",
        "one that speaks every thirty seconds",
    ],
)
def test_rates(points: list[tuple[float, int]], rate: float) -> None:
    """A rate is a rise within the last seconds, by the seconds that it took."""
    assert latest([counted(each) for each in said(*points)], 10.0).per_second(count) == rate


def test_a_process_that_starts_again_is_another_one() -> None:
    """Its counters begin anew under another id, and each has the rate that it has."""
    history = History()
    for up, number in ((98.0, 900), (100.0, 1000)):
        history.add(said((up, number))[0])
    again = dataclasses.replace(said((2.0, 10))[0], id="ab" * 8)
    history.add(again)
    rates = [latest(history.of(each), 10.0).per_second(count) for each in (STATE.id, again.id)]
    assert rates == [50.0, 5.0]


def test_a_minute_is_kept() -> None:
    """Of a process that is forgotten nothing, and of what comes late nothing either."""
    history = History()
    for up in range(0, 1000, 2):
        history.add(said((float(up), up))[0])
    history.add(said((3.0, 1))[0])
    kept = history.of(STATE.id)
    assert [kept[0].up, kept[-1].up] == [998.0 - KEPT, 998.0]
    history.keep_only([])
    assert history.of(STATE.id) == ()


def test_of_one_that_speaks_twice_an_hour_its_last_two_words_are_kept() -> None:
    """So that it has a rate."""
    history = History()
    for up in (1800.0, 3600.0, 5400.0):
        history.add(said((up, int(up)))[0])
    assert [each.up for each in history.of(STATE.id)] == [3600.0, 5400.0]


def test_a_span_without_a_beginning_has_risen_from_nothing() -> None:
    """What a process has counted since its start, it has counted in its time."""
    assert Span(None, counted(said((4.0, 8))[0]), 4.0).rise(count) == 8
