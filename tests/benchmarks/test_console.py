"""How fast the console's pages are, in a short form: see `console`."""

from __future__ import annotations

import statistics

import pytest

from mqkit.testing.brokers.broker import Broker
from tests.benchmarks import console

ROOM_FOR_NOISE = 5.0
"""By which a short run on a busy machine may be wrong: the long one has the figures."""


@pytest.mark.long
@pytest.mark.in_turn
@pytest.mark.timeout(400)
async def test_no_page_of_a_long_list_is_slower_than_its_first(rabbitmq: Broker) -> None:
    """With 500 queues, 50 processes, 2,000 letters and sagas, their last pages come as quickly."""
    pages = await console.measure(rabbitmq.url, None, letters=2_000, rounds=25)
    assert len(pages) == len(console.PAGES) + 5
    middle = {each.path: statistics.median(each.seconds) for each in pages}
    for path, seconds in middle.items():
        first, _, rest = path.partition("?page=")
        if rest:
            assert seconds < middle[first] * ROOM_FOR_NOISE, path


def test_the_95th_percentile_is_one_of_the_times() -> None:
    """Of twenty it is the second longest, of a few the longest."""
    assert console.Page("/", [float(n) for n in range(20)]).p95 == 18
    assert console.Page("/", [1.0, 2.0]).p95 == 2
