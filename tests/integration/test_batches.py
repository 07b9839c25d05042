"""Batches, on real queues."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from pydantic import BaseModel
from tenacity import stop_after_attempt, wait_none

from mqkit import BrokerUrl, Delivery, Outgoing, Queue, Reject, Retry, Runtime, Service
from mqkit.broker.declare import declare
from mqkit.testing.brokers.broker import Broker
from tests.support import Client, connected, eventually

pytestmark = [pytest.mark.usefixtures("driver"), pytest.mark.in_turn(embedded=True)]


class Score(BaseModel):
    """A body."""

    number: int


async def send(client: Client, service: Service, queue: Queue, bodies: list[Any]) -> None:
    """Publish them, in their order."""
    await declare(client.connection.channel, service.topology)
    messages = (Outgoing("", queue.name, b, message_id=f"m{n}") for n, b in enumerate(bodies))
    async for result in client.publisher.publish_many(messages):
        assert result.error is None


async def test_messages_come_together_by_size_and_by_time(broker: Broker, name: str) -> None:
    """Full batches at once, the rest when the time of its first one has passed, all acked."""
    batches: list[list[int]] = []
    queue = Queue(f"{name}.q")
    service = Service(name, retry=Retry.never())

    @service.batch(queue, size=10, within=0.3)
    async def score(scores: list[Score], deliveries: list[Delivery]) -> None:
        assert [each.message_id for each in deliveries] == [f"m{s.number}" for s in scores]
        batches.append([each.number for each in scores])

    async with connected(broker.url) as client:
        await send(client, service, queue, [Score(number=n) for n in range(34)])
        async with Runtime(service, BrokerUrl.parse(broker.url)):
            await eventually(lambda: sum(map(len, batches)) == 34)
        assert sorted(n for batch in batches for n in batch) == list(range(34))
        assert max(map(len, batches)) == 10
        assert len(batches) <= 5
        assert await client.messages(queue.name) == 0


@pytest.mark.parametrize("kind", ["async", "def"])
async def test_each_message_has_its_own_outcome(broker: Broker, name: str, kind: str) -> None:
    """Some done, one retried, one rejected, one that is no body: none drags others along."""
    seen: Counter[int] = Counter()
    queue = Queue(f"{name}.q")
    service = Service(name, retry=Retry(stop=stop_after_attempt(2), wait=wait_none()))

    def work(scores: list[Score]) -> list[object]:
        seen.update(each.number for each in scores)
        found: list[object] = []
        for each in scores:
            if each.number == 1 and seen[1] == 1:
                found.append(ValueError("again"))
            elif each.number == 2:
                found.append(Reject("no"))
            else:
                found.append(None)
        return found

    async def work_on_the_loop(scores: list[Score]) -> list[object]:
        return work(scores)

    service.batch(queue, size=5, within=0.1)(work if kind == "def" else work_on_the_loop)
    async with connected(broker.url) as client:
        bodies = [{"number": 0}, {"number": 1}, {"number": 2}, {"nonsense": 1}, {"number": 4}]
        await send(client, service, queue, bodies)
        async with Runtime(service, BrokerUrl.parse(broker.url)):
            await eventually(lambda: seen[1] == 2)

            async def are_dead() -> bool:
                return await client.messages(queue.dead_queue) == 2

            await eventually(are_dead)
        assert seen == {0: 1, 1: 2, 2: 1, 4: 1}
        assert await client.messages(queue.name) == 0


@pytest.mark.parametrize("wrong", [ValueError("all"), [None], 7])
async def test_what_a_batch_raises_is_the_failure_of_all(
    broker: Broker, name: str, wrong: Any
) -> None:
    """As is a result that is not one for each; the policy judges each message by itself."""
    runs: list[int] = []
    queue = Queue(f"{name}.q")
    service = Service(name, retry=Retry.never())

    @service.batch(queue, size=3, within=60)
    async def score(scores: list[Score]) -> Any:
        runs.append(len(scores))
        if isinstance(wrong, Exception):
            raise wrong
        return wrong

    async with connected(broker.url) as client:
        await send(client, service, queue, [Score(number=n) for n in range(3)])
        async with Runtime(service, BrokerUrl.parse(broker.url)):

            async def are_dead() -> bool:
                return await client.messages(queue.dead_queue) == 3

            await eventually(are_dead)
        assert runs == [3]


async def test_a_stop_handles_what_has_come_at_once(broker: Broker, name: str) -> None:
    """A batch that is not full is not waited for until its time has passed."""
    handled: list[int] = []
    queue = Queue(f"{name}.q")
    service = Service(name, retry=Retry.never())

    @service.batch(queue, size=100, within=600)
    async def score(scores: list[Score]) -> None:
        handled.extend(each.number for each in scores)

    async with connected(broker.url) as client:
        await send(client, service, queue, [Score(number=n) for n in range(7)])
        runtime = Runtime(service, BrokerUrl.parse(broker.url))
        async with runtime:
            await eventually(lambda: runtime.in_flight == 7)
        assert sorted(handled) == list(range(7))
        assert await client.messages(queue.name) == 0
        assert runtime.abandoned == 0


async def test_what_expires_while_its_batch_fills_is_dead_and_not_handled(
    broker: Broker, name: str
) -> None:
    """The time of a message goes on while it waits for others; those are handled without it."""
    runs: list[list[int]] = []
    queue = Queue(f"{name}.q")
    service = Service(name, retry=Retry.never())

    @service.batch(queue, size=9, within=2.5)
    async def score(scores: list[Score]) -> None:
        runs.append([each.number for each in scores])

    async with connected(broker.url) as client, Runtime(service, BrokerUrl.parse(broker.url)):
        await client.publisher.publish("", queue.name, Score(number=1), expiration=1.0)
        await client.publisher.publish("", queue.name, Score(number=2))
        dead = await client.take(queue.dead_queue)
        await eventually(lambda: bool(runs))
    assert dead.properties.headers["mqkit-reason"] == "expired"
    assert runs == [[2]]
