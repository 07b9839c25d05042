"""A service with a store on a real broker: each message has its effect, and once."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import Column, MetaData, String, Table, text
from tenacity import stop_after_attempt, wait_none

from mqkit import BrokerUrl, Delivery, Exchange, Queue, Retry, Service
from mqkit.errors import RequestFailedError
from mqkit.runtime import Runtime
from mqkit.store import State, Store, Transaction
from mqkit.testing.brokers.finder import Broker
from tests.postgres import PostgresServer
from tests.support import Client, connected, eventually, running

SERVICES = "tests.integration.store_services"


@asynccontextmanager
async def ledger(database: str) -> AsyncIterator[Store]:
    """A store beside the service's, and the tables of its work."""
    async with Store(database, relay=False) as store:
        async with store.transaction() as transaction:
            for name in ("postings", "notices"):
                await transaction.execute(
                    text(f"CREATE TABLE {name} (order_id VARCHAR(80), amount INTEGER)")
                )
        yield store


async def column(store: Store, name: str, table: str) -> list[str]:
    """A column of a table, sorted."""
    async with store.transaction() as transaction:
        found = await transaction.execute(text(f"SELECT {name} FROM {table} ORDER BY {name}"))  # noqa: S608
        return list(found.scalars())


async def send(client: Client, name: str, ids: list[str]) -> None:
    """Orders with these ids, all at once."""
    await asyncio.gather(
        *(
            client.publisher.publish("", f"{name}.orders", {"id": id_, "amount": i}, message_id=id_)
            for i, id_ in enumerate(ids)
        )
    )


@pytest.mark.in_turn
async def test_two_processes_do_the_work_of_each_message_once(
    broker: Broker, database: str, name: str, tmp_path: Path
) -> None:
    """Each order came twice and each arrives, in the ledger and, by its outbox, at the next one."""
    ids = [f"o{i:03}" for i in range(60)]
    environment = {"MQKIT_STORE": database, "TEST_NAME": name}
    async with ledger(database) as store, connected(broker.url) as client:
        with ExitStack() as stack:
            processes = [
                stack.enter_context(
                    running(f"{SERVICES}:both", broker.url, tmp_path / f"log{i}", **environment)
                )
                for i in range(2)
            ]
            for process in processes:
                await process.says(f"{name}.out: consuming")
            await send(client, name, ids)
            await send(client, name, ids)

            async def is_done() -> bool:
                return (
                    len(await column(store, "order_id", "notices")) >= len(ids)
                    and await store.pending() == 0
                    and await client.messages(f"{name}.orders") == 0
                )

            await eventually(is_done, within=60)
            for process in processes:
                process.send(signal.SIGTERM)
            for process in processes:
                assert await process.ends() == 0, process.text()
        assert await column(store, "order_id", "postings") == ids
        assert await column(store, "order_id", "notices") == ids
        assert await client.messages(f"{name}.orders.dead") == 0
        (status,) = await store.status("o007")
        assert (status.state, status.result) == (State.SUCCEEDED, {"amount": 7})
        assert (await store.status("o007.posted"))[0].state is State.SUCCEEDED


@pytest.mark.in_turn
async def test_a_stop_confirms_and_marks_what_its_relay_has_written(
    broker: Broker, database: str, name: str, tmp_path: Path
) -> None:
    """After SIGTERM each posting's message is published, or in the outbox, and not both."""
    ids = [f"o{i:03}" for i in range(400)]
    environment = {"MQKIT_STORE": database, "TEST_NAME": name}
    async with ledger(database) as store, connected(broker.url) as client:
        await client.declare(f"{name}.out")
        with running(f"{SERVICES}:source", broker.url, tmp_path / "log", **environment) as process:
            await process.says(f"{name}.orders: consuming")
            await send(client, name, ids)

            async def has_begun() -> bool:
                return await client.messages(f"{name}.out") > 10

            await eventually(has_begun)
            process.send(signal.SIGTERM)
            assert await process.ends() == 0, process.text()
        done = [f"{id_}.posted" for id_ in await column(store, "order_id", "postings")]
        left = await column(store, "message_id", "mqkit_outbox")
        published = [m.properties.message_id or "" for m in await client.take_all(f"{name}.out")]
        assert sorted([*left, *published]) == done
        assert len(done) >= 10


async def test_a_failed_run_s_messages_are_never_published(
    broker: Broker, database: str, name: str
) -> None:
    """The attempt that fails leaves nothing; the one that succeeds publishes once."""
    service = Service(name, retry=Retry.never(), store=Store(database))

    @service.handler(Queue(f"{name}.in"), retry=Retry(stop=stop_after_attempt(3), wait=wait_none()))
    async def handle(delivery: Delivery, transaction: Transaction) -> None:
        await transaction.publish("", f"{name}.out", f"attempt {delivery.attempt}".encode())
        if delivery.attempt == 1:
            raise LookupError

    async with connected(broker.url) as client:
        await client.declare(f"{name}.out")
        async with Runtime(service, BrokerUrl.parse(broker.url)):
            await client.publisher.publish("", f"{name}.in", b"", message_id="m")
            incoming = await client.take(f"{name}.out")
            assert incoming.body == b"attempt 2"
            assert incoming.properties.app_id is None
        assert await client.messages(f"{name}.out") == 0


@pytest.mark.in_turn
async def test_each_message_of_a_batch_has_its_effect_once(
    broker: Broker, database: str, name: str
) -> None:
    """Each came twice; all of the first run is rolled back, and one fails alone in the next."""
    runs: list[list[str]] = []
    policy = Retry(stop=stop_after_attempt(3), wait=wait_none())
    service = Service(name, retry=policy, store=Store(database))

    @service.batch(Queue(f"{name}.orders"), size=4, within=1.0)
    async def post(orders: list[dict[str, str | int]], transaction: Transaction) -> list[object]:
        runs.append([str(order["id"]) for order in orders])
        is_first = len(runs) == 1
        fails = not is_first and not any("o2" in run for run in runs[1:-1])
        results: list[object] = []
        for order in orders:
            if fails and order["id"] == "o2":
                results.append(ValueError("alone"))
                continue
            insert = text("INSERT INTO postings (order_id, amount) VALUES (:id, :amount)")
            await transaction.execute(insert, order)
            posted = f"{order['id']}.posted"
            await transaction.publish("", f"{name}.out", order, key="all", message_id=posted)
            results.append(order["id"])
        if is_first:
            raise LookupError("all")
        return results

    ids = [f"o{number}" for number in range(4)]
    async with ledger(database) as store, connected(broker.url) as client:
        await client.declare(f"{name}.out")
        async with Runtime(service, BrokerUrl.parse(broker.url)):
            await send(client, name, ids)
            await send(client, name, ids)

            async def is_done() -> bool:
                states = [status.state for id_ in ids for status in await store.status(id_)]
                return (
                    states == [State.SUCCEEDED] * 4
                    and await store.pending() == 0
                    and await client.messages(f"{name}.orders") == 0
                )

            await eventually(is_done)
        assert sorted(runs[0]) == ids
        assert sorted(each for run in runs[1:] for each in run) == [*ids[:3], "o2", "o3"]
        assert await column(store, "order_id", "postings") == ids
        published = [m.properties.message_id for m in await client.take_all(f"{name}.out")]
        assert sorted(map(str, published)) == [f"{id_}.posted" for id_ in ids]
        assert await client.messages(f"{name}.orders.dead") == 0
        assert (await store.status("o1"))[0].result == "o1"


@pytest.mark.in_turn
async def test_a_row_that_is_refused_dead_letters_its_message_alone(
    broker: Broker, database: str, name: str
) -> None:
    """Others that share its commit, and came twice, have their row and their event once."""
    entries = Table("entries", MetaData(), Column("id", String(80), primary_key=True))
    service = Service(name, retry=Retry.never(), store=Store(database))

    @service.handler(Queue(f"{name}.orders"), prefetch=50)
    async def post(order: dict[str, str | int], transaction: Transaction) -> None:
        transaction.add(entries, {"id": str(order["id"])})
        posted = f"{order['id']}.posted"
        await transaction.publish("", f"{name}.out", order, key="all", message_id=posted)

    ids = [f"o{number:02}" for number in range(30)]
    good = [each for each in ids if each != "o17"]
    async with Store(database, relay=False) as store, connected(broker.url) as client:
        async with store.transaction() as transaction:
            await transaction.connection.run_sync(entries.metadata.create_all)
            transaction.add(entries, {"id": "o17"})
        await client.declare(f"{name}.out")
        async with Runtime(service, BrokerUrl.parse(broker.url)):
            for _ in range(2):
                await send(client, name, ids)
                dead = await client.take(f"{name}.orders.dead")
                assert dead.properties.message_id == "o17"
                assert "IntegrityError" in str(dead.properties.headers["mqkit-error-type"])

            async def is_done() -> bool:
                return (
                    await column(store, "id", "entries") == ids
                    and await store.pending() == 0
                    and await client.messages(f"{name}.orders") == 0
                )

            await eventually(is_done)
        published = [m.properties.message_id for m in await client.take_all(f"{name}.out")]
        assert sorted(map(str, published)) == [f"{id_}.posted" for id_ in good]
        assert await client.messages(f"{name}.orders.dead") == 0


@pytest.mark.in_turn
async def test_what_is_in_the_outbox_at_the_start_waits_for_the_topology(
    broker: Broker, database: str, name: str
) -> None:
    """A service that declares the queue which it publishes to is refused nothing."""
    async with Store(database, relay=False) as store, store.transaction() as transaction:
        await transaction.publish("", f"{name}.in", b"early", message_id="early")
    service = Service(name, retry=Retry.never(), store=Store(database))
    came = asyncio.Event()

    @service.handler(Queue(f"{name}.in"))
    async def handle(body: bytes, transaction: Transaction) -> None:
        came.set()

    async with Runtime(service, BrokerUrl.parse(broker.url)):
        async with asyncio.timeout(20):
            await came.wait()
        assert service.store is not None
        async with Store(database, relay=False) as store:
            (row,) = [s for s in await store.status("early") if s.handler is not None]
            assert row.attempt == 1
            assert not [s for s in await store.status("early") if s.error]


async def test_what_a_transaction_publishes_arrives_as_from_a_publisher(
    broker: Broker, database: str, name: str
) -> None:
    """Body, headers and properties are those of the publish."""
    async with connected(broker.url) as client:
        await client.declare(f"{name}.out")
        async with Store(database) as store:
            store.start(client.publisher.send)
            async with store.transaction(app_id="web") as transaction:
                await transaction.publish("", f"{name}.out", {"n": 1}, headers={"x": b"\0"})
            incoming = await client.take(f"{name}.out")
        assert json.loads(incoming.body) == {"n": 1}
        assert incoming.properties.headers["x"] == b"\0"
        assert (incoming.properties.app_id, incoming.properties.persistent) == ("web", True)


@pytest.mark.in_turn
async def test_two_services_of_one_code_base_each_have_their_effect(
    broker: Broker, database: str, name: str
) -> None:
    """On one store, with handlers of one name; each message has its effect in both, and once."""
    events = Exchange(f"{name}.events", type="fanout")

    def make(region: str) -> Service:
        service = Service(f"{name}-{region}", retry=Retry.never(), store=Store(database))

        @service.handler(Queue(f"{name}.{region}"), bind=[events.key("")])
        async def post(body: dict[str, int], transaction: Transaction) -> None:
            await transaction.execute(
                text("INSERT INTO postings VALUES (:id, 1)"), {"id": f"{region}-{body['n']}"}
            )

        return service

    expected = sorted(f"{region}-{n}" for region in ("eu", "us") for n in range(10))
    url = BrokerUrl.parse(broker.url)
    async with ledger(database) as store, connected(broker.url) as client:
        async with Runtime(make("eu"), url), Runtime(make("us"), url):
            for _ in range(2):
                for n in range(10):
                    await client.publisher.publish(events, "", {"n": n}, message_id=f"m{n}")

            async def is_done() -> bool:
                return await column(store, "order_id", "postings") == expected

            await eventually(is_done)
        assert await column(store, "order_id", "postings") == expected


async def test_another_message_of_a_known_id_is_dead_lettered(
    broker: Broker, database: str, name: str
) -> None:
    """With the reason, which its sender is told in the place of the first one's result."""
    queue = Queue(f"{name}.pay")
    service = Service(name, retry=Retry.never(), store=Store(database))

    @service.handler(queue)
    async def pay(body: dict[str, int], transaction: Transaction) -> dict[str, int]:
        return {"paid": body["amount"]}

    async with connected(broker.url) as client, Runtime(service, BrokerUrl.parse(broker.url)):
        for _ in range(2):
            answer = await client.publisher.request(
                queue, {"amount": 5}, dict[str, int], message_id="pay-1", timeout=20
            )
            assert answer == {"paid": 5}
        with pytest.raises(RequestFailedError) as caught:
            await client.publisher.request(
                queue, {"amount": 700}, dict[str, int], message_id="pay-1", timeout=20
            )
        assert caught.value.reason == "id-reused"
        dead = await client.take(f"{name}.pay.dead")
        assert dead.body == b'{"amount":700}'
        assert dead.properties.headers["mqkit-reason"] == "id-reused"
        assert dead.properties.headers["mqkit-attempts"] == 1


async def test_a_slow_statement_is_run_as_often_as_the_policy_says(
    broker: Broker, postgres: PostgresServer, name: str
) -> None:
    """And its message is dead-lettered with what to do about it."""
    database = postgres.create_database(name)
    service = Service(name, store=Store(database, statement_timeout=0.3))
    runs: list[int] = []

    @service.handler(Queue(f"{name}.in"), retry=Retry(stop=stop_after_attempt(2), wait=wait_none()))
    async def handle(delivery: Delivery, transaction: Transaction) -> None:
        runs.append(delivery.attempt)
        await transaction.execute(text("SELECT pg_sleep(20)"))

    try:
        url = BrokerUrl.parse(broker.url)
        async with connected(broker.url) as client, Runtime(service, url):
            await client.publisher.publish("", f"{name}.in", b"", message_id="m")
            dead = await client.take(f"{name}.in.dead")
        assert runs == [1, 2]
        assert "statement_timeout" in str(dead.properties.headers["mqkit-error-message"])
    finally:
        postgres.drop_database(name)
