"""Deliveries that a client has not settled yet, and what acks, nacks and rejects do with them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from mqkit.embedded.engine.message import Entry
from mqkit.embedded.engine.queue import Consumer, Queue


@dataclass(frozen=True, slots=True)
class Unacked:
    """One delivery that is not settled; `consumer` is None where it came of `basic.get`."""

    queue: Queue
    entry: Entry
    consumer: Consumer | None


Settle = Callable[[list[Unacked]], None]
"""What an ack, nack or reject does with deliveries that were taken out of the channel."""


def free_prefetch(taken: Iterable[Unacked]) -> list[Unacked]:
    """Count deliveries no longer towards their consumers' prefetch; returns them."""
    settled = list(taken)
    for each in settled:
        if each.consumer is not None:
            each.consumer.unacked -= 1
    return settled


def acknowledge(settled: list[Unacked]) -> None:
    """Drop messages that were handled, and let their queues deliver more."""
    for each in settled:
        if each.entry in each.queue.unacked:
            each.queue.acknowledge(each.entry)
    for queue in {each.queue for each in settled}:
        queue.serve()


def reject(settled: list[Unacked]) -> None:
    """Dead-letter messages that are not wanted, and let their queues deliver more."""
    for each in settled:
        if each.entry in each.queue.unacked:
            each.queue.reject(each.entry)
    for queue in {each.queue for each in settled}:
        queue.serve()


def requeue(settled: Iterable[Unacked]) -> None:
    """Give messages back to their queues; it counts towards a delivery limit."""
    _requeue(settled, counts=True)


def requeue_uncounted(settled: Iterable[Unacked]) -> None:
    """Give messages back to their queues; it does not count towards a delivery limit."""
    _requeue(settled, counts=False)


def _requeue(settled: Iterable[Unacked], *, counts: bool) -> None:
    """Give messages back, each queue's together, oldest first."""
    by_queue: dict[Queue, list[Entry]] = {}
    for each in settled:
        by_queue.setdefault(each.queue, []).append(each.entry)
    for queue, entries in by_queue.items():
        queue.requeue([entry for entry in entries if entry in queue.unacked], counts=counts)
