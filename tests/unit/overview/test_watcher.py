"""How often a watcher asks the broker for its queues."""

from __future__ import annotations

import pytest

from mqkit.overview.watcher import EVERY, seconds_between_listings


@pytest.mark.parametrize(("took", "seconds"), [(0.1, 5.0), (0.4, 20.0), (5.0, 30.0)])
def test_a_broker_lists_its_queues_for_a_fiftieth_of_the_time(took: float, seconds: float) -> None:
    """And twice a minute all the same, however long that takes."""
    assert seconds_between_listings(took) == pytest.approx(seconds)


def test_few_queues_are_listed_at_each_look() -> None:
    """What takes the broker 20 ms is no burden."""
    assert seconds_between_listings(0.02) <= EVERY
