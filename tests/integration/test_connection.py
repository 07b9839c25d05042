"""Opening a connection, refusing to, and coming back."""

from __future__ import annotations

import asyncio
import logging
import time

import pytest

from mqkit import (
    BlockingPublisher,
    BrokerUrl,
    ConnectError,
    Delivery,
    Outgoing,
    Queue,
    Retry,
    Runtime,
    Service,
)
from mqkit.broker.connection import Connection
from mqkit.drivers import named
from mqkit.errors import AuthenticationError, VirtualHostError
from mqkit.testing.brokers.finder import Broker
from tests.support import connected, eventually, peer

pytestmark = pytest.mark.usefixtures("driver")

SECRET = "hunter2-planted"


def connection(url: str) -> Connection:
    """One that is not open yet."""
    return Connection(BrokerUrl.parse(url), name="test", driver=named())


def port_of(broker: Broker) -> int:
    """The broker's AMQP port."""
    return BrokerUrl.parse(broker.url).hosts[0].port


async def test_a_dead_first_host_is_passed_over(broker: Broker) -> None:
    """Of a list of hosts, the first that answers is used."""
    opened = connection(f"amqp://guest:guest@127.0.0.1:1,127.0.0.1:{port_of(broker)}/")
    await opened.open(10)
    assert opened.server == broker.server
    await opened.close()


@pytest.mark.parametrize(
    "name", ["a..b", "a" * 70 + ".example", ".", "%20", "host%00x", "*.example", "%E2%92%88.x"]
)
@pytest.mark.parametrize("client", ["engine", "blocking"])
async def test_a_name_that_no_host_can_have_is_passed_over(
    broker: Broker, name: str, client: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is one host of a list that cannot be connected to, as one that is down."""
    url = f"amqp://guest:guest@{name},127.0.0.1:{port_of(broker)}/"
    if client == "engine":
        opened = connection(url)
        await opened.open(10)
        assert opened.server == broker.server
        await opened.close()
    else:

        def publish() -> None:
            with BlockingPublisher(url, timeout=10) as publisher:
                publisher.publish("", "nowhere", {}, mandatory=False)

        await asyncio.to_thread(publish)
    with pytest.raises(ConnectError):
        await connection(f"amqp://guest:guest@{name}/").open(0)
    assert "Traceback" not in caplog.text


async def test_a_wrong_password_fails_at_once_and_is_told_nowhere(
    broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    """It is an AuthenticationError without a retry, and no error or log line holds the password."""
    caplog.set_level(logging.DEBUG)
    for library in ("pika", "aiormq"):
        logging.getLogger(library).setLevel(logging.DEBUG)
    try:
        with pytest.raises(AuthenticationError) as caught:
            await connection(f"amqp://guest:{SECRET}@127.0.0.1:{port_of(broker)}/").open()
    finally:
        for library in ("pika", "aiormq"):
            logging.getLogger(library).setLevel(logging.NOTSET)
    assert "refused the user name and password" in str(caught.value)
    assert SECRET not in repr(caught.value) + str(caught.value.__cause__) + caplog.text


async def test_a_missing_virtual_host_is_named(broker: Broker) -> None:
    """It is a VirtualHostError with its name, without a retry."""
    with pytest.raises(VirtualHostError, match="'nowhere'"):
        await connection(f"amqp://guest:guest@127.0.0.1:{port_of(broker)}/nowhere").open()


async def test_a_peer_that_says_nothing_is_given_up_in_time() -> None:
    """A port that accepts and keeps silent is a ConnectError within connect_timeout."""
    async with peer(b"") as port:
        began = time.monotonic()
        with pytest.raises(ConnectError, match=r"within 0\.5 s"):
            await connection(f"amqp://guest:guest@127.0.0.1:{port}/?connect_timeout=0.5").open(0.1)
        assert time.monotonic() - began < 3


async def test_a_peer_that_speaks_something_else_is_told_apart() -> None:
    """A web server on the port is a ConnectError, not a hang."""
    async with peer(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        with pytest.raises(ConnectError):
            await connection(f"amqp://guest:guest@127.0.0.1:{port}/?connect_timeout=3").open(0.1)


async def test_nobody_there_is_told_after_the_deadline() -> None:
    """A refused port is tried again until the deadline, and the error names host and port."""
    with pytest.raises(ConnectError, match=r"127\.0\.0\.1:1: Connection refused"):
        await connection("amqp://guest:guest@127.0.0.1:1/").open(0.5)


async def test_closed_connections_lose_no_message(broker: Broker, name: str) -> None:
    """While the broker closes all connections ten times, each of 3,000 messages is handled."""
    handled: set[int] = set()
    service = Service(name, retry=Retry.never())

    @service.handler(Queue(f"{name}.q"))
    async def handle(body: dict[str, int], delivery: Delivery) -> None:
        await asyncio.sleep(0.002)
        handled.add(body["n"])

    async with (
        connected(broker.url) as client,
        Runtime(service, BrokerUrl.parse(broker.url)) as runtime,
    ):

        async def close_connections() -> None:
            for closed in range(10):
                await eventually(lambda closed=closed: len(handled) >= closed * 200)  # type: ignore[misc]
                await asyncio.to_thread(broker.close_connections)

        closing = asyncio.create_task(close_connections())
        async for result in client.publisher.publish_many(
            Outgoing("", f"{name}.q", {"n": n}) for n in range(3000)
        ):
            assert result.error is None
        await closing
        await eventually(lambda: len(handled) == 3000, 30)

        async def idle() -> bool:
            state = await runtime.queue_state(f"{name}.q")
            return (state.messages, state.consumers) == (0, 1)

        await eventually(idle, 10)


async def test_what_waited_when_the_connection_was_lost_is_not_run_twice(
    broker: Broker, name: str
) -> None:
    """Deliveries that had not started are dropped with their channel: only the redelivery runs."""
    runs: list[int] = []
    release = asyncio.Event()
    service = Service(name, retry=Retry.never())

    @service.handler(Queue(f"{name}.q"), prefetch=10, concurrency=1)
    async def handle(body: dict[str, int], delivery: Delivery) -> None:
        runs.append(body["n"])
        if not release.is_set():
            await release.wait()
            assert delivery.lost

    async with (
        connected(broker.url) as client,
        Runtime(service, BrokerUrl.parse(broker.url)) as runtime,
    ):
        for n in range(10):
            await client.publisher.publish("", f"{name}.q", {"n": n})

        async def all_prefetched() -> bool:
            return (await runtime.queue_state(f"{name}.q")).messages == 0

        await eventually(lambda: runs == [0])
        await eventually(all_prefetched)
        await asyncio.to_thread(broker.close_connections)
        await eventually(all_prefetched)
        release.set()
        await eventually(lambda: len(runs) >= 11)
        await eventually(all_prefetched)
    assert sorted(runs) == [0, *range(10)]


SUSPENDED = """
{{ok, Queue}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<"/">>, queue, <<"{queue}">>)),
{{Leader, _}} = amqqueue:get_pid(Queue),
sys:suspend(Leader), timer:sleep(600), sys:resume(Leader).
"""
"""Erlang that stops a quorum queue's leader for longer than RabbitMQ waits for its counts."""


async def test_a_queue_that_cannot_be_counted_for_a_moment_is_not_empty(
    rabbitmq: Broker, name: str
) -> None:
    """RabbitMQ says that it has no messages; whoever deletes empty queues must not believe it."""
    async with connected(rabbitmq.url) as client:
        await client.declare(name)
        await client.publisher.publish("", name, b"1")
        evaluated = asyncio.create_task(
            asyncio.to_thread(rabbitmq.evaluate, SUSPENDED.format(queue=name))
        )
        counts = set()
        longest = 0.0
        while not evaluated.done():
            began = time.monotonic()
            counts.add(await client.messages(name))
            longest = max(longest, time.monotonic() - began)
        await evaluated
    assert counts == {1}
    assert longest > 0.25
