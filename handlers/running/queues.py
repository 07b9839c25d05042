"""Asks the broker for the messages and consumers of a queue with all its partitions."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from mqkit import BrokerError, Queue, Runtime, TopologyError

POLL = 0.1
"""Seconds between two looks."""


@dataclass(frozen=True, slots=True)
class QueueLook:
    """A queue's counts at one moment; what a consumer holds unacknowledged is in none."""

    messages: int
    """Ready messages, in all partitions and before them."""
    consumers: int
    """Consumers, of all partitions and before them."""
    is_consumed: bool
    """Whether each one has a consumer, so that what comes is handled."""


async def look(runtime: Runtime, queue: Queue) -> QueueLook:
    """Ask for a queue's counts; one that does not exist has no messages and no consumers."""
    names = [each.name for each in queue.with_partitions()]
    states = [await _state(runtime, name) for name in names]
    return QueueLook(
        messages=sum(messages for messages, _ in states),
        consumers=sum(consumers for _, consumers in states),
        is_consumed=all(consumers for _, consumers in states),
    )


async def dead_letters(runtime: Runtime, queue: Queue) -> int:
    """Count the dead letters; all partitions have theirs in the one queue."""
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
