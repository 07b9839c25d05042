"""One message's way through a service, on the real broker."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import BaseModel
from tenacity import stop_after_attempt, wait_fixed

from mqkit import (
    BrokerUrl,
    CallNext,
    Delivery,
    Exchange,
    HandlerCall,
    Publisher,
    Queue,
    Reject,
    Retry,
    RetryLater,
    Runtime,
    Service,
)
from mqkit.testing.brokers.finder import Broker
from tests.support import connected, eventually

pytestmark = [pytest.mark.usefixtures("driver"), pytest.mark.in_turn(embedded=True)]


class Order(BaseModel):
    """A body."""

    id: int


class Database:
    """Lives as long as the service."""


class Transaction:
    """Lives as long as a message."""


async def test_a_bound_message_is_handled_and_acked(broker: Broker, name: str) -> None:
    """A message whose routing key matches is handled once and leaves its queue; another is not."""
    exchange, seen = Exchange(f"{name}.x"), []
    service = Service(name, retry=Retry.never())

    @service.handler(Queue(f"{name}.q"), bind=[exchange.key("order.accepted.#")])
    async def handle(order: Order, delivery: Delivery) -> None:
        seen.append((order.id, delivery.exchange, delivery.routing_key, delivery.attempt))

    async with connected(broker.url) as client:
        async with Runtime(service, BrokerUrl.parse(broker.url)) as runtime:
            await client.publisher.publish(exchange, "order.accepted.eu", Order(id=7))
            await client.publisher.publish(
                exchange, "order.refused.eu", Order(id=8), mandatory=False
            )
            await eventually(lambda: bool(seen))
            assert runtime.server == broker.server
        assert seen == [(7, f"{name}.x", "order.accepted.eu", 1)]
        assert await client.messages(f"{name}.q") == 0
        assert await client.messages(f"{name}.q.dead") == 0


async def test_an_undecodable_body_is_dead_lettered_unrun(broker: Broker, name: str) -> None:
    """A body that does not validate goes to the dead letters at once, with what is wrong in it."""
    seen: list[Order] = []
    service = Service(name, retry=Retry(stop=stop_after_attempt(5), wait=wait_fixed(1)))

    @service.handler(Queue(f"{name}.q"))
    async def handle(order: Order) -> None:
        seen.append(order)

    async with (
        connected(broker.url) as client,
        Runtime(service, BrokerUrl.parse(broker.url)),
    ):
        await client.publisher.publish("", f"{name}.q", {"id": "secret-4711"}, message_id="m1")
        dead = await client.take(f"{name}.q.dead")
    headers = dead.properties.headers
    assert headers["mqkit-reason"] == "undecodable"
    assert "id: Input should be a valid integer" in str(headers["mqkit-error-message"])
    assert "4711" not in str(headers)
    assert dead.properties.message_id == "m1"
    assert dead.body == b'{"id":"secret-4711"}'
    assert headers["mqkit-attempts"] == 1
    assert seen == []


async def test_reject_dead_letters_at_once(broker: Broker, name: str) -> None:
    """A handler that raises Reject is run once, whatever its policy says."""
    runs: list[int] = []
    service = Service(name, retry=Retry(stop=stop_after_attempt(5), wait=wait_fixed(0)))

    @service.handler(Queue(f"{name}.q"))
    async def handle(order: Order) -> None:
        runs.append(order.id)
        raise Reject("account closed")

    async with (
        connected(broker.url) as client,
        Runtime(service, BrokerUrl.parse(broker.url)),
    ):
        await client.publisher.publish("", f"{name}.q", Order(id=1))
        dead = await client.take(f"{name}.q.dead")
    assert dead.properties.headers["mqkit-reason"] == "rejected"
    assert dead.properties.headers["mqkit-error-message"] == "account closed"
    assert runs == [1]


async def test_retry_later_overrides_the_wait(broker: Broker, name: str) -> None:
    """RetryLater(0.5) brings the message back after half a second, not the policy's minute."""
    times: list[float] = []
    service = Service(name, retry=Retry(stop=stop_after_attempt(3), wait=wait_fixed(60)))

    @service.handler(Queue(f"{name}.q"))
    async def handle(order: Order) -> None:
        times.append(asyncio.get_running_loop().time())
        if len(times) == 1:
            raise RetryLater(0.5)

    async with (
        connected(broker.url) as client,
        Runtime(service, BrokerUrl.parse(broker.url)),
    ):
        await client.publisher.publish("", f"{name}.q", Order(id=1))
        await eventually(lambda: len(times) == 2, 10)
    assert 0.5 <= times[1] - times[0] < 5


async def test_def_handlers_run_side_by_side_in_threads(broker: Broker, name: str) -> None:
    """A `def` handler runs in as many threads as its concurrency says, off the event loop."""
    barrier = threading.Barrier(4, timeout=10)
    threads: list[str] = []
    service = Service(name, retry=Retry.never())

    @service.handler(Queue(f"{name}.q"), concurrency=4)
    def handle(order: Order) -> None:
        barrier.wait()  # broken unless four of them are here at once
        threads.append(threading.current_thread().name)

    async with (
        connected(broker.url) as client,
        Runtime(service, BrokerUrl.parse(broker.url)),
    ):
        for number in range(8):
            await client.publisher.publish("", f"{name}.q", Order(id=number))
        # All of them: one that waits alone at the barrier would hold up the end.
        await eventually(lambda: len(threads) == 8)
    assert len(set(threads)) == 4
    assert threading.main_thread().name not in threads


async def test_concurrency_is_never_passed(broker: Broker, name: str) -> None:
    """No more runs of a handler are under way than its concurrency, with a full prefetch."""
    now, most, done = 0, 0, 0
    service = Service(name, retry=Retry.never())

    @service.handler(Queue(f"{name}.q"), prefetch=50, concurrency=3)
    async def handle(order: Order) -> None:
        nonlocal now, most, done
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.005)
        now -= 1
        done += 1

    async with (
        connected(broker.url) as client,
        Runtime(service, BrokerUrl.parse(broker.url)),
    ):
        await asyncio.gather(
            *(client.publisher.publish("", f"{name}.q", Order(id=n)) for n in range(60))
        )
        await eventually(lambda: done == 60)
    assert most == 3


async def test_publisher_and_providers_are_injected(broker: Broker, name: str) -> None:
    """A handler gets its publisher, a value per message and one per service, each closed."""
    events: list[str] = []

    async def database() -> AsyncIterator[Database]:
        events.append("database opened")
        yield Database()
        events.append("database closed")

    async def transaction(database: Database) -> AsyncIterator[Transaction]:
        try:
            yield Transaction()
        except ValueError:
            events.append("rolled back")
            raise
        events.append("committed")

    service = Service(name, retry=Retry.never())
    service.provide(Database, database, scope="service")
    service.provide(Transaction, transaction)

    @service.handler(Queue(f"{name}.q"))
    async def handle(
        order: Order, transaction: Transaction, database: Database, publisher: Publisher
    ) -> None:
        if order.id == 2:
            raise ValueError("no")
        await publisher.publish("", f"{name}.out", {"done": order.id})

    async with connected(broker.url) as client:
        await client.declare(f"{name}.out")
        async with Runtime(service, BrokerUrl.parse(broker.url)):
            await client.publisher.publish("", f"{name}.q", Order(id=1))
            assert (await client.take(f"{name}.out")).body == b'{"done":1}'
            await client.publisher.publish("", f"{name}.q", Order(id=2))
            await client.take(f"{name}.q.dead")
    assert events == ["database opened", "committed", "rolled back", "database closed"]


async def test_middleware_goes_around_each_run(broker: Broker, name: str) -> None:
    """The service's middleware is outside the handler's, and its exception decides the outcome."""
    order_of_calls: list[str] = []

    def layer(label: str) -> Any:
        async def middleware(call: HandlerCall, call_next: CallNext) -> Any:
            order_of_calls.append(label)
            try:
                return await call_next(call)
            except KeyError as error:
                raise Reject(f"turned by {label}") from error

        return middleware

    service = Service(name, retry=Retry.never(), middleware=[layer("service")])

    @service.handler(Queue(f"{name}.q"), middleware=[layer("handler")])
    async def handle(order: Order) -> None:
        raise KeyError(order.id)

    async with (
        connected(broker.url) as client,
        Runtime(service, BrokerUrl.parse(broker.url), middleware=[layer("runtime")]),
    ):
        await client.publisher.publish("", f"{name}.q", Order(id=1))
        dead = await client.take(f"{name}.q.dead")
    assert order_of_calls == ["runtime", "service", "handler"]
    assert dead.properties.headers["mqkit-error-message"] == "turned by handler"


@pytest.mark.in_turn
@pytest.mark.parametrize("count", [2000])
async def test_every_message_of_many_is_handled(broker: Broker, name: str, count: int) -> None:
    """All of 2,000 messages are handled exactly once where nothing fails."""
    seen: list[int] = []
    service = Service(name, retry=Retry.never())

    @service.handler(Queue(f"{name}.q"))
    async def handle(order: Order) -> None:
        seen.append(order.id)

    async with (
        connected(broker.url) as client,
        Runtime(service, BrokerUrl.parse(broker.url)),
    ):
        await asyncio.gather(
            *(client.publisher.publish("", f"{name}.q", Order(id=n)) for n in range(count))
        )
        await eventually(lambda: len(seen) >= count, 30)
    assert sorted(seen) == list(range(count))
