"""pika alone, on its asyncio adapter: what a program of a hundred lines could do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pika
from pika import spec
from pika.adapters.asyncio_connection import AsyncioConnection
from pika.channel import Channel

from tests.benchmarks.side_by_side.systems.base import (
    PREFETCH,
    WINDOW,
    Job,
    Meter,
    Order,
    System,
    ready,
    run_async,
)
from tests.benchmarks.side_by_side.systems.pacing import paced, published

SETTINGS = (
    f"asyncio adapter, publisher confirms pipelined with a window of {WINDOW}, mandatory; an ack "
    "for each message."
)
PERSISTENT = pika.BasicProperties(content_type="application/json", delivery_mode=2)


class RawPikaError(Exception):
    """The broker did not take a message, or the connection."""


async def _answer(ask: Callable[[Callable[..., None]], object]) -> Any:
    answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    ask(lambda *values: answered.set_result(values[-1] if values else None))
    return await answered


@asynccontextmanager
async def channel_of(job: Job) -> AsyncIterator[Channel]:
    """A channel on which the queue is declared."""
    loop = asyncio.get_running_loop()
    opened: asyncio.Future[Any] = loop.create_future()
    closed: asyncio.Future[None] = loop.create_future()
    connection = AsyncioConnection(
        pika.URLParameters(job.url),
        opened.set_result,
        lambda _, error: opened.set_exception(RawPikaError(str(error))),
        lambda *_: closed.set_result(None),
        loop,
    )
    await opened
    channel = await _answer(lambda done: connection.channel(on_open_callback=done))
    arguments = {"x-queue-type": "quorum"}
    await _answer(
        lambda done: channel.queue_declare(
            job.queue, durable=True, arguments=arguments, callback=done
        )
    )
    yield channel
    connection.close()
    await closed


class Publishing:
    """A channel in confirm mode, and how many of its messages are not confirmed."""

    def __init__(self, channel: Channel, queue: str) -> None:
        self._channel = channel
        self._queue = queue
        self._written = 0
        self._confirmed = 0
        self._problem = ""
        self._room = asyncio.Event()
        channel.add_on_return_callback(self._on_return)

    async def open(self) -> None:
        """Enter confirm mode."""
        await _answer(lambda done: self._channel.confirm_delivery(self._on_confirm, done))

    def publish(self, order: Order) -> None:
        """Write one message."""
        self._channel.basic_publish(
            "", self._queue, order.model_dump_json().encode(), PERSISTENT, mandatory=True
        )
        self._written += 1

    async def room(self, most: int = WINDOW - 1) -> None:
        """Wait until at most so many are unconfirmed."""
        while self._written - self._confirmed > most:
            self._room.clear()
            await self._room.wait()
        if self._problem:
            raise RawPikaError(self._problem)

    def _on_confirm(self, frame: Any) -> None:
        method = frame.method
        if not isinstance(method, spec.Basic.Ack):
            self._problem = "the broker refused a message"
        self._confirmed = method.delivery_tag if method.multiple else self._confirmed + 1
        self._room.set()

    def _on_return(self, *_: Any) -> None:
        self._problem = "a message was returned"


async def publish(job: Job) -> None:
    """Publish with pipelined confirms."""
    async with channel_of(job) as channel:
        publishing = Publishing(channel, job.queue)
        await publishing.open()
        began = time.perf_counter()
        if job.rate:
            async for order in paced(job):
                await publishing.room()
                publishing.publish(order)
        else:
            for order in job.orders():
                await publishing.room()
                publishing.publish(order)
        await publishing.room(0)
        published(job, began)


@asynccontextmanager
async def consuming(job: Job, meter: Meter) -> AsyncIterator[None]:
    """Validate, count, ack."""

    def on_message(channel: Channel, method: Any, _: Any, body: bytes) -> None:
        meter.handled(Order.model_validate_json(body))
        channel.basic_ack(method.delivery_tag)

    async with channel_of(job) as channel:
        await _answer(
            lambda answered: channel.basic_qos(prefetch_count=PREFETCH, callback=answered)
        )
        await _answer(
            lambda answered: channel.basic_consume(job.queue, on_message, callback=answered)
        )
        yield


async def consume(job: Job, meter: Meter, done: asyncio.Event) -> None:
    """Consume until all are handled."""
    async with consuming(job, meter):
        ready()
        await done.wait()


if __name__ == "__main__":
    run_async(System(SETTINGS, ("pika",), publish, consume))
