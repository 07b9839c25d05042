"""Dramatiq."""

from __future__ import annotations

import logging
import os
import threading
from typing import Any

from tests.benchmarks.side_by_side.systems.base import (
    PREFETCH,
    Job,
    Meter,
    Order,
    System,
    ready,
    run_blocking,
    wait,
)
from tests.benchmarks.side_by_side.systems.pacing import blocking

# It is read when dramatiq is imported.
os.environ["dramatiq_queue_prefetch"] = str(PREFETCH)  # noqa: SIM112 - its own name

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker

PUBLISHERS = 8
WORKERS = 1
SETTINGS = (
    f"confirm_delivery=True (mandatory with it; a publish waits for its confirm), {PUBLISHERS} "
    f"publishing threads, default middleware, worker_threads={WORKERS}, dramatiq_queue_prefetch="
    f"{PREFETCH}; it has no option for quorum queues, so the argument is added in a subclass."
)


class QuorumBroker(RabbitmqBroker):  # type: ignore[misc]
    """Its queues are quorum queues."""

    def _build_queue_arguments(self, queue_name: str) -> dict[str, Any]:
        arguments: dict[str, Any] = super()._build_queue_arguments(queue_name)
        return arguments | {"x-queue-type": "quorum"}


def _actor(job: Job, meter: Meter | None) -> Any:
    broker = QuorumBroker(url=job.url, confirm_delivery=True)
    dramatiq.set_broker(broker)

    def handle(order: dict[str, Any]) -> None:
        assert meter is not None
        meter.handled(Order.model_validate(order))

    return dramatiq.actor(handle, queue_name=job.queue, broker=broker)


def publish(job: Job) -> None:
    """Send, each confirmed before the next of its thread."""
    actor = _actor(job, None)
    actor.broker.declare_queue(job.queue, ensure=True)
    blocking(job, lambda order: actor.send(order.model_dump(mode="json")), PUBLISHERS)
    actor.broker.close()


def consume(job: Job, meter: Meter, done: threading.Event) -> None:
    """Run its worker in this process."""
    logging.getLogger("dramatiq").setLevel(logging.WARNING)
    actor = _actor(job, meter)
    worker = dramatiq.Worker(actor.broker, worker_threads=WORKERS)
    worker.start()
    ready()
    wait(done)
    worker.stop()
    actor.broker.close()


if __name__ == "__main__":
    run_blocking(System(SETTINGS, ("dramatiq", "pika"), publish, consume))
