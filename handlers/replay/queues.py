"""What the broker says of a queue and all its partitions, to whoever waits for them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from mqkit import BrokerError, Queue, Runtime, TopologyError

POLL = 0.1
"""Seconds between two looks."""


@dataclass(frozen=True, slots=True)
class QueueLook:
    """What one look found; what a consumer holds unacknowledged is in no count."""

    messages: int
    """Ready messages, in all partitions and before them."""
    consumers: int
    """Consumers, of all partitions and before them."""
    is_consumed: bool
    """Whether each one has a consumer, so that what comes is handled."""


async def look(runtime: Runtime, queue: Queue) -> QueueLook:
    """Look once; where a queue does not exist yet, it has nothing and nobody."""
    names = (queue.name, *(each.name for each in queue.partition_queues()))
    states = [await _state(runtime, name) for name in names]
    return QueueLook(
        messages=sum(messages for messages, _ in states),
        consumers=sum(consumers for _, consumers in states),
        is_consumed=all(consumers for _, consumers in states),
    )


async def dead_letters(runtime: Runtime, queue: Queue) -> int:
    """How many dead letters there are; all partitions have theirs in the one queue."""
    return (await _state(runtime, queue.dead_queue))[0]


async def _state(runtime: Runtime, name: str) -> tuple[int, int]:
    while True:
        try:
            state = await runtime.queue_state(name)
        except TopologyError:
            return 0, 0
        except BrokerError:
            await asyncio.sleep(POLL)  # the connection was lost; it comes back
        else:
            return state.messages, state.consumers
