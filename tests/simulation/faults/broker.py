"""What a broker does that is well, and that nobody likes."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

from pamqp import commands

from mqkit.embedded import EmbeddedServer
from mqkit.embedded.engine.queue import Queue
from mqkit.embedded.errors import ReplyError
from tests.simulation.faults.common import lasting, noted, on_broker
from tests.simulation.simulated.broker import EVENTS
from tests.simulation.workload.plan import Fault

if TYPE_CHECKING:
    from tests.simulation.world import World

PRECONDITION_FAILED = 406


def close_connections(world: World, fault: Fault) -> None:
    def close() -> None:
        assert world.broker.server is not None
        noted(world, fault)
        for each in sorted(world.broker.server.node.connections, key=lambda each: each.name):
            if each.is_open:
                each.force_close("CONNECTION_FORCED - on purpose")

    on_broker(world, close)


def close_channel(world: World, fault: Fault) -> None:
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
            noted(world, fault)
            error = ReplyError(PRECONDITION_FAILED, "PRECONDITION_FAILED - on purpose")
            channels[fault.steps % len(channels)]._fail(error, commands.Basic.Ack(1))

    on_broker(world, close)


def _queues(world: World) -> list[Queue]:
    assert world.broker.server is not None
    names = world.plan.queues
    return [each for each in world.broker.vhost.queues.values() if each.name in names]


def cancel_consumers(world: World, fault: Fault) -> None:
    def cancel() -> None:
        queues = [each for each in _queues(world) if each.consumers]
        if not queues:
            return
        noted(world, fault)
        queue = queues[fault.target % len(queues)]
        for consumer in list(queue.consumers):
            queue.remove_consumer(consumer)
            consumer.channel.consumer_gone(consumer, tell=True)

    on_broker(world, cancel)


def delete_queue(world: World, fault: Fault) -> None:
    def delete() -> None:
        queues = _queues(world)
        if not queues:
            return
        noted(world, fault)
        queue = queues[fault.target % len(queues)]
        entries = [*queue.ready, *queue.unacked, *(entry for entry, _ in queue.held)]
        names = {json.loads(entry.message.body).get("name", "") for entry in entries}
        # What is on its way to it may be dropped, too, or come back unroutable.
        names |= {
            each.name
            for each in world.plan.sends
            if queue.name.startswith(each.feature.rstrip("s"))
            and not world.history.is_over(each.name)
        }
        world.history.excused |= names
        world.broker.vhost.delete_queue(queue)

    on_broker(world, delete)


def alarm(world: World, fault: Fault) -> None:
    def block() -> None:
        assert world.broker.server is not None
        noted(world, fault)
        server = world.broker.server
        server.block("on purpose")
        lasting(world, fault, lambda: unblock(server), 3 * fault.seconds)

    def unblock(server: EmbeddedServer) -> None:
        # Of one that was killed the alarm is over, too, and nothing may be woken.
        if world.broker.server is server:
            on_broker(world, server.node.unblock)

    on_broker(world, block)


def refused(world: World, fault: Fault) -> None:
    """Let the broker refuse what transactions publish."""

    def limit(most: int | None) -> None:
        queue = world.broker.vhost.queues.get(EVENTS)
        if queue is not None:
            overflow = "drop-head" if most is None else "reject-publish"
            queue.options = replace(queue.options, max_length=most, overflow=overflow)

    noted(world, fault)
    on_broker(world, lambda: limit(0))
    lasting(world, fault, lambda: on_broker(world, lambda: limit(None)), fault.seconds)
