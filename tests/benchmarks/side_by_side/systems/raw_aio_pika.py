"""aio-pika alone."""

from __future__ import annotations

import asyncio

import aio_pika
from aio_pika.abc import AbstractIncomingMessage
from pamqp.common import FieldTable

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
    f"connect() (not robust), {WINDOW} publishes at a time with publisher confirms, mandatory and "
    "on_return_raises; an ack for each message."
)
ARGUMENTS: FieldTable = {"x-queue-type": "quorum"}


async def publish(job: Job) -> None:
    """Publish with pipelined confirms."""
    async with await aio_pika.connect(job.url) as connection:
        channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
        await channel.declare_queue(job.queue, durable=True, arguments=ARGUMENTS)
        exchange = channel.default_exchange

        async def one(order: Order) -> None:
            message = aio_pika.Message(
                order.model_dump_json().encode(),
                content_type="application/json",
                delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
            )
            await exchange.publish(message, job.queue, mandatory=True)

        await pipelined(job, one, WINDOW)


async def consume(job: Job, meter: Meter, done: asyncio.Event) -> None:
    """Validate, count, ack."""

    async def on_message(message: AbstractIncomingMessage) -> None:
        meter.handled(Order.model_validate_json(message.body))
        await message.ack()

    async with await aio_pika.connect(job.url) as connection:
        channel = await connection.channel()
        await channel.set_qos(PREFETCH)
        queue = await channel.declare_queue(job.queue, durable=True, arguments=ARGUMENTS)
        tag = await queue.consume(on_message)
        ready()
        await done.wait()
        await queue.cancel(tag)


if __name__ == "__main__":
    run_async(System(SETTINGS, ("aio-pika", "aiormq"), publish, consume, loop="asyncio"))
