"""Draws the priorities by which partitions are spread over processes."""

from __future__ import annotations

import random

from mqkit.registration.handler import Handler

PRIORITIES = 1_000_000
"""Each process draws its priority for each partition, below this. From RabbitMQ 4.0 the highest
consumes it, so that partitions are spread over the processes, and those of one that dies over all
the others (https://www.rabbitmq.com/docs/quorum-queues#consumer-priorities)."""


def priority_arguments(handler: Handler, queue: str) -> dict[str, int] | None:
    """Draw the priority of a consumer of a partition, where there are several to spread.

    For what one process consumes in any case, a single partition or what the router reads, it would
    only be moved from a process that has it. And RabbitMQ 4.3.6 keeps a consumer whose channel
    closes with messages while it makes room for one of a higher priority. Nobody is that consumer
    any more, and when its turn comes the queue delivers to nobody else.
    """
    if queue == handler.queue.name or not handler.queue.is_single:
        return None
    return {"x-priority": random.randrange(PRIORITIES)}
