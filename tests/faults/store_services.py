"""The services with a store that rows run, in their own process or in one of theirs.

In a process of its own (`tests.faults.store_services:process()` is what `mqkit run` gets as
`tests.faults.store_processes:service`), the environment says where everything is.
"""

from __future__ import annotations

import asyncio

from tenacity import stop_after_attempt, wait_fixed

from mqkit import Delivery, Queue, Retry, Service
from mqkit.store import Store, Transaction
from tests.faults.ledger import FailedOnPurposeError, Order, post
from tests.faults.matrix.journal import Journal

QUEUE, EVENTS = "ledger", "ledger.events"
"""Of the orders, and of what the ledger publishes."""

RETRIES = Retry(stop=stop_after_attempt(20), wait=wait_fixed(0.1))


def posting(
    journal: Journal,
    store: Store,
    *,
    queue: Queue | None = None,
    concurrency: int = 10,
    prefetch: int = 10,
    timeout: float | None = None,
) -> Service:
    """A service that posts orders to the ledger."""
    service = Service("ledger", retry=RETRIES, store=store)

    @service.handler(
        queue or Queue(QUEUE, delivery_limit=10_000),
        concurrency=concurrency,
        prefetch=prefetch,
        timeout=timeout,
    )
    async def handle(order: Order, transaction: Transaction, delivery: Delivery) -> None:
        with journal.handling(
            order.key, message_id=delivery.message_id, redelivered=delivery.redelivered
        ):
            await post(order, transaction, EVENTS)
            await asyncio.sleep(order.seconds)
            if delivery.attempt <= order.failures:
                raise FailedOnPurposeError

    return service
