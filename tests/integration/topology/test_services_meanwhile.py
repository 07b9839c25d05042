"""What services do to a queue that is being moved, and to one that is not as they want it."""

from __future__ import annotations

import pytest

from mqkit import Queue, Runtime, UnroutableError
from mqkit.broker.delays import bound_channel
from mqkit.errors import TopologyError
from mqkit.provisioning.moving.scaffold import Bound, Scaffold
from mqkit.settings import BrokerUrl
from mqkit.testing.brokers.broker import Broker
from tests.integration.topology.support import applied, payments, service
from tests.support import connected


async def test_a_service_that_starts_leaves_a_queue_alone_that_is_moved(
    mqkit_embedded: Broker, name: str
) -> None:
    """What is published is held once, and not in the queue besides."""
    made, queue = service(Queue(name)), Queue(name)
    assert await applied(mqkit_embedded.url, made) == []
    async with connected(mqkit_embedded.url) as client:
        opened = client.connection.channel
        channel = await bound_channel(opened, ())
        scaffold = Scaffold(queue, [Bound("payments", "order.#")], opened)
        await scaffold.put_up()
        await scaffold.divert(channel)
        async with Runtime(made, BrokerUrl.parse(mqkit_embedded.url)):
            await client.publisher.publish(payments, "order.x", {"key": "a"})
        assert await client.messages(name) == 0
        assert await client.messages(scaffold.names.held) == 1
        await client.take(scaffold.names.held)
        await scaffold.close_detour(channel)
        await scaffold.take_down(channel)
        async with Runtime(made, BrokerUrl.parse(mqkit_embedded.url)):
            await client.publisher.publish(payments, "order.x", {"key": "a"})


async def test_a_queue_that_is_otherwise_is_not_bound(mqkit_vhost: str, name: str) -> None:
    """A service that cannot start lets nothing come to it."""
    made = service(Queue(name, delivery_limit=5))
    async with connected(mqkit_vhost) as client, client.channel() as channel:
        await channel.declare_exchange("payments", "topic")
        await client.declare(name)
        with pytest.raises(TopologyError, match="on the broker"):
            async with Runtime(made, BrokerUrl.parse(mqkit_vhost)):
                pass
        with pytest.raises(UnroutableError):
            await client.publisher.publish(payments, f"order.{name}", b"1")


async def test_a_name_that_is_too_long_for_a_suffix_is_moved(mqkit_embedded: Broker) -> None:
    """What stands beside it has a name of its digest."""
    name = "é" * 90 + "end"
    assert await applied(mqkit_embedded.url, service(Queue(name, type="classic"))) == []
    assert await applied(mqkit_embedded.url, service(Queue(name))) == []
