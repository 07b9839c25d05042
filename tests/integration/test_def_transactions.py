"""`def` handlers with a store's transaction, on a real broker: each message has one effect."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from pydantic import BaseModel
from sqlalchemy import text
from tenacity import stop_after_attempt, wait_none

from mqkit import BrokerUrl, Delivery, Queue, Retry, Runtime, Service
from mqkit.store import Store, SyncTransaction
from mqkit.testing.brokers.broker import Broker
from mqkit.testing.harness.run import harness
from tests.support import Client, connected, eventually

pytestmark = pytest.mark.in_turn(embedded=True)

INSERT = text("INSERT INTO work VALUES (:id)")


class Order(BaseModel):
    """A body."""

    id: str


@asynccontextmanager
async def work(database: str) -> AsyncIterator[Store]:
    """A store beside the service's, and a table that takes an order twice."""
    async with Store(database, relay=False) as store:
        async with store.transaction() as transaction:
            await transaction.execute(text("CREATE TABLE work (id VARCHAR(80))"))
        yield store


async def done(store: Store) -> list[str]:
    """Orders that have had their effect, as often as they had it."""
    async with store.transaction() as transaction:
        found = await transaction.execute(text("SELECT id FROM work ORDER BY id"))
        return list(found.scalars())


async def send(client: Client, queue: str, ids: list[str]) -> None:
    """Orders with these ids, all at once."""
    sent = (client.publisher.publish("", queue, {"id": each}, message_id=each) for each in ids)
    await asyncio.gather(*sent)


async def published(client: Client, queue: str) -> list[str]:
    """Ids of what came of them."""
    return sorted(m.properties.message_id or "" for m in await client.take_all(queue))


def post(order: Order, transaction: SyncTransaction, out: str) -> None:
    """Work, and a message of it."""
    transaction.execute(INSERT, {"id": order.id})
    transaction.publish("", out, order, key=order.id[-1], message_id=f"{order.id}.posted")


async def test_each_message_has_one_effect_over_failures_and_redelivery(
    broker: Broker, database: str, name: str
) -> None:
    """Each comes twice and fails once, after its work; then its channel dies before the acks."""
    ids = [f"o{i:02}" for i in range(40)]
    failed: Counter[str] = Counter()
    queue, out = Queue(f"{name}.q"), f"{name}.out"
    retry = Retry(stop=stop_after_attempt(5), wait=wait_none())
    service = Service(name, retry=retry, store=Store(database))

    @service.handler(queue, concurrency=8)
    def handle(order: Order, transaction: SyncTransaction) -> None:
        post(order, transaction, out)
        failed[order.id] += 1
        if failed[order.id] == 1:
            raise LookupError

    async with work(database) as store, connected(broker.url) as client:
        await client.declare(out)
        async with Runtime(service, BrokerUrl.parse(broker.url)):
            await send(client, queue.name, ids + ids)

            async def are_posted() -> bool:
                is_sent = await client.messages(out) >= len(ids)
                return is_sent and await client.messages(queue.name) == 0

            await eventually(are_posted, within=60)
        assert await done(store) == ids
        assert await published(client, out) == [f"{each}.posted" for each in ids]
        assert await client.messages(queue.dead_queue) == 0


async def test_a_run_past_its_timeout_has_no_effect_and_its_message_one(
    broker: Broker, database: str, name: str
) -> None:
    """The thread goes on, its transaction does not: others write meanwhile."""
    goes_on, runs = threading.Event(), list[int]()
    queue, out = Queue(f"{name}.q"), f"{name}.out"
    retry = Retry(stop=stop_after_attempt(5), wait=wait_none())
    service = Service(name, retry=retry, store=Store(database))

    @service.handler(queue, concurrency=2, timeout=1)
    def handle(order: Order, transaction: SyncTransaction, delivery: Delivery) -> None:
        runs.append(delivery.attempt)
        post(order, transaction, out)
        if delivery.attempt == 1:
            goes_on.wait(20)

    async with work(database) as store, connected(broker.url) as client:
        await client.declare(out)
        async with Runtime(service, BrokerUrl.parse(broker.url)):
            await send(client, queue.name, ["o"])
            await eventually(lambda: len(runs) == 1)

            async def is_retried() -> bool:
                known = await store.status("o")
                # Its second delivery may be noted before the retry was written.
                return any(each.state == "retrying" or each.attempt == 2 for each in known)

            await eventually(is_retried)
            goes_on.set()

            async def is_posted() -> bool:
                return await client.messages(out) == 1 and await client.messages(queue.name) == 0

            await eventually(is_posted)
        assert runs == [1, 2]
        assert await done(store) == ["o"]
        assert await published(client, out) == ["o.posted"]


async def test_a_stop_gives_up_a_thread_and_its_message_is_handled_later(
    broker: Broker, database: str, name: str
) -> None:
    """Nothing of the run that was given up is there, however late its thread ends."""
    began, goes_on = threading.Event(), threading.Event()
    queue, out = Queue(f"{name}.q"), f"{name}.out"
    service = Service(name, retry=Retry.never(), store=Store(database))

    @service.handler(queue)
    def handle(order: Order, transaction: SyncTransaction) -> None:
        post(order, transaction, out)
        if not began.is_set():
            began.set()
            goes_on.wait(20)

    async with work(database) as store, connected(broker.url) as client:
        await client.declare(out)
        async with Runtime(service, BrokerUrl.parse(broker.url), grace=0.2):
            await send(client, queue.name, ["o"])
            await eventually(began.is_set)
        async with Runtime(service, BrokerUrl.parse(broker.url)):

            async def is_posted() -> bool:
                return await client.messages(out) == 1 and await client.messages(queue.name) == 0

            await eventually(is_posted)
        goes_on.set()
        assert await done(store) == ["o"]
        assert await published(client, out) == ["o.posted"]


async def test_a_harness_runs_def_handlers_with_their_transactions(
    broker: Broker, database: str, name: str
) -> None:
    """What they publish is handled, and a message that comes twice is handled once."""
    queue, out = Queue(f"{name}.q"), Queue(f"{name}.out")
    service = Service(name, retry=Retry.never(), store=Store(database))

    @service.handler(queue)
    def handle(order: Order, transaction: SyncTransaction) -> None:
        post(order, transaction, out.name)

    @service.handler(out)
    def report(order: Order, transaction: SyncTransaction) -> None:
        transaction.execute(INSERT, {"id": f"{order.id}.posted"})

    async with work(database) as store, harness(service, broker) as h:
        for _ in range(2):
            await h.publish("", queue.name, {"id": "o"}, message_id="o")
            await h.idle()
        assert await done(store) == ["o", "o.posted"]
        assert len(h.published) == 1


async def test_a_batch_has_one_effect_for_each_of_its_messages(
    broker: Broker, database: str, name: str
) -> None:
    """All of them come twice, and one of each batch fails the first time."""
    ids = [f"o{i:02}" for i in range(30)]
    failed: set[str] = set()
    queue, out = Queue(f"{name}.q"), f"{name}.out"
    retry = Retry(stop=stop_after_attempt(9), wait=wait_none())
    service = Service(name, retry=retry, store=Store(database))

    @service.batch(queue, size=10, within=0.1)
    def handle(orders: list[Order], transaction: SyncTransaction) -> None:
        for order in orders:
            post(order, transaction, out)
        if not {order.id for order in orders} & failed:
            failed.add(orders[0].id)
            raise LookupError

    async with work(database) as store, connected(broker.url) as client:
        await client.declare(out)
        async with Runtime(service, BrokerUrl.parse(broker.url)):
            await send(client, queue.name, ids + ids)

            async def are_posted() -> bool:
                is_sent = await client.messages(out) >= len(ids)
                return is_sent and await client.messages(queue.name) == 0

            await eventually(are_posted, within=60)
        assert failed
        assert await done(store) == ids
        assert await published(client, out) == [f"{each}.posted" for each in ids]
