"""What a service that stops leaves behind on a real broker."""

from __future__ import annotations

import asyncio
import logging

import pytest
from pydantic import BaseModel

from mqkit import BrokerUrl, Outgoing, Queue, Retry, Runtime, Service
from mqkit.declare import declare
from mqkit.testing.broker import Broker
from tests.support import Client, connected, eventually

pytestmark = pytest.mark.usefixtures("driver")

MANY = 150


class Item(BaseModel):
    """One of many."""

    number: int


async def send(client: Client, queue: str, numbers: list[int]) -> None:
    """Publish them."""
    async for result in client.publisher.publish_many(
        Outgoing("", queue, Item(number=each)) for each in numbers
    ):
        assert result.error is None


@pytest.mark.parametrize("partitions", [None, 1])
async def test_what_is_acked_just_before_a_stop_does_not_come_again(
    rabbitmq: Broker, name: str, partitions: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    """A channel of RabbitMQ forgets acks that it has not passed on when it is closed at once."""
    caplog.set_level(logging.INFO)
    queue = Queue(f"{name}.q", partitions=partitions)
    handled: list[int] = []
    running: dict[int, asyncio.Event] = {}

    def service(*, at_once: bool) -> Service:
        made = Service(name, retry=Retry.never())

        @made.handler(
            queue, prefetch=MANY, concurrency=MANY, order_by="number" if partitions else None
        )
        async def handle(item: Item) -> None:
            if not at_once:
                running[item.number] = asyncio.Event()
                await running[item.number].wait()
            handled.append(item.number)
            if len(handled) == MANY - 1:
                running[0].set()  # only now: it keeps one ack from standing for all of them

        return made

    async def end_all() -> None:
        if partitions is None:  # its cancel makes the channel pass on what it has
            await eventually(lambda: "draining" in caplog.text)
        for number in range(1, MANY):
            running[number].set()

    url = BrokerUrl.parse(rabbitmq.url)
    async with connected(rabbitmq.url) as client:
        await declare(client.connection.channel, service(at_once=True).topology)
        await send(client, queue.name, list(range(MANY)))
        async with Runtime(service(at_once=False), url):
            await eventually(lambda: len(running) == MANY)
            ending = asyncio.create_task(end_all())
        await ending
        await send(client, queue.name, [MANY])
        async with Runtime(service(at_once=True), url):
            await eventually(lambda: MANY in handled)
    assert sorted(handled) == list(range(MANY + 1))
