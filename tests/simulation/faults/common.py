"""What faults have in common: how they are noted, whom they are about, and how they end."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tests.simulation.workload.plan import Fault

if TYPE_CHECKING:
    from tests.simulation.hosts import PublisherHost, ServiceHost
    from tests.simulation.world import World

STEPS_WITHIN = 3.0
"""Seconds in which a process comes to the steps before its end, or dies without them."""


def noted(world: World, fault: Fault) -> None:
    history = world.history
    history.faults[fault.kind] += 1
    for state in world.states():
        history.met[fault.kind, state] += 1
    world.loop.note(f"FAULT {fault.kind} {fault.target} {fault.seconds}")


def lasting(world: World, fault: Fault, end: Callable[[], object], seconds: float) -> None:
    """Let a fault end after its time."""
    world.active += 1

    def over() -> None:
        world.loop.note(f"end of {fault.kind}")
        end()
        world.active -= 1

    # In the world's own context: what is done within a process ends with that.
    world.loop.call_later(seconds, over, context=world.context)


def again(world: World, host: ServiceHost) -> None:
    world.active -= 1
    host.start()


def service(world: World, fault: Fault) -> ServiceHost:
    return world.services[fault.target % len(world.services)]


def client(world: World, fault: Fault) -> ServiceHost | PublisherHost:
    clients: list[ServiceHost | PublisherHost] = [*world.services, world.publisher]
    return clients[fault.target % len(clients)]


def on_broker(world: World, work: Callable[[], None]) -> None:
    """Let the broker do something, where it is up, and settle it."""
    broker = world.broker
    if broker.is_up and broker.server is not None and broker.server.takes_peers:
        assert broker.process is not None
        with world.loop.inside(broker.process), broker.server._change():
            work()
