"""Batches that keep an order, on real queues."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest
from sqlalchemy import text
from tenacity import stop_after_attempt, wait_fixed

from mqkit import BrokerUrl, Delivery, Queue, Reject, Retry, Runtime, Service
from mqkit.store import Store, Transaction
from mqkit.testing.brokers.broker import Broker
from tests.integration.test_order import Ledger, Posting, postings, send
from tests.support import connected, eventually

pytestmark = pytest.mark.usefixtures("driver")

Results = list[Exception | None]


@pytest.mark.parametrize("partitions", [1, 3])
async def test_each_key_is_once_in_a_batch_in_its_order_and_retries_hold_only_their_key(
    broker: Broker, name: str, partitions: int
) -> None:
    """With failures in between: a key's messages come in their order, and never two in a run."""
    ledger = Ledger()
    sizes: list[int] = []
    service = Service(name, retry=Retry(stop=stop_after_attempt(5), wait=wait_fixed(0.05)))
    queue = Queue(f"{name}.q", partitions=partitions)

    @service.batch(queue, size=10, within=0.02, concurrency=2, order_by="account")
    async def post(batch: list[Posting], deliveries: list[Delivery]) -> Results:
        sizes.append(len(batch))
        results: Results = []
        for posting in batch:
            ledger.begin(posting)
        await asyncio.sleep(0.001)
        for posting, delivery in zip(batch, deliveries, strict=True):
            fails = posting.number % 3 == 0 and delivery.attempt < 3
            ledger.end(posting, done=not fails)
            results.append(ValueError() if fails else None)
        return results

    await send(broker.url, service, queue.name, postings(8, 9))
    async with Runtime(service, BrokerUrl.parse(broker.url)):
        await eventually(lambda: ledger.count == 72, 60)
    assert all(numbers == list(range(9)) for numbers in ledger.handled.values())
    assert ledger.most_of_one == 1
    assert max(sizes) > 1
    async with connected(broker.url) as client:
        for each in (queue, *queue.partition_queues()):
            assert await client.messages(each.name) == 0
        assert await client.messages(queue.dead_queue) == 0


async def test_what_dies_of_a_batch_lets_the_next_of_its_key_go_on(
    broker: Broker, name: str
) -> None:
    """Rejected, out of attempts, without a key, no body: each is dead alone, and the rest done."""
    ledger = Ledger()
    service = Service(name, retry=Retry(stop=stop_after_attempt(2), wait=wait_fixed(0.02)))
    queue = Queue(f"{name}.q", partitions=2)

    def account(posting: Posting) -> str:
        if posting.number == 3:
            raise LookupError(posting.account)
        return posting.account

    @service.batch(queue, size=10, within=0.02, order_by=account)
    async def post(batch: list[Posting]) -> Results:
        results: Results = []
        for posting in batch:
            if (error := {1: Reject("no"), 2: ValueError()}.get(posting.number)) is None:
                ledger.end(posting)
            results.append(error)
        return results

    await send(broker.url, service, queue.name, [*postings(3, 5), {"nonsense": 1}])
    async with Runtime(service, BrokerUrl.parse(broker.url)):
        await eventually(lambda: ledger.count == 6)
        async with connected(broker.url) as client:

            async def dead() -> bool:
                return await client.messages(queue.dead_queue) == 10

            await eventually(dead)
            found = await client.take_all(queue.dead_queue)
    assert ledger.handled == {f"a{n}": [0, 4] for n in range(3)}
    reasons = Counter(each.properties.headers["mqkit-reason"] for each in found)
    assert reasons == {"rejected": 3, "attempts-exhausted": 3, "no-order-key": 3, "undecodable": 1}


async def test_a_stop_gives_back_what_a_batch_holds_for_its_retry_in_order(
    broker: Broker, name: str
) -> None:
    """A message of a batch that is held when the service stops is the first of its key then."""
    seen: list[int] = []
    queue = Queue(f"{name}.q", partitions=1)
    works = asyncio.Event()

    def service() -> Service:
        made = Service(name, retry=Retry(stop=stop_after_attempt(9), wait=wait_fixed(60)))

        @made.batch(queue, size=10, within=0.01, order_by="account")
        async def post(batch: list[Posting]) -> None:
            if not works.is_set():
                seen.append(-1)
                raise ValueError
            seen.extend(each.number for each in batch)

        return made

    url = BrokerUrl.parse(broker.url)
    await send(broker.url, service(), queue.name, postings(1, 5))
    async with asyncio.timeout(60), Runtime(service(), url, grace=3600):
        await eventually(lambda: seen == [-1])
    works.set()
    async with Runtime(service(), url):
        await eventually(lambda: len(seen) == 6)
    assert seen == [-1, 0, 1, 2, 3, 4]


async def test_partitions_of_batches_move_in_order_when_a_service_stops(
    rabbitmq: Broker, name: str
) -> None:
    """Two take turns: whoever stops finishes its batches, and the other goes on after them."""
    ledger = Ledger()
    queue = Queue(f"{name}.q", partitions=4)

    def service() -> Service:
        made = Service(name, retry=Retry.never())

        @made.batch(queue, size=10, within=0.005, order_by="account")
        async def post(batch: list[Posting]) -> None:
            for posting in batch:
                ledger.begin(posting)
            await asyncio.sleep(0.002)
            for posting in batch:
                ledger.end(posting)

        return made

    url = BrokerUrl.parse(rabbitmq.url)
    await send(rabbitmq.url, service(), queue.name, postings(20, 60))
    async with Runtime(service(), url):
        for step in range(1, 5):
            async with Runtime(service(), url):
                await eventually(lambda: ledger.count >= step * 200, 60)  # noqa: B023
        await eventually(lambda: ledger.count >= 1200, 60)
    assert ledger.most_of_one == 1
    in_order = list(range(60))
    assert {key: each for key, each in ledger.handled.items() if each != in_order} == {}


async def test_effects_of_ordered_batches_are_once_and_in_order(
    broker: Broker, name: str, tmp_path: Path
) -> None:
    """A transaction for each run: rows of a key come in its order, copies of messages add none."""
    store = Store(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    service = Service(
        name, store=store, retry=Retry(stop=stop_after_attempt(5), wait=wait_fixed(0.02))
    )
    queue = Queue(f"{name}.q", partitions=1)
    failed: set[tuple[str, int]] = set()
    async with store, store.transaction() as transaction:
        await transaction.execute(text("CREATE TABLE posting (account TEXT, number INT)"))

    @service.batch(queue, size=20, within=0.01, order_by="account")
    async def post(batch: list[Posting], transaction: Transaction) -> Results:
        results: Results = []
        for each in batch:
            if each.number == 2 and (key := (each.account, each.number)) not in failed:
                failed.add(key)
                results.append(ValueError("once"))
                continue
            row = {"account": each.account, "number": each.number}
            await transaction.execute(text("INSERT INTO posting VALUES (:account, :number)"), row)
            results.append(None)
        return results

    items = postings(10, 5)
    await send(broker.url, service, queue.name, items)
    await send(broker.url, service, queue.name, items)  # under the same ids
    async with Runtime(service, BrokerUrl.parse(broker.url)), connected(broker.url) as client:

        async def done() -> bool:
            return await client.messages(queue.name) == 0

        await eventually(done, 30)
    async with store, store.transaction() as transaction:
        rows = await transaction.execute(text("SELECT account, number FROM posting ORDER BY rowid"))
        found: dict[str, list[int]] = {}
        for row in rows:
            found.setdefault(row.account, []).append(row.number)
    assert found == {f"a{n}": list(range(5)) for n in range(10)}
    assert len(failed) == 10
