"""How fast the console's pages are, in a short form: see `console`."""

from __future__ import annotations

import pytest

from mqkit.testing.brokers.broker import Broker
from tests.benchmarks import console

ROOM_FOR_NOISE = 2.0
"""By which a short run on a busy machine may be wrong: the long one has the figures."""


@pytest.mark.long
@pytest.mark.in_turn
async def test_every_page_of_a_large_system_is_quick(rabbitmq: Broker) -> None:
    """With 500 queues, 50 processes and 2,000 dead letters, none takes longer than it may."""
    pages = await console.measure(rabbitmq.url, None, letters=2_000, rounds=25)
    assert len(pages) == len(console.PAGES) + 5
    slow = [str(each) for each in pages if each.p95 >= console.LIMIT * ROOM_FOR_NOISE]
    assert slow == []


def test_the_95th_percentile_is_one_of_the_times() -> None:
    """Of twenty it is the second longest, of a few the longest."""
    assert console.Page("/", [float(n) for n in range(20)]).p95 == 18
    assert console.Page("/", [1.0, 2.0]).p95 == 2
