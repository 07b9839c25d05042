"""Whose a message is: one run at a time, and what a run is told when its message is lost to it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from tenacity import stop_after_attempt, wait_fixed

from mqkit import BrokerUrl, Delivery, Queue, Retry, Runtime, Service
from mqkit.broker.declare import declare
from mqkit.errors import BrokerError
from mqkit.testing.brokers.finder import Broker
from mqkit.testing.proxy.proxy import TcpProxy
from tests.support import connected, delete, eventually

pytestmark = pytest.mark.usefixtures("driver")

CUTS = 4


class Runs:
    """How often each message is being handled at this moment, and was in all; for any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now: Counter[str | None] = Counter()
        self.most = 0
        self.begun: Counter[str | None] = Counter()

    def begin(self, delivery: Delivery) -> None:
        """A run begins."""
        with self._lock:
            self.begun[delivery.message_id] += 1
            self._now[delivery.message_id] += 1
            self.most = max(self.most, *self._now.values())

    def end(self, delivery: Delivery) -> None:
        """It ends."""
        with self._lock:
            self._now[delivery.message_id] -= 1


async def cut(broker: Broker) -> None:
    """Close every connection of the broker."""
    await asyncio.to_thread(broker.close_connections)


def registered(service: Service, queue: Queue, handler: Callable[..., Any], **options: Any) -> None:
    """Register a handler."""
    service.handler(queue, **options)(handler)


@pytest.mark.parametrize("kind", ["async", "def", "async, cancelled", "def, cancelled"])
async def test_no_message_is_handled_twice_at_the_same_time(
    broker: Broker, name: str, kind: str
) -> None:
    """While a run goes on whose channel was closed, its message comes again and waits for it."""
    runs, queue, release = Runs(), Queue(f"{name}.q", delivery_limit=1000), threading.Event()
    service = Service(name, retry=Retry.never())

    async def handle(body: bytes, delivery: Delivery) -> None:
        runs.begin(delivery)
        try:
            await eventually(release.is_set, 60)
        finally:
            runs.end(delivery)

    def handle_in_a_thread(body: bytes, delivery: Delivery) -> None:
        runs.begin(delivery)
        release.wait(60)
        runs.end(delivery)

    registered(
        service,
        queue,
        handle if kind.startswith("async") else handle_in_a_thread,
        prefetch=10,
        concurrency=10,  # none waits for a place
        cancel_when_lost="cancelled" in kind,
    )

    async with connected(broker.url) as client:
        await declare(client.connection.channel, service.topology)
        for n in range(6):
            await client.publisher.publish("", queue.name, b"x", message_id=str(n))

        async def all_are_held() -> bool:
            try:
                return not await client.messages(queue.name) and bool(runs.begun)
            except BrokerError:
                return False  # its own connection was cut as well

        async with Runtime(service, BrokerUrl.parse(broker.url)) as runtime:
            (consumer,) = runtime._consumers
            for _ in range(CUTS):
                await eventually(all_are_held)
                generation = runtime._consuming.generation
                await cut(broker)
                await eventually(
                    lambda generation=generation: runtime._consuming.generation > generation  # type: ignore[misc]
                )
            await eventually(all_are_held)
            release.set()

            async def all_are_settled() -> bool:
                return await all_are_held() and not consumer.in_flight

            await eventually(all_are_settled)
        assert await client.messages(queue.name) == 0
        assert await client.messages(queue.dead_queue) == 0
    assert runs.most == 1
    # Each again after it: else nothing was shown.
    assert runs.begun.total() >= 6 + 6
    assert len(runs.begun) == 6


async def test_a_run_that_asked_for_it_is_cancelled_with_its_channel(
    broker: Broker, name: str
) -> None:
    """`cancel_when_lost=True`: it sees CancelledError, and the message is handled again."""
    began, events = asyncio.Event(), list[str]()
    service = Service(name, retry=Retry.never())

    @service.handler(Queue(f"{name}.q"), cancel_when_lost=True)
    async def handle(body: bytes, delivery: Delivery) -> None:
        if began.is_set():
            events.append(f"again, attempt {delivery.attempt}")
            return
        began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            events.append(f"cancelled, lost: {delivery.lost}")
            raise

    async with connected(broker.url) as client, Runtime(service, BrokerUrl.parse(broker.url)):
        await client.publisher.publish("", f"{name}.q", b"x", message_id="1")
        await asyncio.wait_for(began.wait(), 15)
        await cut(broker)
        await eventually(lambda: len(events) == 2)
        assert await client.messages(f"{name}.q.dead") == 0
    assert events == ["cancelled, lost: True", "again, attempt 1"]


@pytest.mark.parametrize("is_async", [True, False])
async def test_a_run_that_goes_on_sees_that_its_message_is_lost(
    broker: Broker, name: str, is_async: bool
) -> None:
    """`delivery.lost` turns true under it, on the loop and in a thread; then it runs again."""
    began, seen = threading.Event(), list[bool]()
    service = Service(name, retry=Retry.never())

    async def handle(body: bytes, delivery: Delivery) -> None:
        seen.append(delivery.lost)
        if not began.is_set():
            began.set()
            await eventually(lambda: delivery.lost)
            seen.append(delivery.lost)

    def handle_in_a_thread(body: bytes, delivery: Delivery) -> None:
        seen.append(delivery.lost)
        if not began.is_set():
            began.set()
            deadline = time.monotonic() + 15
            while not delivery.lost and time.monotonic() < deadline:
                time.sleep(0.02)
            seen.append(delivery.lost)

    registered(service, Queue(f"{name}.q"), handle if is_async else handle_in_a_thread)
    async with connected(broker.url) as client, Runtime(service, BrokerUrl.parse(broker.url)):
        await client.publisher.publish("", f"{name}.q", b"x", message_id="1")
        await eventually(began.is_set)
        await cut(broker)
        await eventually(lambda: len(seen) == 3)
    assert seen == [False, True, False]


@pytest.mark.parametrize("is_async", [True, False])
async def test_a_run_past_its_timeout_ends_in_the_retry_policy(
    broker: Broker, name: str, is_async: bool
) -> None:
    """It is tried again as the policy says, never beside itself, and dead-lettered in the end."""
    runs, overdue = Runs(), list[bool]()
    service = Service(name, retry=Retry(stop=stop_after_attempt(2), wait=wait_fixed(0.1)))

    async def handle(body: bytes, delivery: Delivery) -> None:
        runs.begin(delivery)
        try:
            await asyncio.Event().wait()
        finally:
            runs.end(delivery)
            overdue.append(True)

    def handle_in_a_thread(body: bytes, delivery: Delivery) -> None:
        runs.begin(delivery)
        deadline = time.monotonic() + 15
        while not delivery.overdue and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.7)  # longer than the wait for the retry
        overdue.append(delivery.overdue)
        runs.end(delivery)

    registered(service, Queue(f"{name}.q"), handle if is_async else handle_in_a_thread, timeout=0.2)
    async with connected(broker.url) as client, Runtime(service, BrokerUrl.parse(broker.url)):
        await client.publisher.publish("", f"{name}.q", b"x", message_id="1")
        dead = await client.take(f"{name}.q.dead")
        await eventually(lambda: overdue == [True, True])
    headers = dead.properties.headers
    assert headers["mqkit-error-type"] == "mqkit.errors.HandlerTimeoutError"
    assert "past its timeout of 0.2 s" in str(headers["mqkit-error-message"])
    assert (headers["mqkit-attempts"], headers["mqkit-reason"]) == (2, "attempts-exhausted")
    assert runs.begun == {"1": 2}
    assert runs.most == 1


async def test_a_thread_past_its_timeout_uses_up_no_attempts_of_others(
    broker: Broker, name: str
) -> None:
    """What comes next waits for the thread, and its own time begins when it has one."""
    release, handled = threading.Event(), list[tuple[str | None, int]]()
    service = Service(name, retry=Retry(stop=stop_after_attempt(1), wait=wait_fixed(0)))

    @service.handler(Queue(f"{name}.q"), prefetch=5, concurrency=1, timeout=0.3)
    def handle(body: bytes, delivery: Delivery) -> None:
        if delivery.message_id == "0":
            release.wait(15)
            return
        handled.append((delivery.message_id, delivery.attempt))

    async with connected(broker.url) as client, Runtime(service, BrokerUrl.parse(broker.url)):
        for n in range(4):
            await client.publisher.publish("", f"{name}.q", b"x", message_id=str(n))
        dead = await client.take(f"{name}.q.dead")
        await asyncio.sleep(0.5)  # longer than the others may take
        release.set()
        await eventually(lambda: len(handled) == 3)
        assert await client.messages(f"{name}.q.dead") == 0
    assert dead.properties.message_id == "0"
    assert handled == [("1", 1), ("2", 1), ("3", 1)]


async def test_the_brokers_cancel_is_told_although_it_crosses_ours(
    rabbitmq: Broker, name: str
) -> None:
    """A consumer is told that the broker has cancelled it, although it is cancelling too."""
    cancelled = asyncio.Event()
    with TcpProxy(rabbitmq.url) as proxy:
        async with connected(rabbitmq.url) as other, connected(proxy.url) as client:
            await other.declare(name)
            channel = await client.connection.channel()
            tag = await channel.consume(name, lambda _: None, cancelled.set)
            proxy.stall("to_client")
            await delete(rabbitmq.url, queue=name)
            consuming = "[C || C <- rabbit_channel:list(), rabbit_channel:info(C, [consumer_count])"
            idle = f"{consuming} =/= [{{consumer_count, 0}}]] =:= []."
            await eventually(lambda: "true" in rabbitmq.evaluate(idle))
            ours = asyncio.create_task(channel.cancel(tag))
            await asyncio.sleep(0)  # in which it is written
            proxy.resume("to_client")
            await ours
            assert cancelled.is_set()
            assert channel.is_open
