"""Kombu."""

from __future__ import annotations

import threading
from typing import Any

from kombu import Connection, Consumer, Exchange, Producer, Queue
from kombu.mixins import ConsumerMixin

from tests.benchmarks.side_by_side.systems.base import (
    PREFETCH,
    Job,
    Meter,
    Order,
    System,
    ready,
    run_blocking,
)
from tests.benchmarks.side_by_side.systems.pacing import blocking

THREADS = 8
SETTINGS = (
    f"confirm_publish (a publish waits for its confirm), {THREADS} threads with a producer each, "
    "persistent, mandatory; a ConsumerMixin that gets raw bytes, an ack for each message."
)


def _connection(job: Job) -> Connection:
    return Connection(job.url, transport_options={"confirm_publish": True})


def _queue(job: Job) -> Queue:
    # The default exchange, to which every queue is bound by its name.
    return Queue(
        job.queue,
        Exchange(""),
        routing_key=job.queue,
        durable=True,
        queue_arguments={"x-queue-type": "quorum"},
    )


def _on_return(*_: Any) -> None:
    raise RuntimeError("a message was returned")


def publish(job: Job) -> None:
    """Publish, each confirmed before the next of its thread."""
    with _connection(job) as connection:
        _queue(job)(connection.default_channel).declare()
    mine = threading.local()

    def one(order: Order) -> None:
        if not hasattr(mine, "producer"):
            mine.producer = Producer(_connection(job).channel(), on_return=_on_return)
        mine.producer.publish(
            order.model_dump_json().encode(),
            routing_key=job.queue,
            content_type="application/data",
            content_encoding="binary",
            delivery_mode="persistent",
            mandatory=True,
        )

    blocking(job, one, THREADS)


class Worker(ConsumerMixin):  # type: ignore[misc]
    """Validates, counts, acks."""

    def __init__(self, connection: Connection, queue: Queue, meter: Meter) -> None:
        self.connection = connection
        self._queue = queue
        self._meter = meter

    def get_consumers(self, consumer: type[Consumer], channel: Any) -> list[Consumer]:
        return [consumer([self._queue], on_message=self._on_message, prefetch_count=PREFETCH)]

    def on_consume_ready(self, *_: Any, **__: Any) -> None:
        ready()

    def _on_message(self, message: Any) -> None:
        self._meter.handled(Order.model_validate_json(message.body))
        message.ack()


def consume(job: Job, meter: Meter, done: threading.Event) -> None:
    """Consume until all are handled."""
    with _connection(job) as connection:
        worker = Worker(connection, _queue(job), meter)
        for _ in worker.consume(limit=None):
            if done.is_set():
                return


if __name__ == "__main__":
    run_blocking(System(SETTINGS, ("kombu", "amqp"), publish, consume))
