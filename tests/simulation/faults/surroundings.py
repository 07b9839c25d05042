"""Faults of what a service has around it: clocks, the database, what its handlers need."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tests.simulation.faults.common import STEPS_WITHIN, again, lasting, noted, service
from tests.simulation.simulated.storage import AtCommit, lost
from tests.simulation.workload.plan import FEW, Fault

if TYPE_CHECKING:
    from tests.simulation.world import World

MOMENT = 0.05
"""Seconds between two looks whether a clock may jump."""

MOST_SKEW = 3600.0
"""Seconds that a clock is wrong at most: those of two hosts differ by as much as a store allows."""


def clock_jumps(world: World, fault: Fault) -> None:
    """Let the wall clock of a host jump; services that have an SQLite in common are on one."""
    hosts = [world.broker.host, *(each.host for each in world.services), world.publisher.host]
    host = hosts[fault.target % len(hosts)]
    services = [each for each in world.services if each.host == host]
    if services and world.disk is not None:
        services = world.services
    back = fault.amount >= 0.5

    def jump() -> None:
        if back and services and _has_what_is_due(world):
            # What a transaction publishes later is due by that clock, and so held for longer.
            world.loop.call_later(MOMENT, jump, context=world.context)
            return
        world.active -= 1
        noted(world, fault)
        for name in sorted({host, *(each.host for each in services)}):
            skew = world.clocks.skew.get(name, 0.0) + (-900 if back else 900) * fault.seconds
            world.clocks.skew[name] = max(-MOST_SKEW, min(MOST_SKEW, skew))
            world.clocks.ahead |= set() if back else {name}
        for each in services if fault.steps == 1 else ():
            # A host that comes up again, with another time.
            world.active += 1
            noted(world, replace(fault, kind="kill service"))
            each.kill(power=True)
            world.loop.call_later(1.0, again, world, each, context=world.context)

    world.active += 1
    jump()


def _has_what_is_due(world: World) -> bool:
    query = "SELECT id FROM mqkit_outbox WHERE properties LIKE '%\"$due\"%'"
    return world.disk is not None and bool(world.disk.rows(query))


def disk_full(world: World, fault: Fault) -> None:
    disk = world.disk
    assert disk is not None
    noted(world, fault)
    disk.is_full = True

    def end() -> None:
        disk.is_full = False

    lasting(world, fault, end, fault.seconds)


def database_locked(world: World, fault: Fault) -> None:
    disk = world.disk
    assert disk is not None
    noted(world, fault)
    disk.lock()
    lasting(world, fault, disk.unlock, fault.seconds)


def answer_lost(world: World, fault: Fault) -> None:
    at = AtCommit(fault.steps % FEW, is_done=True, error=lost(), then=lambda: None)
    _at_commit(world, fault, at)


def commit_fails(world: World, fault: Fault) -> None:
    at = AtCommit(fault.steps % FEW, is_done=False, error=lost(), then=lambda: None)
    _at_commit(world, fault, at)


def _at_commit(world: World, fault: Fault, at: AtCommit) -> None:
    """Let something happen at a commit, if there is one soon."""
    disk, then = world.disk, at.then
    assert disk is not None

    def happens() -> None:
        noted(world, fault)
        then()

    def over() -> None:
        if at in disk.at_commits:
            disk.at_commits.remove(at)

    at.then = happens
    disk.at_commits.append(at)
    lasting(world, fault, over, STEPS_WITHIN)


def kill_at_commit(world: World, fault: Fault) -> None:
    """Kill a service right before one of its commits, or right after it."""
    host, loop = service(world, fault), world.loop
    process = host.process
    if process is None or not process.alive:
        return

    def kill() -> None:
        # In the end of this step, in which nothing comes of the commit any more.
        world.active += 1
        loop.armed[process] = (1, die)

    def die() -> None:
        host.kill()
        loop.call_later(fault.seconds, again, world, host, context=world.context)

    is_done = fault.amount < 0.5
    _at_commit(world, fault, AtCommit(fault.steps % FEW, is_done, None, kill, process))


def dependency_down(world: World, fault: Fault) -> None:
    history = world.history
    noted(world, fault)
    history.is_down = True

    def end() -> None:
        history.is_down = False

    lasting(world, fault, end, 2 * fault.seconds)
