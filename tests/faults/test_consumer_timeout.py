"""A handler that is slower than the broker waits for an ack.

The broker takes the message back: up to RabbitMQ 4.2 it closes the channel, and from 4.3 it cancels
a quorum queue's consumer, unless that was cancelled already, when it closes the channel as before
(https://www.rabbitmq.com/docs/consumers#acknowledgement-timeout).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Iterator

import pytest

from mqkit import BrokerUrl, Delivery, Queue, Retry, Runtime, Service
from mqkit.broker.declare import declare
from mqkit.testing.brokers.broker import Broker
from tests.support import connected, eventually

pytestmark = pytest.mark.usefixtures("driver")

TIMEOUT = 1_000
"""Milliseconds that the broker waits for an ack in these tests."""

TICK = 250
"""Milliseconds between two looks of a channel at what is overdue; a minute by default."""


NUDGE = "nudge"
"""The id of messages that only make something happen to the queue."""


@contextlib.contextmanager
def impatient(broker: Broker) -> Iterator[None]:
    """A broker whose new channels wait only so long, also 3.10, where no queue can ask for it."""
    names = ("consumer_timeout", "channel_tick_interval")
    before = broker.evaluate(
        f"Before = [application:get_env(rabbit, Name) || Name <- [{', '.join(names)}]],"
        f"application:set_env(rabbit, {names[0]}, {TIMEOUT}),"
        f"application:set_env(rabbit, {names[1]}, {TICK}),"
        "Before."
    )
    try:
        yield
    finally:
        broker.evaluate(
            "[case Was of {ok, Value} -> application:set_env(rabbit, Name, Value);"
            " undefined -> application:unset_env(rabbit, Name) end"
            f" || {{Name, Was}} <- lists:zip([{', '.join(names)}], {before.strip()})].",
        )


@pytest.mark.parametrize("slow", ["0", "2"], ids=["slow first", "slow later"])
@pytest.mark.parametrize("single", [False, True], ids=["many consumers", "single active consumer"])
async def test_consumption_goes_on_after_a_consumer_timeout(
    rabbitmq: Broker, name: str, single: bool, slow: str
) -> None:
    """The slow message is lost to its run, all others are handled, and it is in its turn again."""
    release, lost = asyncio.Event(), list[bool]()
    handled: Counter[str | None] = Counter()
    now: Counter[str | None] = Counter()
    arguments = {"x-single-active-consumer": True} if single else {}
    queue = Queue(f"{name}.q", arguments=arguments, delivery_limit=100)
    service = Service(name, retry=Retry.never())

    @service.handler(queue, prefetch=4, concurrency=2)
    async def handle(body: bytes, delivery: Delivery) -> None:
        if delivery.message_id == NUDGE:
            return
        now[delivery.message_id] += 1
        assert now[delivery.message_id] == 1, "handled twice at the same time"
        if delivery.message_id == slow and not lost:
            # The first message comes by a consumer that is cancelled for one with more prefetch.
            await eventually(lambda: delivery.lost, 60, "the broker's taking it back")
            lost.append(delivery.lost)
            await release.wait()
        if not delivery.lost:
            handled[delivery.message_id] += 1
        now[delivery.message_id] -= 1

    with impatient(rabbitmq):
        async with connected(rabbitmq.url) as client:
            await declare(client.connection.channel, service.topology)
            for n in range(4):
                await client.publisher.publish("", queue.name, b"x", message_id=str(n))
            async with Runtime(service, BrokerUrl.parse(rabbitmq.url)):
                for _ in range(6):
                    if lost:
                        break
                    # Where one message was acked, and the next one delivered some milliseconds
                    # later is held, RabbitMQ 4.3.6 now and then overlooks that one's timeout until
                    # something else happens to the queue.
                    with contextlib.suppress(AssertionError):
                        await eventually(lambda: bool(lost), 10)
                    await client.publisher.publish("", queue.name, b"x", message_id=NUDGE)
                assert lost
                for n in range(4, 12):
                    await client.publisher.publish("", queue.name, b"x", message_id=str(n))
                await eventually(lambda: len(handled) == 11, what="the others")
                assert slow not in handled
                release.set()
                await eventually(lambda: len(handled) == 12, what="the slow one's second run")
            assert await client.messages(queue.name) == 0
            assert await client.messages(queue.dead_queue) == 0
    assert set(handled.values()) == {1}


async def test_a_timeout_of_the_handlers_own_comes_before_the_brokers(
    rabbitmq: Broker, name: str
) -> None:
    """With `timeout=` below it the slow message is dead-lettered by its policy, on its channel."""
    channels, runs = set[int](), list[str | None]()
    queue = Queue(f"{name}.q")
    service = Service(name, retry=Retry.never())

    @service.handler(queue, prefetch=4, concurrency=2, timeout=TIMEOUT / 3000)
    async def handle(body: bytes, delivery: Delivery) -> None:
        channels.add(id(delivery.channel))
        runs.append(delivery.message_id)
        if delivery.message_id == "0":
            await asyncio.Event().wait()

    with impatient(rabbitmq):
        async with connected(rabbitmq.url) as client:
            async with Runtime(service, BrokerUrl.parse(rabbitmq.url)):
                await client.publisher.publish("", queue.name, b"x", message_id="0")
                dead = await client.take(queue.dead_queue)
                await asyncio.sleep(2 * TIMEOUT / 1000)  # nothing is left that could be overdue
                await client.publisher.publish("", queue.name, b"x", message_id="1")
                await eventually(lambda: runs == ["0", "1"])
            assert await client.messages(queue.name) == 0
    assert dead.properties.headers["mqkit-error-type"] == "mqkit.errors.HandlerTimeoutError"
    assert len(channels) == 1
