"""Queues that are declared anew while they are published to."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Any, Self

import pytest
from tenacity import stop_after_attempt, wait_fixed

from mqkit import Delivery, Publisher, Queue, Reject, Retry, Runtime, Service
from mqkit.errors import TopologyError
from mqkit.settings import BrokerUrl
from mqkit.testing.brokers.broker import Broker
from tests.integration.topology.support import (
    applied,
    management_of,
    payments,
    provisioning,
    service,
)
from tests.support import connected, eventually


class Load:
    """Publishes to some keys at once, each one message after the other, for the block."""

    def __init__(self, url: str, keys: int = 10) -> None:
        self._publisher = Publisher(url)
        self._keys = [f"k{number}" for number in range(keys)]
        self.sent: list[tuple[str, int]] = []
        self._stop = False
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        await self._publisher.__aenter__()
        self._tasks = [asyncio.create_task(self._run(key)) for key in self._keys]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
        await self._publisher.close()

    async def stop(self) -> None:
        """Publish no more."""
        self._stop = True
        await asyncio.gather(*self._tasks)

    async def _run(self, key: str) -> None:
        number = 0
        while not self._stop:
            body = {"key": key, "number": number}
            self.sent.append((key, number))
            await self._publisher.publish(
                payments, "order.placed", body, message_id=f"{key}-{number}"
            )
            number += 1
            await asyncio.sleep(0.02)


def in_order(got: list[dict[str, Any]]) -> bool:
    """Tell whether the messages of each key were handled in their order, the first time."""
    of: dict[str, list[int]] = defaultdict(list)
    for key, number in dict.fromkeys((each["key"], each["number"]) for each in got):
        of[key].append(number)
    return all(numbers == sorted(numbers) for numbers in of.values())


def pairs(got: list[dict[str, Any]]) -> set[tuple[str, int]]:
    """Return the messages that were handled."""
    return {(each["key"], each["number"]) for each in got}


@pytest.mark.in_turn
async def test_a_queue_is_moved_while_it_is_published_to(broker: Broker, mqkit_vhost: str) -> None:
    """Nothing is lost, and nothing comes twice; the former service was stopped before."""
    management = management_of(broker)
    before, got = service(Queue("q", type="classic")), list[dict[str, Any]]()
    wanted = service(Queue("q"), got)
    assert await applied(mqkit_vhost, before, management=management) == []
    async with Load(mqkit_vhost) as load:
        await eventually(lambda: len(load.sent) > 50)
        assert await applied(mqkit_vhost, wanted, management=management) == []
    async with Runtime(wanted, BrokerUrl.parse(mqkit_vhost)):
        await eventually(lambda: len(got) >= len(load.sent))
    assert pairs(got) == set(load.sent)
    assert len(got) == len(load.sent)
    assert await applied(mqkit_vhost, wanted, management=management) == []


@pytest.mark.in_turn
async def test_what_is_moved_is_what_it_was(mqkit_vhost: str) -> None:
    """Its first exchange and routing key, its headers, and its number of attempts."""
    seen: list[tuple[object, ...]] = []

    def made(queue: Queue) -> Service:
        found = Service("s", retry=Retry(stop=stop_after_attempt(3), wait=wait_fixed(0.3)))

        @found.handler(queue, bind=[payments.key("order.#")])
        async def handle(body: bytes, delivery: Delivery) -> None:
            if delivery.headers["what"] == "dies":
                raise Reject("it is to die")
            seen.append(
                (
                    delivery.exchange,
                    delivery.routing_key,
                    delivery.message_id,
                    delivery.attempt,
                    delivery.properties.correlation_id,
                )
            )
            if delivery.attempt == 1 and len(seen) == 1:
                raise ValueError

        return found

    url = BrokerUrl.parse(mqkit_vhost)
    before, wanted = made(Queue("q", type="classic")), made(Queue("q"))
    async with connected(mqkit_vhost) as client:
        async with Runtime(before, url):
            for what in ("dies", "waits"):
                await client.publisher.publish(
                    payments,
                    f"order.{what}",
                    b"1",
                    message_id=what,
                    headers={"what": what},
                    correlation_id="c",
                )
            await eventually(lambda: len(seen) == 1)
        # In the delay ladder at first, and then held or in the queue.
        assert await applied(mqkit_vhost, wanted) == []
        async with Runtime(wanted, url):
            await eventually(lambda: len(seen) == 2)
        dead = await client.take("q.dead")
    assert seen[1] == ("payments", "order.waits", "waits", 2, "c")
    assert dead.properties.headers["mqkit-reason"] == "rejected"
    assert dead.properties.headers["mqkit-routing-key"] == "order.dies"
    assert (dead.exchange, dead.routing_key) == ("", "q.dead")


@pytest.mark.in_turn
async def test_the_number_of_partitions_changes_and_the_order_is_kept(mqkit_vhost: str) -> None:
    """What waits in the queue and in its partitions is handled before what comes after it."""
    got: list[dict[str, Any]] = []
    few = service(Queue("q", partitions=3), got, order_by="key")
    many = service(Queue("q", partitions=5), got, order_by="key")
    url = BrokerUrl.parse(mqkit_vhost)
    assert await applied(mqkit_vhost, few) == []
    async with Load(mqkit_vhost) as load:
        async with Runtime(few, url):
            await eventually(lambda: len(got) > 50)
        assert await applied(mqkit_vhost, many) == []
        async with Runtime(many, url):
            await load.stop()
            await eventually(lambda: len(pairs(got)) == len(load.sent), 60.0)
    assert in_order(got)
    assert len(got) == len(load.sent)


async def test_a_service_that_does_not_let_go_is_named(mqkit_embedded: Broker, name: str) -> None:
    """What is published waits, the queue is as it was, and the next attempt ends it."""
    url, got = mqkit_embedded.url, list[dict[str, Any]]()
    before, wanted = service(Queue(name, type="classic"), got), service(Queue(name), got)
    async with Runtime(before, BrokerUrl.parse(url)), connected(url) as client:
        async with provisioning(url, wanted, wait=0.5) as (it, _):
            plan = await it.plan()
            with pytest.raises(TopologyError, match="stop the service"):
                await it.apply(plan)
        await client.publisher.publish(payments, "order.x", {"key": "a", "number": 1})
        async with provisioning(url, wanted) as (it, _):
            assert any("was begun" in str(each) for each in (await it.plan()).changes)
    assert await applied(url, wanted) == []
    async with Runtime(wanted, BrokerUrl.parse(url)):
        await eventually(lambda: len(got) == 1)
