"""What watching costs, in a short form: see `observability`."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mqkit.testing.brokers.broker import Broker
from tests.benchmarks import observability
from tests.benchmarks.observability import WAYS
from tests.benchmarks.side_by_side.room import Room

SHORT_ROUNDS, SHORT_MESSAGES = 7, 1500

ROOM_FOR_NOISE = 3.5
"""By which a short run on a busy machine may be wrong: the long one has the figures."""

TRIES = 4
"""Runs of which one must be within its bounds: what else the machine does spoils some of them."""


@pytest.mark.long
@pytest.mark.in_turn
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("name", "has_store"), [("metrics", False), ("tracing", True)])
async def test_watching_costs_little(rabbitmq: Broker, name: str, *, has_store: bool) -> None:
    """A message takes no more processor time, watched, than that may cost.

    Spans of a handler that does nothing at all cost as much as it does: see the page of tracing.
    """
    watched = replace(WAYS[name], may_cost=WAYS[name].may_cost * ROOM_FOR_NOISE)
    ways = {"nothing": WAYS["nothing"], name: watched}
    room = Room(rabbitmq, rabbitmq.url)
    said: list[str] = []
    for _ in range(TRIES):
        measured = await observability.measure(
            room, ways, SHORT_ROUNDS, SHORT_MESSAGES, has_store=has_store
        )
        if not observability.too_dear(measured, ways):
            return
        said += observability.lines(measured)
    pytest.fail("\n".join(said))


@pytest.mark.parametrize(("ratio", "dear"), [(1.0, False), (1.05, False), (1.051, True)])
def test_what_costs_more_than_it_may_is_told(ratio: float, *, dear: bool) -> None:
    """By its processor time, beside that of nothing"""
    figures = {"handled_per_s": 1.0, "cpu_us_per_message": 1.0, "rate_ratio": 0.5}
    measured = {
        "nothing": {**figures, "cpu_ratio": 1.0},
        "metrics": {**figures, "cpu_ratio": ratio},
    }
    assert bool(observability.too_dear(measured, WAYS)) == dear
