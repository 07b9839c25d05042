"""The faults of a schedule: how each begins and ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tests.simulation.loop import Process
from tests.simulation.plan import Fault

if TYPE_CHECKING:
    from tests.simulation.world import World


def begin(world: World, fault: Fault) -> None:
    """Begin a fault; it ends by itself."""
    KINDS[fault.kind](world, fault)


def _noted(world: World, fault: Fault) -> None:
    world.history.faults[fault.kind] += 1
    world.loop.note(f"FAULT {fault.kind}")


def _after_steps(
    world: World, fault: Fault, process: Process | None, kill: Callable[[], None]
) -> None:
    """Kill a process after some more of its steps, or soon, where it does not come to them."""
    if process is None or not process.alive:
        return
    world.active += 1
    loop = world.loop
    late = loop.call_later(3.0, lambda: go())

    def go() -> None:
        late.cancel()
        loop.armed.pop(process, None)
        if process.alive:
            _noted(world, fault)
            kill()
        loop.call_later(fault.seconds, again)

    def again() -> None:
        world.active -= 1
        world.loop.create_task(_start_again(world, process.host), name="start again")

    if process in loop.armed:
        go()
    else:
        loop.armed[process] = (fault.steps, go)


async def _start_again(world: World, host: str) -> None:
    if host == world.publisher.host:
        world.publisher.start()
    elif host == world.broker.process.host if world.broker.process else False:
        await world.broker.start()
    for each in world.services:
        if each.host == host:
            each.start()


def _kill_service(world: World, fault: Fault) -> None:
    host = world.services[fault.target % len(world.services)]
    _after_steps(world, fault, host.process, lambda: host.kill(power=fault.amount < 0.3))


def _kill_broker(world: World, fault: Fault) -> None:
    broker = world.broker
    _after_steps(world, fault, broker.process, lambda: broker.kill(power=fault.amount < 0.3))


def _kill_publisher(world: World, fault: Fault) -> None:
    host = world.publisher
    _after_steps(world, fault, host.process, lambda: host.kill(power=fault.amount < 0.3))


KINDS: dict[str, Callable[[World, Fault], None]] = {
    "kill service": _kill_service,
    "kill broker": _kill_broker,
    "kill publisher": _kill_publisher,
}
