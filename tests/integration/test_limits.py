"""Limits of prefetch, and of the size and depth of messages; refusals by the queue type."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from typing import Any

import pika
import pytest
from tenacity import stop_after_attempt, wait_fixed

from mqkit import (
    BlockingPublisher,
    BrokerUrl,
    Delivery,
    InvalidMessageError,
    Limits,
    Outgoing,
    Publisher,
    Queue,
    Retry,
    Runtime,
    Service,
    TopologyError,
)
from mqkit.broker.declare import declare
from mqkit.message import HeaderValue, Message, Properties
from mqkit.testing.brokers.finder import Broker
from mqkit.topology import Topology
from tests.integration.blocking_support import channel_of
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
            # A cancelled consumer keeps the message that it holds: see Subscription._adjust.
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


def nested(levels: int) -> list[Any]:
    """So many lists within each other."""
    value: list[Any] = []
    for _ in range(levels - 1):
        value = [value]
    return value


GIANTS: dict[str, Callable[[], dict[str, Any]]] = {
    "100 MB of body": lambda: {"body": b"x" * 100_000_000},
    "100 MB of JSON": lambda: {"body": "x" * 100_000_000},
    "10 MB of headers": lambda: {"body": b"", "headers": {"a": "x" * 10_000_000}},
    "a million headers": lambda: {"body": b"", "headers": {f"n{n}": n for n in range(1_000_000)}},
    "deep headers": lambda: {"body": b"", "headers": {"a": nested(50_000)}},
    "deep JSON": lambda: {"body": nested(101)},
    "deeper JSON": lambda: {"body": nested(50_000)},
}
"""What nobody should send, by its options."""


@pytest.mark.in_turn
async def test_a_giant_is_refused_and_the_connection_stays(broker: Broker, name: str) -> None:
    """None of them reaches the broker; what is published beside them does, on one connection."""
    async with connected(broker.url) as client:
        await client.declare(f"{name}.q")
        generation = client.connection.generation
        for number, make in enumerate(GIANTS.values()):
            with pytest.raises(InvalidMessageError, match=r"limit of|cannot be written as JSON"):
                await client.publisher.publish("", f"{name}.q", **make())
            await client.publisher.publish("", f"{name}.q", b"", message_id=str(number))
        many = (Outgoing("", f"{name}.q", **make()) for make in GIANTS.values())
        results = [result.error async for result in client.publisher.publish_many(many)]
        assert [type(error) for error in results] == [InvalidMessageError] * len(GIANTS)
        assert client.connection.generation == generation
        ids = [message.properties.message_id for message in await client.take_all(f"{name}.q")]
        assert ids == [str(number) for number in range(len(GIANTS))]


@pytest.mark.in_turn
def test_a_giant_is_refused_by_the_blocking_publisher_too(broker: Broker, name: str) -> None:
    """It is refused in its caller's thread, before a connection is even opened."""
    # Nobody listens there: what is not refused would end as a ConnectionLostError.
    with BlockingPublisher("amqp://guest:guest@127.0.0.1:1/", timeout=0.5) as nowhere:
        for make in GIANTS.values():
            with pytest.raises(InvalidMessageError, match=r"limit of|cannot be written as JSON"):
                nowhere.publish("", f"{name}.q", **make())
    with (
        BlockingPublisher(broker.url, limits=Limits(body=3)) as publisher,
        pytest.raises(InvalidMessageError, match="limit of 3"),
    ):
        publisher.publish("", f"{name}.q", b"1234")


async def test_the_largest_body_goes_through(broker: Broker, name: str) -> None:
    """A body and headers just within the default limits are published, handled and dead-lettered.

    So the defaults leave the room that a dead letter's own headers need.
    """
    limits, sizes = Limits(), []
    service = Service(name, retry=Retry(stop=stop_after_attempt(2), wait=wait_fixed(0)))

    @service.handler(Queue(f"{name}.q"))
    async def handle(body: bytes) -> None:
        sizes.append(len(body))
        raise LookupError("é" * 20_000)

    headers: dict[str, HeaderValue] = {"a": "x" * (limits.headers - 11)}
    async with (
        connected(broker.url) as client,
        Runtime(service, BrokerUrl.parse(broker.url)),
    ):
        body = b"x" * limits.body
        await client.publisher.publish("", f"{name}.q", body, headers=headers, message_id="m")
        dead = await client.take(f"{name}.q.dead")
    assert sizes == [limits.body] * 2
    assert len(dead.body) == limits.body
    assert dead.properties.headers["a"] == headers["a"]
    assert dead.properties.headers["mqkit-reason"] == "attempts-exhausted"


@pytest.mark.parametrize(
    ("body", "headers", "words"),
    [
        (b'"' + b"x" * 100 + b'"', {}, "its body of 102 bytes is over the limit of 100"),
        (b"{}", {"a": "x" * 300}, "its 1 headers take more than the limit of 200 bytes"),
        (b"[[[[1]]]]", {}, "its JSON is nested deeper than the limit of 3 levels"),
        (b"[" * 50 + b"]" * 50, {}, "its JSON is nested deeper than the limit of 3 levels"),
        (b"{}", {"a": nested(40)}, "its headers are nested deeper than the limit of 32 levels"),
    ],
)
async def test_what_came_over_the_limits_is_dead_lettered_whole(
    broker: Broker, name: str, body: bytes, headers: dict[str, HeaderValue], words: str
) -> None:
    """It is not decoded, not handled and not retried, and its dead letter has all of it."""
    seen: list[object] = []
    service = Service(
        name,
        retry=Retry(stop=stop_after_attempt(5), wait=wait_fixed(60)),
        limits=Limits(body=100, headers=200 if "x" in str(headers) else 300, depth=3),
    )

    @service.handler(Queue(f"{name}.q"))
    async def handle(body: object) -> None:
        seen.append(body)

    properties = Properties(content_type="application/json", headers=headers, message_id="m1")
    async with (
        connected(broker.url) as client,
        Runtime(service, BrokerUrl.parse(broker.url)),
    ):
        await client.publisher.send(Message("", f"{name}.q", body, properties))
        dead = await client.take(f"{name}.q.dead")
        await client.publisher.publish("", f"{name}.q", [[["fine"]]])
        await eventually(lambda: bool(seen))
    assert dead.body == body
    assert dead.properties.message_id == "m1"
    assert {n: v for n, v in dead.properties.headers.items() if n in headers} == headers
    assert dead.properties.headers["mqkit-reason"] == "undecodable"
    assert words in str(dead.properties.headers["mqkit-error-message"])
    assert seen == [[[["fine"]]]]


async def test_a_service_publishes_within_its_own_limits(broker: Broker, name: str) -> None:
    """The publisher that a handler is given refuses what is over its service's limits."""
    refused: list[str] = []
    service = Service(name, retry=Retry.never(), limits=Limits(body=10))

    @service.handler(Queue(f"{name}.q"))
    async def handle(body: bytes, publisher: Publisher) -> None:
        try:
            await publisher.publish("", f"{name}.q", b"x" * 11)
        except InvalidMessageError as error:
            refused.append(str(error))

    async with (
        connected(broker.url) as client,
        Runtime(service, BrokerUrl.parse(broker.url)),
    ):
        await client.publisher.publish("", f"{name}.q", b"x" * 10)
        await eventually(lambda: bool(refused))
    assert "its body of 11 bytes is over the limit of 10 (Limits.body)" in refused[0]


class RawProperties(pika.BasicProperties):  # type: ignore[misc]
    """Headers byte by byte, and the message id 'raw'."""

    def __init__(self, table: bytes) -> None:
        super().__init__()
        self.table = table

    def encode(self) -> list[bytes]:
        size = struct.pack(">I", len(self.table))
        return [struct.pack(">H", 1 << 13 | 1 << 7), size, self.table, b"\x03raw"]


def tables(levels: int) -> bytes:
    """A field table of so many within each other."""
    table = b""
    for _ in range(levels):
        table = b"\x01aF" + struct.pack(">I", len(table)) + table
    return table


@pytest.mark.parametrize(
    "table",
    [tables(500), tables(15_000)],
    ids=["deep", "deepest"],
)
async def test_headers_that_no_library_decodes_cost_only_their_message(
    rabbitmq: Broker, name: str, table: bytes
) -> None:
    """It is dead-lettered with them; the consumer's connection stays, and its neighbour runs."""
    seen: list[str | None] = []
    service = Service(name, retry=Retry.never())

    @service.handler(Queue(f"{name}.q"))
    async def handle(delivery: Delivery) -> None:
        seen.append(delivery.message_id)

    def as_an_outsider() -> None:
        with channel_of(rabbitmq.url) as channel:
            channel.confirm_delivery()
            channel.basic_publish("", f"{name}.q", b"raw body", RawProperties(table))
            channel.basic_publish("", f"{name}.q", b"", pika.BasicProperties(message_id="good"))

    async with (
        connected(rabbitmq.url) as client,
        Runtime(service, BrokerUrl.parse(rabbitmq.url)) as runtime,
    ):
        generation = runtime._consuming.generation
        await asyncio.to_thread(as_an_outsider)
        dead = await client.take(f"{name}.q.dead")
        await eventually(lambda: bool(seen))
        assert runtime._consuming.generation == generation
    assert seen == ["good"]
    assert (dead.body, dead.properties.message_id) == (b"raw body", "raw")
    assert dead.properties.headers["mqkit-reason"] == "undecodable"
    assert "headers" in str(dead.properties.headers["mqkit-error-message"])
    assert dead.properties.received is not None
    assert table in dead.properties.received
