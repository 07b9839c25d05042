"""The faults of a schedule: how each begins and ends."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

from pamqp import commands

from mqkit.embedded.engine.queue import Queue
from mqkit.embedded.errors import ReplyError
from tests.simulation.simulated.loop import Process
from tests.simulation.workload.plan import Fault

if TYPE_CHECKING:
    from tests.simulation.hosts import PublisherHost, ServiceHost
    from tests.simulation.world import World

STEPS_WITHIN = 3.0
"""Seconds in which a process comes to the steps before its end, or dies without them."""

PRECONDITION_FAILED = 406


def begin(world: World, fault: Fault) -> None:
    """Begin a fault; it ends by itself."""
    KINDS[fault.kind](world, fault)


def _noted(world: World, fault: Fault) -> None:
    history = world.history
    history.faults[fault.kind] += 1
    for state in world.states():
        history.met[fault.kind, state] += 1
    world.loop.note(f"FAULT {fault.kind} {fault.target} {fault.seconds}")


def _lasting(world: World, fault: Fault, end: Callable[[], object], seconds: float) -> None:
    """Let a fault end after its time."""
    world.active += 1

    def over() -> None:
        world.loop.note(f"end of {fault.kind}")
        end()
        world.active -= 1

    # In the world's own context: what is done within a process ends with that.
    world.loop.call_later(seconds, over, context=world.context)


# Processes that die, or stop


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
            _noted(world, fault)
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


def _service(world: World, fault: Fault) -> ServiceHost:
    return world.services[fault.target % len(world.services)]


def _kill_service(world: World, fault: Fault) -> None:
    host = _service(world, fault)
    _after_steps(world, fault, host.process, lambda: host.kill(power=fault.amount < 0.3))


def _kill_broker(world: World, fault: Fault) -> None:
    broker = world.broker
    _after_steps(world, fault, broker.process, lambda: broker.kill(power=fault.amount < 0.3))


def _kill_publisher(world: World, fault: Fault) -> None:
    host = world.publisher
    _after_steps(world, fault, host.process, lambda: host.kill(power=fault.amount < 0.3))


def _stop_service(world: World, fault: Fault) -> None:
    host = _service(world, fault)
    if not host.is_up:
        return
    _noted(world, fault)
    world.active += 1

    async def stop() -> None:
        host.ask_to_stop()
        await host.stopped()
        world.loop.call_later(fault.seconds, again)

    def again() -> None:
        world.active -= 1
        host.start()

    world.loop.create_task(stop(), name="stop")


def _stop_broker(world: World, fault: Fault) -> None:
    if not world.broker.is_up:
        return
    _noted(world, fault)
    world.active += 1

    async def stop() -> None:
        await world.broker.stop()
        world.loop.call_later(fault.seconds, again)

    def again() -> None:
        world.active -= 1
        world.loop.create_task(world.broker.start(), name="start again")

    world.loop.create_task(stop(), name="stop the broker")


# The network


def _client(world: World, fault: Fault) -> ServiceHost | PublisherHost:
    clients: list[ServiceHost | PublisherHost] = [*world.services, world.publisher]
    return clients[fault.target % len(clients)]


def _partition(world: World, fault: Fault) -> None:
    host, broker = _client(world, fault).host, world.broker.host
    _noted(world, fault)
    world.network.disconnect(host, broker)
    _lasting(world, fault, lambda: world.network.reconnect(host, broker), 4 * fault.seconds)


def _one_way(world: World, fault: Fault) -> None:
    way = (_client(world, fault).host, world.broker.host)
    if fault.amount < 0.5:
        way = (way[1], way[0])
    _noted(world, fault)
    world.network.one_way.add(way)
    _lasting(world, fault, lambda: world.network.one_way.discard(way), 4 * fault.seconds)


def _slow(world: World, fault: Fault) -> None:
    host = _client(world, fault).host
    _noted(world, fault)
    world.network.slow[host] = fault.amount
    _lasting(world, fault, lambda: world.network.slow.pop(host, None), 2 * fault.seconds)


def _reset(world: World, fault: Fault) -> None:
    connections = world.network.of(_client(world, fault).host)
    if not connections:
        return
    _noted(world, fault)
    torn = fault.amount < 0.5
    world.network.reset(connections[fault.steps % len(connections)], torn=torn)


# What the broker does


def _on_broker(world: World, work: Callable[[], None]) -> None:
    """Let the broker do something, where it is up, and settle it."""
    broker = world.broker
    if broker.is_up and broker.server is not None and broker.server.takes_peers:
        assert broker.process is not None
        with world.loop.inside(broker.process), broker.server._change():
            work()


def _close_connections(world: World, fault: Fault) -> None:
    def close() -> None:
        assert world.broker.server is not None
        _noted(world, fault)
        for each in sorted(world.broker.server.node.connections, key=lambda each: each.name):
            if each.is_open:
                each.force_close("CONNECTION_FORCED - on purpose")

    _on_broker(world, close)


def _close_channel(world: World, fault: Fault) -> None:
    def close() -> None:
        assert world.broker.server is not None
        peers = sorted(world.broker.server.node.connections, key=lambda each: each.name)
        channels = [
            channel
            for each in peers
            if each.is_open
            for channel in each._channels  # type: ignore[attr-defined]
            if not channel.is_closing
        ]
        if channels:
            _noted(world, fault)
            error = ReplyError(PRECONDITION_FAILED, "PRECONDITION_FAILED - on purpose")
            channels[fault.steps % len(channels)]._fail(error, commands.Basic.Ack(1))

    _on_broker(world, close)


def _queues(world: World) -> list[Queue]:
    assert world.broker.server is not None
    names = world.plan.queues
    return [each for each in world.broker.vhost.queues.values() if each.name in names]


def _cancel_consumers(world: World, fault: Fault) -> None:
    def cancel() -> None:
        queues = [each for each in _queues(world) if each.consumers]
        if not queues:
            return
        _noted(world, fault)
        queue = queues[fault.target % len(queues)]
        for consumer in list(queue.consumers):
            queue.remove_consumer(consumer)
            consumer.channel.consumer_gone(consumer, tell=True)

    _on_broker(world, cancel)


def _delete_queue(world: World, fault: Fault) -> None:
    def delete() -> None:
        queues = _queues(world)
        if not queues:
            return
        _noted(world, fault)
        queue = queues[fault.target % len(queues)]
        entries = [*queue.ready, *queue.unacked, *(entry for entry, _ in queue.held)]
        names = {json.loads(entry.message.body)["name"] for entry in entries}
        # What is on its way to it may be dropped, too, or come back unroutable.
        names |= {
            each.name
            for each in world.plan.sends
            if queue.name.startswith(each.feature.rstrip("s"))
            and not world.history.is_over(each.name)
        }
        world.history.excused |= names
        world.broker.vhost.delete_queue(queue)

    _on_broker(world, delete)


def _alarm(world: World, fault: Fault) -> None:
    def block() -> None:
        assert world.broker.server is not None
        _noted(world, fault)
        server = world.broker.server
        server.block("on purpose")
        _lasting(world, fault, lambda: _on_broker(world, server.node.unblock), 3 * fault.seconds)

    _on_broker(world, block)


# Clocks


def _clock_jumps(world: World, fault: Fault) -> None:
    hosts = [world.broker.host, *(each.host for each in world.services), world.publisher.host]
    host = hosts[fault.target % len(hosts)]
    _noted(world, fault)
    jump = (1 if fault.amount < 0.5 else -1) * fault.seconds * 900
    world.clocks.skew[host] = world.clocks.skew.get(host, 0.0) + jump


# The database


def _disk_full(world: World, fault: Fault) -> None:
    disk = world.disk
    assert disk is not None
    _noted(world, fault)
    disk.is_full = True

    def end() -> None:
        disk.is_full = False

    _lasting(world, fault, end, fault.seconds)


def _database_locked(world: World, fault: Fault) -> None:
    disk = world.disk
    assert disk is not None
    _noted(world, fault)
    disk.lock()
    _lasting(world, fault, disk.unlock, fault.seconds)


def _answer_lost(world: World, fault: Fault) -> None:
    disk = world.disk
    assert disk is not None
    _noted(world, fault)
    disk.lost_answers += 1


def _dependency_down(world: World, fault: Fault) -> None:
    history = world.history
    _noted(world, fault)
    history.is_down = True

    def end() -> None:
        history.is_down = False

    _lasting(world, fault, end, 2 * fault.seconds)


KINDS: dict[str, Callable[[World, Fault], None]] = {
    "kill service": _kill_service,
    "kill broker": _kill_broker,
    "kill publisher": _kill_publisher,
    "stop service": _stop_service,
    "stop broker": _stop_broker,
    "partition": _partition,
    "one way": _one_way,
    "slow": _slow,
    "reset": _reset,
    "close connections": _close_connections,
    "close channel": _close_channel,
    "cancel consumers": _cancel_consumers,
    "delete queue": _delete_queue,
    "alarm": _alarm,
    "clock jumps": _clock_jumps,
    "disk full": _disk_full,
    "database locked": _database_locked,
    "answer lost": _answer_lost,
    "dependency down": _dependency_down,
}
