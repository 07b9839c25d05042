"""A saga whose processes are killed at each of its steps has one end, and leaves no hold."""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from pathlib import Path

import pytest
from sqlalchemy import text

from mqkit.sagas import SagaStatus
from mqkit.store import Store
from mqkit.testing.brokers.broker import Broker
from tests.faults import failpoints
from tests.faults.nurseries import Nursery
from tests.faults.saga_services import TABLES, orders, world
from tests.support import Client, connected, eventually
from tests.unit.sagas.support import ORDERS, RISK, PlaceOrder, RiskAnswered

pytestmark = [pytest.mark.in_turn]

IS_LONG = bool(os.environ.get("MQKIT_TEST_LONG"))

POINTS = (
    "before:mqkit.sagas.running.SagaRunner.handle",
    "before:mqkit.sagas.running.Run.publish",
    "before:mqkit.sagas.running.Run.publish_own",
    "before:mqkit.store.sagas.StoredSagas.insert",
    "after:mqkit.store.sagas.StoredSagas.insert",
    "before:mqkit.store.sagas.StoredSagas.update",
    "after:mqkit.store.sagas.StoredSagas.update",
    "after:mqkit.sagas.running.SagaRunner.handle",
    "after:mqkit.store.running.once.Once.finish",
    "after:mqkit.store.store.Store.run_once",
    "before:mqkit.consuming.settler.Settler.settle",
    "before:mqkit.store.outbox.Claim.mark",
)
"""On the way of a message: found, published, written, committed, acked, relayed."""

DEATHS = 25 if IS_LONG else 1
"""At each point: 300 in the long form."""

ORDERS_A_DEATH = 4

PATIENCE = 2.0


async def rows(store: Store, statement: str) -> list[tuple[str, ...]]:
    """What a query returns."""
    async with store.transaction() as transaction:
        return [tuple(row) for row in await transaction.execute(text(statement))]


async def left(client: Client) -> dict[str, int]:
    """The queues of the services that have messages, dead letters included."""
    names = [each.name for service in (orders, world) for each in service.topology.queues]
    counts = {name: await client.messages(name) for name in names}
    return {name: count for name, count in counts.items() if count}


@pytest.mark.long
@pytest.mark.timeout(900 if IS_LONG else 180)
async def test_killed_at_each_step_each_order_has_one_end(
    broker: Broker, mqkit_vhost: str, database: str, tmp_path: Path
) -> None:
    """Executed and its amount held, or refused and nothing held; no message without its state."""
    arm = {point: tmp_path / f"tickets{n}" for n, point in enumerate(POINTS)}
    for tickets in arm.values():
        failpoints.issue(tickets, DEATHS)
    kills = len(POINTS) * DEATHS
    ids = [f"o-{n:05}" for n in range(max(kills * ORDERS_A_DEATH, 60))]
    targets = {f"tests.faults.saga_services:{name}": 2 for name in ("orders", "world")}
    environment = {"MQKIT_STORE": database, "TEST_PATIENCE": str(PATIENCE)}
    async with Store(database, relay=False) as store, connected(mqkit_vhost) as client:
        for table in TABLES:
            async with store.transaction() as transaction:
                await transaction.execute(text(table))

        async def are_completed() -> bool:
            nursery.check()
            await asyncio.sleep(0.5)  # so as not to be what they wait for
            done = await store.sagas(status=SagaStatus.COMPLETED, limit=10 * len(ids))
            return len(done) == len(ids)

        async def is_quiet() -> bool:
            return await store.pending() == 0 and await left(client) == {}

        with Nursery(targets, mqkit_vhost, tmp_path / "log", arm=arm, **environment) as nursery:
            await eventually(lambda: consumes(client), within=60, what="consuming")
            for order_id in ids:
                await client.publisher.publish(ORDERS, "order.place", PlaceOrder(order_id=order_id))
                await asyncio.sleep(0.05 if IS_LONG else 0)
            await nursery.kills(kills, within=600 if IS_LONG else 90)
            await eventually(are_completed, within=400 if IS_LONG else 90, what="completion")
            await eventually(is_quiet, within=60, what="silence")
            await nursery.stop()
        ends = await rows(store, "SELECT order_id, how FROM ends")
        assert Counter(order_id for order_id, _ in ends) == Counter(ids)
        held = {i for i, state in await rows(store, "SELECT * FROM holds") if state == "held"}
        assert held == {order_id for order_id, how in ends if how == "executed"}
        # A timeout that was still held when the services stopped is in its queue by now.
        assert {name for name in await left(client) if ".timeout." not in name} == set()


@pytest.mark.timeout(180)
async def test_eight_processes_at_one_saga(
    broker: Broker, mqkit_vhost: str, database: str, tmp_path: Path
) -> None:
    """Its start comes a hundred times, and so does each answer: it runs once, and has one end."""
    targets = {"tests.faults.saga_services:orders": 8, "tests.faults.saga_services:world": 1}
    environment = {"MQKIT_STORE": database, "TEST_PATIENCE": str(PATIENCE)}
    times = range(100)
    async with Store(database, relay=False) as store, connected(mqkit_vhost) as client:
        for table in TABLES:
            async with store.transaction() as transaction:
                await transaction.execute(text(table))

        async def are_handled() -> bool:
            nursery.check()
            await asyncio.sleep(0.5)
            (story,) = await store.saga("o-1")
            came = Counter(entry.message_type for entry in story.history)
            return came["PlaceOrder"] == len(times) and came["RiskAnswered"] >= len(times)

        with Nursery(targets, mqkit_vhost, tmp_path / "log", arm=None, **environment) as nursery:
            await eventually(lambda: consumes(client), within=60, what="consuming")
            publish = client.publisher.publish
            await asyncio.gather(
                *(publish(ORDERS, "order.place", PlaceOrder(order_id="o-1")) for _ in times)
            )
            await eventually(lambda: has_begun(store), within=60, what="the start")
            await asyncio.gather(
                *(publish(RISK, "risk.answered", RiskAnswered(order_id="o-1")) for _ in times)
            )
            await eventually(are_handled, within=60, what="all of them")
            await eventually(lambda: is_completed(store), within=60, what="completion")
            await eventually(lambda: has_ended(store), within=60, what="the end")
            await nursery.stop()
        (story,) = await store.saga("o-1")
        ran = Counter(e.message_type for e in story.history if e.result == "ran")
        assert ran["PlaceOrder"] == 1
        published = [each for e in story.history for each in json.loads(e.published)]
        keys = Counter(each["routing_key"] for each in published)
        assert (keys["risk.check"], keys["ledger.hold"]) == (1, 1)
        assert keys["order.executed"] + keys["order.refused"] == 1
        assert len(await rows(store, "SELECT order_id FROM ends")) == 1
        assert set((await left(client)).keys()) <= {each for each in keys if ".timeout." in each}


async def has_begun(store: Store) -> bool:
    """Whether the saga is there."""
    return bool(await store.saga("o-1"))


async def is_completed(store: Store) -> bool:
    """Whether it is over."""
    return (await store.saga("o-1"))[0].saga.status == SagaStatus.COMPLETED


async def has_ended(store: Store) -> bool:
    """Whether its end was told to others."""
    return bool(await rows(store, "SELECT order_id FROM ends"))


async def consumes(client: Client) -> bool:
    """Whether all queues have a consumer, as those that are killed early are restarted."""
    try:
        return (
            await client.consumers("orders.place") > 0 and await client.consumers("world.ends") > 0
        )
    except Exception:  # noqa: BLE001 - not declared yet
        return False
