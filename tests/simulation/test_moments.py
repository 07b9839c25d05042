"""What the simulation has found, once more: the same fault at each moment of a start or a stop."""

from __future__ import annotations

import pytest

from tests.simulation.workload.plan import Fault, Plan, Send
from tests.simulation.world import play

SLOW = (0.02, 0.03)
"""Seconds of latency: a start takes about one."""

MESSAGE = Send("m0", at=2.0, feature="plain", script="fail 1")


@pytest.mark.parametrize("driver", ["aio-pika", "pika"])
@pytest.mark.parametrize("at", [0.1 * number for number in range(1, 12)])
def test_a_connection_lost_at_any_moment_of_a_start(driver: str, at: float) -> None:
    """A service whose connections are closed while it starts runs all the same."""
    lost = Fault(at, "close connections")
    plan = Plan(1, ("plain",), sends=(MESSAGE,), faults=(lost,), latency=SLOW, driver=driver)
    assert play(plan).problems == []


@pytest.mark.parametrize("driver", ["aio-pika", "pika"])
@pytest.mark.parametrize("amount", [0.3, 0.5, 0.7, 0.9])
def test_a_stop_on_a_slow_network_leaves_nothing_open(driver: str, amount: float) -> None:
    """A service that cannot close in its time has let go of its connections soon after."""
    faults = (
        Fault(3.0, "slow", seconds=4.0, amount=amount),
        Fault(3.1, "stop service", seconds=4.0),
    )
    # Its retry opens the channels on which the service publishes.
    sends = (Send("m0", at=0.3, feature="plain", script="fail 1"),)
    plan = Plan(2, ("plain",), sends=sends, faults=faults, driver=driver)
    assert play(plan).problems == []
