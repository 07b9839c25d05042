"""What the replay sees of a queue with partitions."""

from __future__ import annotations

import pytest
from pydantic import BaseModel

from handlers.running.queues import QueueLook, dead_letters, look
from mqkit import BrokerUrl, Queue, Retry, Runtime, Service
from mqkit.broker.declare import declare
from mqkit.testing.brokers.broker import Broker
from tests.support import connected, delete, eventually

pytestmark = pytest.mark.in_turn(embedded=True)


class Step(BaseModel):
    """Something with a key."""

    key: int


def service_of(name: str, queue: Queue) -> Service:
    service = Service(name, retry=Retry.never())

    @service.handler(queue, order_by="key" if queue.partitions else None)
    async def step(body: Step) -> None: ...

    return service


async def test_a_look_counts_every_partition_and_the_one_dead_letter_queue(
    broker: Broker, name: str
) -> None:
    """Messages before and in the partitions are waiting; a consumer of any of them is one."""
    url = BrokerUrl.parse(broker.url)
    queue = Queue(f"{name}.q", partitions=2)
    ordered = service_of(name, queue)
    async with (
        connected(broker.url) as client,
        Runtime(service_of(f"{name}-eye", Queue(name)), url) as eye,
    ):
        assert await look(eye, queue) == QueueLook(0, 0, is_consumed=False)
        assert await dead_letters(eye, queue) == 0
        await declare(client.connection.channel, ordered.topology)
        for to in (queue.name, queue.partition(0), queue.partition(1), queue.partition(1)):
            await client.publisher.publish("", to, {"key": 1})
        await client.publisher.publish("", queue.dead_queue, {"key": 1})

        async def ready() -> bool:
            return (await look(eye, queue)).messages == 4

        await eventually(ready)
        assert await look(eye, queue) == QueueLook(4, 0, is_consumed=False)
        assert await dead_letters(eye, queue) == 1
        async with client.channel() as channel:
            await channel.qos(1)
            await channel.consume(queue.partition(1), lambda _: None, lambda: None)
            seen = await look(eye, queue)
            assert (seen.consumers, seen.is_consumed) == (1, False)
        async with Runtime(ordered, url):

            async def consumed() -> bool:
                return await look(eye, queue) == QueueLook(0, 3, is_consumed=True)

            await eventually(consumed)


async def test_a_look_at_a_queue_without_partitions_is_at_that_one(
    broker: Broker, name: str
) -> None:
    """Its consumer makes it consumed, and a queue that was deleted has none."""
    queue = Queue(name)
    async with Runtime(service_of(name, queue), BrokerUrl.parse(broker.url)) as eye:

        async def consumed() -> bool:
            return await look(eye, queue) == QueueLook(0, 1, is_consumed=True)

        await eventually(consumed)
        await delete(broker.url, queue=queue.dead_queue)
        assert await dead_letters(eye, queue) == 0
