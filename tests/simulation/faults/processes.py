"""Faults of processes: they die, or stop."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tests.simulation.faults.common import STEPS_WITHIN, noted, service
from tests.simulation.simulated.loop import Process
from tests.simulation.workload.plan import Fault

if TYPE_CHECKING:
    from tests.simulation.world import World


def _after_steps(
    world: World, fault: Fault, process: Process | None, kill: Callable[[], None]
) -> None:
    """Kill a process after some more of its steps, or soon, where it does not come to them."""
    if process is None or not process.alive:
        return
    world.active += 1
    loop = world.loop

    def go() -> None:
        late.cancel()
        loop.armed.pop(process, None)
        if process.alive:
            noted(world, fault)
            kill()
        loop.call_later(fault.seconds, again)

    def again() -> None:
        world.active -= 1
        world.loop.create_task(world.start_again(process.host), name="start again")

    late = loop.call_later(STEPS_WITHIN, go)
    if process in loop.armed:
        go()
    else:
        loop.armed[process] = (fault.steps, go)


def kill_service(world: World, fault: Fault) -> None:
    host = service(world, fault)
    _after_steps(world, fault, host.process, lambda: host.kill(power=fault.amount < 0.3))


def kill_broker(world: World, fault: Fault) -> None:
    broker = world.broker
    _after_steps(world, fault, broker.process, lambda: broker.kill(power=fault.amount < 0.3))


def kill_publisher(world: World, fault: Fault) -> None:
    host = world.publisher
    _after_steps(world, fault, host.process, lambda: host.kill(power=fault.amount < 0.3))


def stop_service(world: World, fault: Fault) -> None:
    host, loop = service(world, fault), world.loop
    process = host.process
    if process is None or not host.is_up:
        return
    world.active += 1

    def go() -> None:
        late.cancel()
        loop.armed.pop(process, None)
        world.context.copy().run(loop.create_task, stop(), name="stop")

    async def stop() -> None:
        if host.is_up:
            noted(world, fault)
            host.ask_to_stop()
            await host.stopped()
        loop.call_later(fault.seconds, again)

    def again() -> None:
        world.active -= 1
        host.start()

    late = loop.call_later(STEPS_WITHIN, go)
    if process in loop.armed:
        go()
    else:
        # After some of its steps: what it is at then is what the stop meets.
        loop.armed[process] = (fault.steps, go)


def stop_broker(world: World, fault: Fault) -> None:
    if not world.broker.is_up:
        return
    noted(world, fault)
    world.active += 1

    async def stop() -> None:
        await world.broker.stop()
        world.loop.call_later(fault.seconds, again)

    def again() -> None:
        world.active -= 1
        world.loop.create_task(world.broker.start(), name="start again")

    world.loop.create_task(stop(), name="stop the broker")
