"""Order by key over processes that are killed."""

from __future__ import annotations

from pathlib import Path

import pytest

from mqkit.testing.brokers.broker import Broker
from tests.faults.matrix.room import Rooms
from tests.faults.order import run

pytestmark = pytest.mark.in_turn


@pytest.mark.timeout(420)
async def test_keys_keep_their_order_though_their_processes_are_killed(
    rabbitmq: Broker, tmp_path: Path
) -> None:
    """The effects of each key are in its order, none is missing, and keys go side by side."""
    report = await run(
        Rooms(rabbitmq).take().url, tmp_path, messages=1500, keys=100, processes=3, kill_every=2.0
    )
    assert report.problems == []
    assert report.kills > 0
