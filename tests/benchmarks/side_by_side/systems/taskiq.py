"""Taskiq, on its aio-pika broker."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from taskiq.acks import AcknowledgeType
from taskiq.receiver import Receiver
from taskiq_aio_pika import AioPikaBroker, Exchange, Queue, QueueType

from tests.benchmarks.side_by_side.systems.base import (
    PREFETCH,
    Job,
    Meter,
    Order,
    System,
    ready,
    run_async,
)
from tests.benchmarks.side_by_side.systems.pacing import pipelined

WINDOW = 100
"""Publishes at a time: more cost it more processor time for each."""

SETTINGS = (
    f"{WINDOW} kiq() at a time (aio-pika's confirms; mandatory, which it does not look at), "
    f"quorum task queue, qos={PREFETCH}, max_async_tasks={PREFETCH}, ack when executed."
)


def _broker(job: Job) -> AioPikaBroker:
    # A queue for each exchange: a run must not get the messages of another one.
    broker = AioPikaBroker(
        job.url,
        qos=PREFETCH,
        exchange=Exchange(name=f"{job.queue}.exchange"),
        dead_letter_queue=Queue(name=f"{job.queue}.dead", type=QueueType.QUORUM),
    )
    return broker.with_queues(Queue(name=job.queue, type=QueueType.QUORUM))


def _task(broker: AioPikaBroker, meter: Meter | None) -> Any:
    async def handle(order: Order) -> None:
        assert meter is not None
        meter.handled(order)

    return broker.register_task(handle, task_name="handle")


async def publish(job: Job) -> None:
    """Kick with pipelined confirms."""
    broker = _broker(job)
    task = _task(broker, None)
    await broker.startup()
    await pipelined(job, task.kiq, WINDOW)
    await broker.shutdown()


async def consume(job: Job, meter: Meter, done: asyncio.Event) -> None:
    """Run its receiver in this process."""
    logging.getLogger("taskiq").setLevel(logging.ERROR)
    broker = _broker(job)
    broker.is_worker_process = True
    _task(broker, meter)
    await broker.startup()
    receiver = Receiver(
        broker,
        max_async_tasks=PREFETCH,
        max_prefetch=PREFETCH,
        ack_type=AcknowledgeType.WHEN_EXECUTED,
        run_startup=False,
    )
    stop = asyncio.Event()
    listening = asyncio.create_task(receiver.listen(stop))
    ready()
    await done.wait()
    stop.set()
    await listening
    await broker.shutdown()


if __name__ == "__main__":
    run_async(System(SETTINGS, ("taskiq", "taskiq-aio-pika", "aio-pika"), publish, consume))
