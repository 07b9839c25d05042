"""A network that swallows everything is noticed on each driver, and one that is slow is borne."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import pytest

from mqkit import BrokerUrl, Delivery, Queue, Retry, Runtime, Service
from mqkit.drivers import named
from mqkit.drivers.base import DriverChannel, DriverConnection, Incoming
from mqkit.drivers.heartbeat import SILENT
from mqkit.message import Message
from mqkit.testing.brokers.broker import Broker
from mqkit.testing.proxy.proxy import Direction, TcpProxy
from tests.support import connected, eventually

pytestmark = pytest.mark.usefixtures("driver")

HEARTBEAT = 1

IN_TIME = 8 * HEARTBEAT
"""Seconds; two and a half or three heartbeats, and much for a machine that is busy."""

FLOOD = 40
"""Messages of 1 MB, more than the buffers of the sockets between here and a broker hold."""


@contextlib.asynccontextmanager
async def opened(proxy: TcpProxy, heartbeat: int = HEARTBEAT) -> AsyncIterator[DriverConnection]:
    """A connection through the proxy."""
    url = BrokerUrl.parse(f"{proxy.url}?heartbeat={heartbeat}")
    connection = await named().connect(url, url.hosts[0], name="test", on_blocked=lambda _: None)
    try:
        yield connection
    finally:
        proxy.heal()
        proxy.cut()
        await connection.close()


async def consume(channel: DriverChannel, queue: str) -> list[Incoming]:
    """Start a consumer; what comes is acked and in the list."""
    got: list[Incoming] = []

    def take(incoming: Incoming) -> None:
        got.append(incoming)
        channel.ack(incoming.tag)

    await channel.declare_queue(queue, durable=False, exclusive=True)
    await channel.consume(queue, take, lambda: None)
    return got


async def publish_on(channel: DriverChannel, queue: str) -> None:
    """Publish until the channel is closed, faster than heartbeats are sent."""
    while channel.is_open:
        channel.publish(Message("", queue, b"x", mandatory=False))
        await asyncio.sleep(HEARTBEAT / 10)


async def notices(url: str, queue: str, direction: Direction, publishes: bool) -> None:
    """One connection, on which nothing goes through that way any more."""
    with TcpProxy(url) as proxy:
        async with opened(proxy) as connection:
            got = await consume(await connection.channel(), queue)
            channel = await connection.channel()
            publishing = asyncio.create_task(publish_on(channel, queue))
            await eventually(lambda: len(got) >= 10)
            if not publishes:
                publishing.cancel()
                await asyncio.wait([publishing])
            proxy.stall(direction)
            why = await asyncio.wait_for(asyncio.shield(connection.closed), IN_TIME)
            # What the broker itself notices, it tells by ending the stream.
            assert (why.text == SILENT) == (direction != "to_broker")
            assert channel.closed.result() == why
            await asyncio.wait([publishing])


async def test_a_black_hole_is_noticed(broker: Broker, name: str) -> None:
    """Whichever way nothing goes through, the connection is closed within some heartbeats."""
    directions: tuple[Direction, ...] = ("to_broker", "to_client", "both")
    await asyncio.gather(
        *(
            notices(broker.url, f"{name}.{direction}.{publishes}", direction, publishes)
            for direction in directions
            for publishes in (False, True)
        )
    )


async def test_the_end_of_the_stream_is_noticed_though_much_is_unwritten(
    broker: Broker, name: str
) -> None:
    """Where the broker ends what it cannot hear, a full socket does not keep it from being seen."""
    with TcpProxy(broker.url) as proxy:
        async with opened(proxy, heartbeat=2) as connection:
            channel = await connection.channel()
            proxy.stall("to_broker")
            for _ in range(FLOOD):
                channel.publish(Message("", name, b"x" * 1_000_000, mandatory=False))
            why = await asyncio.wait_for(asyncio.shield(connection.closed), 20)
            assert why.text != SILENT  # which would come some seconds later


async def test_a_frame_that_takes_long_is_no_silence(broker: Broker, name: str) -> None:
    """Bit by bit, a message comes in whole, though no whole frame comes for long."""
    body = bytes(8000)
    with TcpProxy(broker.url) as proxy:
        async with opened(proxy) as connection:
            got = await consume(await connection.channel(), name)
            # Up to 800 octets in a second, and on a busy machine still more than must come.
            proxy.split(40, "to_client")
            proxy.delay(0.05, "to_client")
            (await connection.channel()).publish(Message("", name, body, mandatory=False))
            began = time.monotonic()
            while not got:
                done, _ = await asyncio.wait([connection.closed], timeout=0.1)
                assert not done, done.pop().result()
                assert time.monotonic() - began < 60
            assert time.monotonic() - began > 7 * HEARTBEAT
            assert got[0].body == body


async def test_a_slow_network_is_no_silence(broker: Broker, name: str) -> None:
    """With half a heartbeat of delay before whatever passes, it all passes, on one connection."""
    with TcpProxy(broker.url) as proxy:
        async with opened(proxy) as connection:
            got = await consume(await connection.channel(), name)
            proxy.delay(HEARTBEAT / 2)
            publishing = asyncio.create_task(publish_on(await connection.channel(), name))
            await eventually(lambda: len(got) >= 40, 60)
            assert not connection.closed.done()
            assert proxy.connections == 1
            publishing.cancel()
            await asyncio.wait([publishing])


async def test_a_service_goes_on_after_a_black_hole(broker: Broker, name: str) -> None:
    """Its connections go dead without a word, and later messages are handled all the same."""
    handled: set[int] = set()
    service = Service(name, retry=Retry.never())

    @service.handler(Queue(f"{name}.q"))
    async def handle(body: dict[str, int], _: Delivery) -> None:
        handled.add(body["n"])

    with TcpProxy(broker.url) as proxy:
        url = BrokerUrl.parse(f"{proxy.url}?heartbeat={HEARTBEAT}")
        async with connected(broker.url) as client, Runtime(service, url):
            await client.publisher.publish("", f"{name}.q", {"n": 1})
            await eventually(lambda: 1 in handled)
            proxy.forget()
            await client.publisher.publish("", f"{name}.q", {"n": 2})
            # The broker may give it to the dead one first, until it notices.
            await eventually(lambda: 2 in handled, 25)
