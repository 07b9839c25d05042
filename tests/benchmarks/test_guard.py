"""The guard against becoming slower, in a short form: see `guard`."""

from __future__ import annotations

import time
from typing import Any

import pytest

from mqkit.middleware import CallNext, HandlerCall
from mqkit.testing.brokers.broker import Broker
from tests.benchmarks import guard
from tests.benchmarks.side_by_side.room import Room

pytestmark = [pytest.mark.in_turn, pytest.mark.long]

BURDEN = 40e-6
"""Seconds of processor time that are added to each message: more than the whole of its way takes,
so that it becomes more than twice as long."""


async def burden(call: HandlerCall, call_next: CallNext) -> Any:
    """Something that makes the way of every message longer."""
    until = time.thread_time() + BURDEN
    while time.thread_time() < until:
        pass
    return await call_next(call)


async def test_mqkit_keeps_its_share_of_raw_pikas_speed(rabbitmq: Broker) -> None:
    """For a message mqkit takes no more processor time than its thresholds say, by raw pika's."""
    shares = await guard.compare(
        Room(rabbitmq, rabbitmq.url), guard.SHORT_ROUNDS, guard.SHORT_MESSAGES
    )
    assert shares.problems() == []


async def test_the_guard_sees_a_longer_way(rabbitmq: Broker) -> None:
    """A handler's way that became twice as long is below the threshold, and publishing is not."""
    shares = await guard.compare(
        Room(rabbitmq, rabbitmq.url), guard.SHORT_ROUNDS, guard.SHORT_MESSAGES, [burden]
    )
    (problem,) = shares.problems()
    assert problem.startswith("handled:")


@pytest.mark.parametrize(
    ("shares", "below"),
    [
        (guard.Shares(1.0, 1.0), []),
        (guard.Shares(guard.PUBLISHED_SHARE - 0.01, 1.0), ["published"]),
        (guard.Shares(1.0, guard.HANDLED_SHARE - 0.01), ["handled"]),
    ],
)
def test_each_share_has_its_threshold(shares: guard.Shares, below: list[str]) -> None:
    """Exactly what is below its threshold is told."""
    assert [problem.partition(":")[0] for problem in shares.problems()] == below
