"""The faults of a plan, done to real processes, to the proxies before them, and to a broker."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from mqkit.testing.proxy import Direction
from tests.simulation.history import PENDING, UNKNOWN
from tests.simulation.workload.plan import FEW, TWINS, Fault

if TYPE_CHECKING:
    from tests.simulation.real.host import Host
    from tests.simulation.real.schedule import Schedule

STEP = 0.001
"""Seconds that one step of a process is taken for, before it is killed."""


def _noted(schedule: Schedule, fault: Fault) -> None:
    schedule.history.faults[fault.kind] += 1


def _service(schedule: Schedule, fault: Fault) -> Host:
    return schedule.services[fault.target % len(schedule.services)]


def _client(schedule: Schedule, fault: Fault) -> Host:
    return schedule.hosts[fault.target % len(schedule.hosts)]


async def _kill(schedule: Schedule, fault: Fault, host: Host) -> None:
    await asyncio.sleep(fault.steps * STEP)
    if not host.is_up:
        return
    _noted(schedule, fault)
    host.is_wanted = False
    host.kill()
    await asyncio.sleep(fault.seconds)
    host.start()


async def _kill_service(schedule: Schedule, fault: Fault) -> None:
    await _kill(schedule, fault, _service(schedule, fault))


async def _kill_publisher(schedule: Schedule, fault: Fault) -> None:
    host, published = schedule.publisher, schedule.history.published
    await asyncio.sleep(fault.steps * STEP)
    if not host.is_up:
        return
    _noted(schedule, fault)
    host.is_wanted = False
    host.kill()
    for name, how in published.items():
        published[name] = UNKNOWN if how == PENDING else how
    await asyncio.sleep(fault.seconds)
    schedule.is_published = False
    host.start()


async def _kill_broker(schedule: Schedule, fault: Fault) -> None:
    await asyncio.sleep(fault.steps * STEP)
    _noted(schedule, fault)
    for host in schedule.hosts:
        host.proxy.refuse_connections()
        host.proxy.cut(reset=True)
    await asyncio.sleep(fault.seconds)
    for host in schedule.hosts:
        host.proxy.accept_connections()


async def _stop_service(schedule: Schedule, fault: Fault) -> None:
    host = _service(schedule, fault)
    if host.is_up and host.is_wanted:
        _noted(schedule, fault)
        await host.stop()
        await asyncio.sleep(fault.seconds)
        host.start()


async def _stall(schedule: Schedule, fault: Fault, direction: Direction, seconds: float) -> None:
    proxy = _client(schedule, fault).proxy
    _noted(schedule, fault)
    proxy.stall(direction)
    await asyncio.sleep(seconds)
    proxy.resume(direction)


async def _partition(schedule: Schedule, fault: Fault) -> None:
    await _stall(schedule, fault, "both", 4 * fault.seconds)


async def _one_way(schedule: Schedule, fault: Fault) -> None:
    direction: Direction = "to_client" if fault.amount < 0.5 else "to_broker"
    await _stall(schedule, fault, direction, 4 * fault.seconds)


async def _slow(schedule: Schedule, fault: Fault) -> None:
    proxy = _client(schedule, fault).proxy
    _noted(schedule, fault)
    proxy.delay(fault.amount)
    await asyncio.sleep(2 * fault.seconds)
    proxy.delay(0)


async def _reset(schedule: Schedule, fault: Fault) -> None:
    proxy = _client(schedule, fault).proxy
    _noted(schedule, fault)
    if fault.amount < 0.5:  # in the middle of what is sent next
        proxy.cut_after("both", count=fault.steps, reset=True)
    else:
        proxy.cut(reset=True)


async def _close_connections(schedule: Schedule, fault: Fault) -> None:
    _noted(schedule, fault)
    await schedule.vhost.close_connections()


async def _close_channel(schedule: Schedule, fault: Fault) -> None:
    _noted(schedule, fault)
    _service(schedule, fault).tell("channel", fault.steps)


async def _delete_queue(schedule: Schedule, fault: Fault) -> None:
    queues = [each for each in await schedule.vhost.names() if each in schedule.plan.queues]
    if not queues:
        return
    _noted(schedule, fault)
    queue, history = queues[fault.target % len(queues)], schedule.history
    feature = queue.partition(".")[0]
    feature = "saga" if feature.startswith("saga") else feature
    feature = "twins" if queue in TWINS else feature
    # What is in it, and what is on its way to it: nobody can see that from outside.
    history.excused |= {each.name for each in schedule.plan.sends if each.feature == feature}
    await schedule.vhost.delete_queue(queue)


async def _clock_jumps(schedule: Schedule, fault: Fault) -> None:
    host = _client(schedule, fault)
    _noted(schedule, fault)
    jump = (1 if fault.amount < 0.5 else -1) * fault.seconds * 900
    host.skew += jump
    host.tell("skew", jump)


async def _disk_full(schedule: Schedule, fault: Fault) -> None:
    _noted(schedule, fault)
    for each in schedule.services:
        each.tell("full", True)
    await asyncio.sleep(fault.seconds)
    for each in schedule.services:
        each.tell("full", False)


async def _database_locked(schedule: Schedule, fault: Fault) -> None:
    assert schedule.disk is not None
    _noted(schedule, fault)
    schedule.disk.lock()
    await asyncio.sleep(fault.seconds)
    schedule.disk.unlock()


async def _answer_lost(schedule: Schedule, fault: Fault) -> None:
    _noted(schedule, fault)
    _service(schedule, fault).tell("commit", (fault.steps % FEW, True, False))


async def _commit_fails(schedule: Schedule, fault: Fault) -> None:
    _noted(schedule, fault)
    _service(schedule, fault).tell("commit", (fault.steps % FEW, False, False))


async def _kill_at_commit(schedule: Schedule, fault: Fault) -> None:
    _noted(schedule, fault)
    is_done = fault.amount < 0.5
    _service(schedule, fault).tell("commit", (fault.steps % FEW, is_done, True))


async def _dependency_down(schedule: Schedule, fault: Fault) -> None:
    _noted(schedule, fault)
    schedule.history.is_down = True
    for each in schedule.services:
        each.tell("down", True)
    await asyncio.sleep(2 * fault.seconds)
    schedule.history.is_down = False
    for each in schedule.services:
        each.tell("down", False)


KINDS: dict[str, Callable[[Schedule, Fault], Awaitable[None]]] = {
    "kill service": _kill_service,
    "kill broker": _kill_broker,
    "kill publisher": _kill_publisher,
    "stop service": _stop_service,
    "partition": _partition,
    "one way": _one_way,
    "slow": _slow,
    "reset": _reset,
    "close connections": _close_connections,
    "close channel": _close_channel,
    "delete queue": _delete_queue,
    "clock jumps": _clock_jumps,
    "disk full": _disk_full,
    "database locked": _database_locked,
    "answer lost": _answer_lost,
    "commit fails": _commit_fails,
    "kill at commit": _kill_at_commit,
    "dependency down": _dependency_down,
}
"""How each kind is played; what is not here cannot be had on a broker that others use.

Of a broker that is killed a client sees that its connections are reset, and new ones refused.
"""
