"""What a handler's prefetch lets the broker send, and refusals that depend on the queue type."""

from __future__ import annotations

import asyncio

import pytest

from mqkit import BrokerUrl, Queue, Retry, Runtime, Service, TopologyError
from mqkit.declare import declare
from mqkit.testing.brokers import Broker
from mqkit.topology import Topology
from tests.support import connected, eventually

pytestmark = pytest.mark.usefixtures("driver")


@pytest.mark.parametrize("prefetch", [1, 5])
async def test_no_more_than_the_prefetch_is_held(broker: Broker, name: str, prefetch: int) -> None:
    """The queue keeps what is over the prefetch, but for one message while the first one runs."""
    count, release = 20, asyncio.Event()
    seen: list[bytes] = []
    service = Service(name, retry=Retry.never())
    queue = Queue(f"{name}.q")

    @service.handler(queue, prefetch=prefetch)
    async def hold(body: bytes) -> None:
        seen.append(body)
        await release.wait()

    async with connected(broker.url) as client:
        await declare(client.connection.channel, Topology.of_queue(queue))
        for _ in range(count):
            await client.publisher.publish("", queue.name, b"x")

        async def held() -> int:
            return count - await client.messages(queue.name)

        async def full() -> bool:
            return await held() >= prefetch

        async with Runtime(service, BrokerUrl.parse(broker.url)):
            await eventually(full)
            await eventually(lambda: len(seen) >= prefetch)
            # A consumer that was cancelled keeps the message that it holds: see Attachment._adjust.
            assert await held() <= prefetch + (prefetch > 1)
            release.set()
            await eventually(lambda: len(seen) == count)
        assert await client.messages(queue.name) == 0


async def test_another_queue_type_is_explained(broker: Broker, name: str) -> None:
    """A classic queue where a quorum queue is declared is refused in words that name both."""
    # RabbitMQ tells of the first difference only; what it compares before the type is alike.
    alike = Queue(f"{name}.q", type="classic").declared_arguments()
    alike["x-overflow"] = "reject-publish"
    async with connected(broker.url) as client:
        async with client.channel() as channel:
            await channel.declare_queue(f"{name}.q", arguments=alike)
        with pytest.raises(TopologyError) as caught:
            await declare(client.connection.channel, Topology.of_queue(Queue(f"{name}.q")))
    assert f"queue {name}.q: x-queue-type is classic on the broker, quorum here" in str(
        caught.value
    )


async def test_an_empty_argument_is_seen_in_the_explanation(broker: Broker, name: str) -> None:
    """An argument that is empty here and not set there is told as such."""
    async with connected(broker.url) as client:
        await client.declare(f"{name}.q")
        with pytest.raises(TopologyError) as caught:
            await declare(client.connection.channel, Topology.of_queue(Queue(f"{name}.q")))
    assert "x-dead-letter-exchange is not set on the broker, '' here" in str(caught.value)
