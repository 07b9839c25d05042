"""When a service is ready, and what it says when it is not."""

from __future__ import annotations

import pytest

from mqkit.middleware import ConnectionReading, ServiceReading, StoreReading
from mqkit.observability.health import problems_of
from mqkit.pause import Status
from tests.unit.observability.readings import consumer, reading

DOWN = ConnectionReading("publish", is_up=False, opened=1, blocked_seconds=0.0)


@pytest.mark.parametrize(
    "said",
    [reading(), reading(has_store=True, store=StoreReading()), reading(connections=())],
    ids=["no store", "a store", "a connection of the application's"],
)
def test_a_service_that_consumes_is_ready(said: ServiceReading) -> None:
    """Nothing is said against it"""
    assert problems_of(said) == ()


@pytest.mark.parametrize(
    ("said", "problems"),
    [
        (None, ("starting: it has not connected and declared yet",)),
        (
            reading(is_started=False, connections=(DOWN,)),
            (
                "starting: it has not connected and declared yet",
                "connection publish: not connected to the broker",
            ),
        ),
        (reading(is_stopping=True), ("stopping: it takes no more messages",)),
        (reading(connections=(DOWN,)), ("connection publish: not connected to the broker",)),
        (
            reading(
                consumer(consumed="q.0"),
                consumer(Status.PAUSED, "GatewayDownError 5 times", consumed="q.1"),
                consumer(Status.DETACHED, consumed="q.2"),
            ),
            ("queue q.1: paused: GatewayDownError 5 times", "queue q.2: detached"),
        ),
        (
            reading(consumer(because="exchange payments is not there")),
            ("queue q: not bound: exchange payments is not there",),
        ),
        (reading(has_store=True, store=None), ("store: it does not answer",)),
    ],
    ids=["none", "starting", "stopping", "connection", "queues", "unbound", "store"],
)
def test_a_service_that_is_not_ready_says_which_part_is_not(
    said: ServiceReading | None, problems: tuple[str, ...]
) -> None:
    """Each connection, queue and store by its name"""
    assert problems_of(said) == problems
