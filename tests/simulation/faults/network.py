"""Faults of the network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulation.faults.common import client, lasting, noted
from tests.simulation.workload.plan import Fault

if TYPE_CHECKING:
    from tests.simulation.world import World


def partition(world: World, fault: Fault) -> None:
    host, broker = client(world, fault).host, world.broker.host
    noted(world, fault)
    world.network.disconnect(host, broker)
    lasting(world, fault, lambda: world.network.reconnect(host, broker), 4 * fault.seconds)


def one_way(world: World, fault: Fault) -> None:
    way = (client(world, fault).host, world.broker.host)
    if fault.amount < 0.5:
        way = (way[1], way[0])
    noted(world, fault)
    world.network.one_way.add(way)
    lasting(world, fault, lambda: world.network.one_way.discard(way), 4 * fault.seconds)


def slow(world: World, fault: Fault) -> None:
    host = client(world, fault).host
    noted(world, fault)
    world.network.slow[host] = fault.amount
    lasting(world, fault, lambda: world.network.slow.pop(host, None), 2 * fault.seconds)


def reset(world: World, fault: Fault) -> None:
    connections = world.network.of(client(world, fault).host)
    if not connections:
        return
    noted(world, fault)
    torn = fault.amount < 0.5
    world.network.reset(connections[fault.steps % len(connections)], torn=torn)
