"""The stages of a message's time."""

from __future__ import annotations

import pytest

from mqkit.testing.brokers.broker import Broker
from tests.benchmarks import stages
from tests.benchmarks.side_by_side.room import Room

TIMED = {"decode": 2.0, "handler": 0.5, "dispatch": 6.0, "encode": 8.0}


def test_the_stages_add_up_to_the_whole() -> None:
    """What is not accounted for by a stage is the rest, and nothing is counted twice."""
    totals = {
        "handle": stages.Total(40.0, 5.0),
        "driver consumes": stages.Total(14.0, 4.0),
        "publish": stages.Total(50.0, 6.0),
        "driver publishes": stages.Total(15.0, 5.0),
    }
    handled = stages.handling(totals.__getitem__, TIMED)
    published = stages.publishing(totals.__getitem__, TIMED)
    assert (sum(handled.values()), sum(published.values())) == (40.0, 50.0)
    assert list(handled.values()) == [5.0, 10.0, 2.0, 3.5, 0.5, 19.0]
    assert list(published.values()) == [6.0, 8.0, 10.0, 26.0]


def test_a_total_is_a_median_with_the_kernels_share_of_all() -> None:
    """A round in which the kernel was not sampled does not make its share zero."""
    runs = [stages.Used(0.8, 0.2), stages.Used(1.0, 0.0), stages.Used(0.6, 0.4)]
    total = stages.Total.of(runs, messages=1000)
    assert (total.all, total.kernel) == pytest.approx((1000.0, 200.0))


async def test_every_run_is_measured(mqkit_embedded: Broker) -> None:
    """A round measures the driver alone and all of mqkit, both ways."""
    measured = await stages.measure(Room(mqkit_embedded, mqkit_embedded.url), 1, 250)
    assert {name: len(runs) for name, runs in measured.runs.items()} == {
        "driver publishes": 1,
        "driver consumes": 1,
        "publish": 1,
        "handle": 1,
    }
    timed = measured.timed(loops=100)
    assert 0 < timed["handler"] < timed["dispatch"]
    assert 0 < timed["decode"] < timed["dispatch"]
