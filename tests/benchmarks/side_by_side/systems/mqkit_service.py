"""mqkit, on either driver."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator

from mqkit import BrokerUrl, Outgoing, Publisher, Queue, Retry, Runtime, Service, drivers
from mqkit.broker.connection import Connection
from mqkit.broker.declare import declare
from mqkit.cli.loop import tune_collector
from tests.benchmarks.side_by_side.systems.base import (
    PREFETCH,
    WINDOW,
    Job,
    Meter,
    Order,
    System,
    ready,
)
from tests.benchmarks.side_by_side.systems.pacing import paced, published

SETTINGS = (
    f"Defaults: publish_many, window {WINDOW}, mandatory; a handler of a pydantic model, "
    f"concurrency {PREFETCH}, Retry.never(); garbage collector of the consumer as of `mqkit run`."
)


def system(driver: str) -> System:
    """What is measured of mqkit on this driver."""

    async def publish(job: Job) -> None:
        connection = Connection(
            BrokerUrl.parse(job.url), name="benchmark", driver=drivers.named(driver)
        )
        await connection.open(15)
        await declare(connection.channel, _service(job, lambda _: None).topology)
        publisher = Publisher.on(connection)
        began = time.perf_counter()
        async for result in publisher.publish_many(_outgoing(job), window=WINDOW):
            if result.error is not None:
                raise result.error
        published(job, began)
        await publisher.close()
        await connection.close()

    async def consume(job: Job, meter: Meter, done: asyncio.Event) -> None:
        tune_collector()
        service = _service(job, meter.handled)
        runtime = Runtime(service, BrokerUrl.parse(job.url), driver=drivers.named(driver))
        async with runtime:
            ready()
            await done.wait()

    return System(SETTINGS, (driver,), publish, consume)


def _service(job: Job, handled: Callable[[Order], None]) -> Service:
    service = Service("benchmark", retry=Retry.never())

    @service.handler(Queue(job.queue), prefetch=PREFETCH, concurrency=PREFETCH)
    async def handle(order: Order) -> None:
        handled(order)

    return service


def _outgoing(job: Job) -> Iterator[Outgoing] | AsyncIterator[Outgoing]:
    if job.rate:
        return _when_due(job)
    return (Outgoing("", job.queue, order) for order in job.orders())


async def _when_due(job: Job) -> AsyncIterator[Outgoing]:
    async for order in paced(job):
        yield Outgoing("", job.queue, order)
