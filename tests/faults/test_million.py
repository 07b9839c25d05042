"""A few thousand messages through inbox, handler and outbox, under SIGKILL."""

from __future__ import annotations

from pathlib import Path

import pytest

from mqkit.testing.brokers.broker import Broker
from tests.faults.matrix.room import Rooms
from tests.faults.million import WORKERS, run
from tests.postgres import PostgresServer

pytestmark = [pytest.mark.in_turn, pytest.mark.long]

MESSAGES = {"bulk": 40_000, "single": 2_000}
"""So many that some processes are killed meanwhile, on a faster machine, too."""
KILL_EVERY = 2.0
"""Seconds."""


@pytest.mark.parametrize("worker", WORKERS)
@pytest.mark.timeout(300)
async def test_nothing_is_lost_and_nothing_is_done_twice(
    rabbitmq: Broker, postgres: PostgresServer, name: str, tmp_path: Path, worker: str
) -> None:
    """Every order has one posting and one event, in order, though its processes are killed."""
    report = await run(
        Rooms(rabbitmq).take().url,
        postgres.create_database(name),
        tmp_path,
        messages=MESSAGES[worker],
        kill_every=KILL_EVERY,
        worker=WORKERS[worker],
    )
    assert report.problems == []
    assert report.kills > 0
