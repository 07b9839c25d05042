"""Whether a nack is free."""

from __future__ import annotations

import pytest

from mqkit.consuming.handover.leaving import nacks_are_free


@pytest.mark.parametrize(
    ("server", "free"),
    [
        ("RabbitMQ 3.13.7", False),
        ("RabbitMQ 4.0.5", False),
        ("RabbitMQ 4.2.10", False),
        ("RabbitMQ 4.3.0", True),
        ("RabbitMQ 4.10.1", True),
        ("RabbitMQ 5.0.0-beta.1", True),
        ("LavinMQ 4.3.0", False),
        ("mqkit 0.1.0", False),
        ("RabbitMQ ?", False),
        ("no broker", False),
    ],
)
def test_a_nack_counts_towards_no_limit_from_rabbitmq_4_3_on(server: str, *, free: bool) -> None:
    """Of a broker that says nothing of it, it is taken to count."""
    assert nacks_are_free(server) is free
