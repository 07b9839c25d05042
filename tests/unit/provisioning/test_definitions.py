"""Definitions that RabbitMQ imports."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from mqkit import ConfigurationError, Queue
from mqkit.provisioning.definitions import definitions
from tests.unit.provisioning.support import of


def test_definitions_have_all_that_is_declared() -> None:
    """In the words of RabbitMQ's own export."""
    found = definitions(of(Queue("q")), "shop")
    assert {each["name"] for each in found["queues"]} == {"q", "q.dead"}
    assert found["bindings"] == [
        {
            "source": "payments",
            "vhost": "shop",
            "destination": "q",
            "destination_type": "queue",
            "routing_key": "order.#",
            "arguments": {},
        }
    ]
    assert {each["vhost"] for kind in ("queues", "exchanges") for each in found[kind]} == {"shop"}


def test_what_json_cannot_say_is_refused() -> None:
    """It names the queue."""
    queue = Queue("q", arguments={"x-when": datetime(2026, 1, 1, tzinfo=UTC)})
    with pytest.raises(ConfigurationError, match="queue q"):
        definitions(of(queue), "/")
