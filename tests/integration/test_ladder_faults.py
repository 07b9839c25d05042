"""The delay ladder when what it delivers to goes away."""

from __future__ import annotations

import asyncio

from tenacity import stop_after_attempt, wait_fixed

from mqkit import BrokerError, BrokerUrl, Delivery, Queue, Retry, Runtime, Service
from mqkit.broker.delays import DelayLadder, bind
from mqkit.testing.brokers.finder import Broker
from tests.support import connected, delete, eventually


async def test_retries_go_on_after_their_queue_was_deleted(broker: Broker, name: str) -> None:
    """A queue that was deleted and declared again still gets its retries."""
    attempts: list[int] = []
    service = Service(name, retry=Retry(stop=stop_after_attempt(2), wait=wait_fixed(0.1)))

    @service.handler(Queue(f"{name}.q"))
    async def handle(body: bytes, delivery: Delivery) -> None:
        attempts.append(delivery.attempt)
        if delivery.attempt == 1:
            raise ValueError("again")

    async with connected(broker.url) as client, Runtime(service, BrokerUrl.parse(broker.url)) as r:
        await client.publisher.publish("", f"{name}.q", b"1")
        await eventually(lambda: attempts == [1, 2])
        await delete(broker.url, queue=f"{name}.q")

        async def back() -> bool:
            try:
                return (await r.queue_state(f"{name}.q")).consumers == 1
            except BrokerError:
                return False

        await eventually(back)
        await client.publisher.publish("", f"{name}.q", b"2")
        await eventually(lambda: attempts == [1, 2, 1, 2], 8)


async def test_retries_for_a_queue_that_is_gone_block_nobody(broker: Broker, name: str) -> None:
    """Retries that can reach no queue any more do not hold up those of others."""
    async with connected(broker.url) as client:
        await client.declare(f"{name}.gone")
        await client.declare(f"{name}.here")
        async with client.channel() as channel:
            await bind(channel, f"{name}.gone")
            await bind(channel, f"{name}.here")
        ladder = DelayLadder(client.connection)
        to_gone = await ladder.route(0.8, f"{name}.gone")
        to_here = await ladder.route(0.8, f"{name}.here")
        await asyncio.gather(*(client.publisher.publish(*to_gone, b"x") for _ in range(100)))
        await delete(broker.url, queue=f"{name}.gone")
        await client.publisher.publish(*to_here, b"y")
        await client.take(f"{name}.here", 8)


async def test_an_exclusive_queue_gets_its_retries(broker: Broker, name: str) -> None:
    """A queue that only the consuming connection may touch is reached by the ladder too."""
    attempts: list[int] = []
    service = Service(name, retry=Retry(stop=stop_after_attempt(2), wait=wait_fixed(0.1)))

    @service.handler(Queue(f"{name}.q", type="classic", exclusive=True))
    async def handle(body: bytes, delivery: Delivery) -> None:
        attempts.append(delivery.attempt)
        if delivery.attempt == 1:
            raise ValueError("again")

    async with connected(broker.url) as client, Runtime(service, BrokerUrl.parse(broker.url)):
        await client.publisher.publish("", f"{name}.q", b"1")
        await eventually(lambda: attempts == [1, 2], 8)
