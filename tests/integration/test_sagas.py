"""Sagas in a service on a real broker: started, continued, timed out and undone."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from mqkit import Queue, Service
from mqkit.sagas import SagaStatus
from mqkit.store import Store
from mqkit.testing.brokers.finder import Broker
from mqkit.testing.harness.run import Harness, harness
from tests.unit.sagas.support import (
    LEDGER,
    ORDERS,
    RETRY,
    RISK,
    HoldAnswered,
    Payment,
    PlaceOrder,
    RiskAnswered,
)


def service_of(store: Store) -> tuple[Service, list[str]]:
    """A service with the saga; what the saga publishes is listed."""
    service, seen = Service("orders", store=store, retry=RETRY), list[str]()
    service.saga(Payment)

    @service.handler(
        Queue("others"),
        bind=[RISK.key("risk.check"), LEDGER.key("ledger.*"), ORDERS.key("order.executed")],
    )
    async def note(body: dict[str, str]) -> None:
        seen.append(body["order_id"])

    @service.handler(Queue("refused"), bind=[ORDERS.key("order.refused")])
    async def refused(body: dict[str, str]) -> None:
        seen.append(f"{body['order_id']}: {body['reason']}")

    return service, seen


async def status(store: Store, saga_id: str) -> str | None:
    """Where a saga stands."""
    found = await store.saga(saga_id)
    return found[0].saga.status if found else None


async def test_a_saga_goes_from_its_start_to_its_end(broker: Broker, database: str) -> None:
    """Each answer continues it, its messages come out, and its timeouts do nothing after."""
    store = Store(database)
    service, seen = service_of(store)
    async with harness(service, broker) as h:
        ids = [
            await h.publish(ORDERS, "order.place", PlaceOrder(order_id="o-1")),
            await h.publish(RISK, "risk.answered", RiskAnswered(order_id="o-2")),
        ]
        assert (await h.outcome(ids[0])).acked
        assert not (await h.outcome(ids[1])).acked
        for exchange, key, answer in (
            (RISK, "risk.answered", RiskAnswered(order_id="o-1")),
            (LEDGER, "hold.answered", HoldAnswered(order_id="o-1")),
        ):
            assert (await h.outcome(await h.publish(exchange, key, answer))).acked
        assert await status(store, "o-1") == SagaStatus.COMPLETED
        assert await status(store, "o-2") is None
