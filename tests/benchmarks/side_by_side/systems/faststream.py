"""FastStream."""

from __future__ import annotations

import asyncio

from faststream import AckPolicy
from faststream.rabbit import Channel, QueueType, RabbitBroker, RabbitQueue

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
    f"{WINDOW} publishes at a time, persist=True, mandatory, publisher confirms, "
    "on_return_raises=True; AckPolicy.REJECT_ON_ERROR (the default), logger=None."
)


def broker_of(job: Job) -> RabbitBroker:
    channel = Channel(prefetch_count=PREFETCH, publisher_confirms=True, on_return_raises=True)
    # Its access log writes two lines for each message.
    return RabbitBroker(job.url, default_channel=channel, logger=None)


def queue_of(job: Job) -> RabbitQueue:
    return RabbitQueue(job.queue, queue_type=QueueType.QUORUM, durable=True)


async def publish(job: Job) -> None:
    """Publish with pipelined confirms."""
    async with broker_of(job) as broker:
        await broker.declare_queue(queue_of(job))

        async def one(order: Order) -> None:
            await broker.publish(order, queue=job.queue, persist=True, mandatory=True)

        await pipelined(job, one, WINDOW)


async def consume(job: Job, meter: Meter, done: asyncio.Event) -> None:
    """Count what is validated by the annotation."""
    broker = broker_of(job)

    async def handle(order: Order) -> None:
        meter.handled(order)

    broker.subscriber(queue_of(job), ack_policy=AckPolicy.REJECT_ON_ERROR)(handle)
    async with broker:
        await broker.start()
        ready()
        await done.wait()


if __name__ == "__main__":
    run_async(System(SETTINGS, ("faststream", "aio-pika"), publish, consume))
