"""What is published later: it is held by the broker, and arrives as if it was published then."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tenacity import stop_after_attempt, wait_fixed

from mqkit import (
    BlockingPublisher,
    BrokerUrl,
    Delivery,
    Exchange,
    Queue,
    Retry,
    Runtime,
    Service,
)
from mqkit.broker.delays import UNDELIVERABLE
from mqkit.broker.later import landing_name, level_name
from mqkit.errors import ExchangeNotFoundError
from mqkit.publishing.outgoing import Outgoing
from mqkit.store import Store, SyncTransaction, Transaction
from mqkit.testing.brokers.embedded import EmbeddedBroker
from mqkit.testing.brokers.finder import Broker
from mqkit.testing.harness import HarnessTimeoutError, harness
from tests.support import Client, connected, delete, eventually

DELAY = 2.0
"""Seconds that a busy machine does not take until a message is on the ladder."""

LATEST = 2.5
"""Seconds after its time at which a message has arrived, on a machine that is busy."""


async def bound(client: Client, exchange: Exchange, queue: str, routing_key: str) -> None:
    """Declare a topic exchange and a queue that is bound to it."""
    await client.declare(queue)
    async with client.channel() as channel:
        await channel.declare_exchange(exchange.name, exchange.type)
        await channel.bind_queue(queue, exchange.name, routing_key)


@pytest.mark.usefixtures("driver")
async def test_a_message_is_held_and_arrives_as_if_it_was_published_then(
    broker: Broker, name: str
) -> None:
    """It comes by its own exchange under its own key, whatever words that has, and never early."""
    exchange = Exchange(f"{name}.x", type="topic")
    key = "order.1.0.1.0"
    async with connected(broker.url) as client:
        await bound(client, exchange, f"{name}.q", "order.#")
        began = time.monotonic()
        for delay in (1.3, 0.05, 0.4):
            await client.publisher.publish(
                exchange, key, b"%g" % delay, delay=delay, message_id=f"m-{delay:g}", priority=4
            )
        for delay in (0.05, 0.4, 1.3):
            incoming = await client.take(f"{name}.q")
            assert delay - 0.02 <= time.monotonic() - began <= delay + LATEST
            assert (incoming.body, incoming.exchange) == (b"%g" % delay, exchange.name)
            assert incoming.routing_key == key
            assert incoming.properties.message_id == f"m-{delay:g}"
            assert incoming.properties.persistent
            assert incoming.properties.priority == 4


async def test_what_is_due_already_is_published_at_once(broker: Broker, name: str) -> None:
    """No delay, and a time that has passed, go by no ladder."""
    async with connected(broker.url) as client:
        await client.declare(f"{name}.q")
        past = datetime.now(UTC) - timedelta(days=400)
        await client.publisher.publish("", f"{name}.q", b"0", delay=0)
        await client.publisher.publish("", f"{name}.q", b"1", at=past)
        for body in (b"0", b"1"):
            incoming = await client.take(f"{name}.q")
            assert incoming.body == body
            assert set(incoming.properties.headers) <= {"mqkit-publish"}


async def test_a_handler_sees_no_ladder_and_its_retries_are_its_own(
    broker: Broker, name: str
) -> None:
    """The first run of what was held is attempt 1, and its retry keeps where it was published."""
    exchange = Exchange(f"{name}.x", type="topic")
    seen: list[tuple[int, str, str, dict[str, object], str | None]] = []
    service = Service(name, retry=Retry(stop=stop_after_attempt(2), wait=wait_fixed(0.2)))

    @service.handler(Queue(f"{name}.q"), bind=[exchange.key("remind.#")])
    async def handle(body: bytes, delivery: Delivery) -> None:
        seen.append(
            (
                delivery.attempt,
                delivery.exchange,
                delivery.routing_key,
                dict(delivery.headers),
                delivery.message_id,
            )
        )
        if delivery.attempt == 1:
            raise ValueError("again")

    async with connected(broker.url) as client, Runtime(service, BrokerUrl.parse(broker.url)):
        sent = await client.publisher.publish(
            exchange, "remind.1", b"x", delay=timedelta(seconds=2), headers={"a": 1, "x-death": 7}
        )
        await eventually(lambda: len(seen) == 2)
    first, second = seen
    assert first == (1, exchange.name, "remind.1", {"a": 1}, sent)
    assert second[:3] == (2, exchange.name, "remind.1")
    assert second[4] == sent
    assert not any(header.startswith("x-") for header in second[3])


async def test_many_are_held_at_a_time_and_each_comes_once(broker: Broker, name: str) -> None:
    """Messages of `publish_many` with different delays all arrive, none early, none twice."""
    exchange = Exchange(f"{name}.x", type="topic")
    async with connected(broker.url) as client:
        await bound(client, exchange, f"{name}.q", "k.#")
        began = time.monotonic()
        delays = [0.1 * (i % 12) for i in range(300)]
        outgoing = [
            Outgoing(exchange, f"k.{i % 40}", f"{i}".encode(), delay=delay)
            for i, delay in enumerate(delays)
        ]
        results = [result async for result in client.publisher.publish_many(outgoing)]
        assert [result.error for result in results if result.error] == []
        came: dict[int, float] = {}
        while len(came) < len(delays):
            assert time.monotonic() - began < 20
            for incoming in await client.take_all(f"{name}.q"):
                number = int(incoming.body)
                assert number not in came
                came[number] = time.monotonic() - began
        assert all(came[i] >= delay - 0.02 for i, delay in enumerate(delays))


async def test_a_thread_publishes_later_too(broker: Broker, name: str) -> None:
    """`BlockingPublisher` takes a delay and a time, for one message and for many."""
    async with connected(broker.url) as client:
        await client.declare(f"{name}.q")

        def publish() -> None:
            with BlockingPublisher(broker.url) as publisher:
                publisher.publish("", f"{name}.q", b"1", delay=0.2)
                at = datetime.now(UTC) + timedelta(seconds=0.4)
                (result,) = publisher.publish_many([Outgoing("", f"{name}.q", b"2", at=at)])
                assert result.error is None

        await asyncio.to_thread(publish)
        bodies = [(await client.take(f"{name}.q")).body for _ in range(2)]
        assert bodies == [b"1", b"2"]


async def test_what_cannot_be_routed_when_it_is_due_waits_until_it_can(
    broker: Broker, name: str
) -> None:
    """A message that no queue is bound for stays in its landing queue, and holds up no other one.

    The embedded broker tries again within seconds, RabbitMQ after 3 minutes (`long` sees to that).
    """
    exchange = Exchange(f"{name}.x", type="topic")
    async with connected(broker.url) as client:
        await bound(client, exchange, f"{name}.q", "known")
        await client.publisher.publish(exchange, "unknown", b"1", delay=1)
        await client.publisher.publish(exchange, "known", b"2", delay=1.2)
        assert (await client.take(f"{name}.q")).body == b"2"
        async with client.channel() as channel:
            await channel.declare_queue(landing_name(exchange.name, "unknown"), passive=True)
            await channel.bind_queue(f"{name}.q", exchange.name, "unknown")
        if broker.kind == "embedded":
            assert (await client.take(f"{name}.q")).body == b"1"


@pytest.mark.long
@pytest.mark.timeout(500)
@pytest.mark.parametrize("missing", ["exchange", "binding"])
async def test_rabbitmq_tries_again_what_it_could_not_route(
    rabbitmq: Broker, name: str, missing: str
) -> None:
    """A message that found no exchange, or no queue, arrives after that is there again."""
    exchange = Exchange(f"{name}.x", type="topic")
    landing = landing_name(exchange.name, "k")
    async with connected(rabbitmq.url) as client:
        await bound(client, exchange, f"{name}.q", "other" if missing == "binding" else "k")
        await client.publisher.publish(exchange, "k", b"1", delay=3)
        if missing == "exchange":
            await delete(rabbitmq.url, exchange=exchange.name)

        async def is_kept() -> bool:
            listed = await asyncio.to_thread(rabbitmq.ctl, "list_queues", "name", "messages")
            return f"{landing}\t1" in listed

        await eventually(is_kept, 30)
        await bound(client, exchange, f"{name}.q", "k")
        assert (await client.take(f"{name}.q", within=400)).body == b"1"


async def test_what_has_lost_its_landing_queue_is_kept(broker: Broker, name: str) -> None:
    """A message whose landing queue was deleted while it was held is in `undeliverable`."""
    async with connected(broker.url) as client:
        await client.declare(f"{name}.q")
        await client.publisher.publish("", f"{name}.q", b"1", delay=0.8, message_id=f"{name}-1")
        await delete(broker.url, queue=landing_name("", f"{name}.q"))

        async def is_kept() -> bool:
            found = await client.take_all(UNDELIVERABLE)
            return f"{name}-1" in [each.properties.message_id for each in found]

        await eventually(is_kept)


@pytest.mark.parametrize("part", ["exchange", "queue", "landing"])
async def test_what_was_deleted_of_the_ladder_is_declared_again(
    broker: Broker, name: str, part: str
) -> None:
    """A publisher that has used the ladder goes on after somebody deleted a part of it."""
    async with connected(broker.url) as client:
        await client.declare(f"{name}.q")
        landing = landing_name("", f"{name}.q")
        await client.publisher.publish("", f"{name}.q", b"1", delay=0.1)
        assert (await client.take(f"{name}.q")).body == b"1"
        match part:
            case "exchange":
                await delete(broker.url, exchange=level_name(0))
            case "queue":
                await delete(broker.url, queue=level_name(0))
            case _:
                await delete(broker.url, queue=landing)
                await delete(broker.url, exchange=level_name(0))
        await client.publisher.publish("", f"{name}.q", b"2", delay=0.1)
        assert (await client.take(f"{name}.q")).body == b"2"


async def test_what_is_held_survives_a_restart_of_the_broker(name: str) -> None:
    """Killed before the message is due, the broker publishes it after its restart."""
    queue = f"{name}.q"
    with EmbeddedBroker() as broker:
        async with connected(broker.url) as client:
            await client.declare(queue)
            await client.publisher.publish("", queue, b"1", delay=1.5)
        await asyncio.to_thread(broker.kill)
        await asyncio.to_thread(broker.start)
        async with connected(broker.url) as client:
            assert (await client.take(queue)).body == b"1"


async def test_an_exchange_that_is_not_there_is_an_error_now(broker: Broker, name: str) -> None:
    """Whoever publishes later to a name that no exchange has is told at once."""
    async with connected(broker.url) as client:
        with pytest.raises(ExchangeNotFoundError, match=f"{name}.none"):
            await client.publisher.publish(f"{name}.none", "k", b"x", delay=5)


@pytest.mark.parametrize("is_async", [True, False], ids=["async def", "def"])
async def test_what_a_transaction_publishes_later_is_held_from_then_on(
    broker: Broker, name: str, database: str, is_async: bool
) -> None:
    """A handler's delayed message comes once, by the outbox, after its delay and its commit."""
    exchange = Exchange(f"{name}.x", type="topic")
    came: list[tuple[float, bytes]] = []
    service = Service(name, retry=Retry.never(), store=Store(database))
    began = 0.0

    if is_async:

        @service.handler(Queue(f"{name}.q"))
        async def handle(body: bytes, transaction: Transaction) -> None:
            await transaction.publish(exchange, "later", body, key="k", delay=DELAY)
            await transaction.publish(exchange, "now", body, key="k")

    else:

        @service.handler(Queue(f"{name}.q"))
        def handle_in_thread(body: bytes, transaction: SyncTransaction) -> None:
            transaction.publish(exchange, "later", body, key="k", delay=DELAY)
            transaction.publish(exchange, "now", body, key="k")

    @service.handler(Queue(f"{name}.next"), bind=[exchange.key("#")])
    async def next_(body: bytes, delivery: Delivery) -> None:
        came.append((time.monotonic() - began, delivery.routing_key.encode()))

    async with connected(broker.url) as client, Runtime(service, BrokerUrl.parse(broker.url)):
        began = time.monotonic()
        await client.publisher.publish("", f"{name}.q", b"x")
        await eventually(lambda: len(came) == 2)
    (now, first), (later, second) = came
    assert (first, second) == (b"now", b"later")
    assert now < later
    assert later >= DELAY - 0.02


async def test_a_test_lets_the_time_of_a_delay_pass_at_once(name: str, tmp_path: Path) -> None:
    """In a harness a month's delay takes no time, and nothing comes before it has passed."""
    month = 30 * 24 * 3600.0
    exchange = Exchange(f"{name}.x", type="topic")
    came: list[bytes] = []
    service = Service(name, retry=Retry.never(), store=Store(f"sqlite:///{tmp_path / 's.db'}"))

    @service.handler(Queue(f"{name}.q"), bind=[exchange.key("begin")])
    async def handle(body: bytes, transaction: Transaction) -> None:
        await transaction.publish(exchange, "end", body, delay=month)

    @service.handler(Queue(f"{name}.end"), bind=[exchange.key("end")])
    async def end(body: bytes) -> None:
        came.append(body)

    async with harness(service) as h:
        await h.publish(exchange, "begin", b"1")
        await h.settled()
        await h.advance(month - 60)  # real time goes on, too
        assert came == []
        await h.advance(60)
        assert came == [b"1"]
        await h.publish(exchange, "end", b"2", at=h.now() + timedelta(hours=1))
        with pytest.raises(HarnessTimeoutError, match="published to be held until then; attempt 1"):
            await h.idle(within=1)
        await h.advance(3600)
        assert came == [b"1", b"2"]
        assert [each.due is None for each in h.published] == [False]
