"""The services with a store that rows run: in their own process, or as a nursery's children.

A nursery's targets find the journal's path in `MQKIT_MATRIX_JOURNAL`, and the database in
`MQKIT_STORE`. They open both themselves, for nothing that is open may be shared by a fork.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

from tenacity import stop_after_attempt, wait_fixed

from mqkit import BrokerUrl, Delivery, Publisher, Queue, Retry, Runtime, Service
from mqkit.broker.connection import Connection
from mqkit.drivers import named
from mqkit.store import Store, SyncTransaction, Transaction
from mqkit.store.running import group_size
from tests.faults.ledger import FailedOnPurposeError, Order, post, post_all, post_in_thread
from tests.faults.matrix.journal import Journal

QUEUE, EVENTS = "ledger", "ledger.events"
"""Of the orders, and of what the ledger publishes."""

COMMITS = ("groups", "alone", "batches")
"""How the ledger's messages are committed: those that are ready share a transaction, or each has
its own, or the handler takes many."""

BATCH, WITHIN = 10, 0.02
"""Orders of a batch, and the seconds in which they come together."""

BULK = 200
"""Orders that are posted by the same statements."""

BATCHES = 3
"""At a time: where one is held up in its commit, others go on."""

GROUP_TIME = 1.0
"""Seconds that the handlers of a group run together here, at most. On a slow machine, which each
message takes longer than mqkit's own limit, all would have transactions of their own."""

RETRIES = Retry(stop=stop_after_attempt(20), wait=wait_fixed(0.1))

DELIVERY_LIMIT = 100_000
"""A worker's death brings back all that it held, and here hundreds die."""


def posting(
    journal: Journal | None,
    store: Store,
    *,
    queue: Queue | None = None,
    events: str = EVENTS,
    concurrency: int = 10,
    prefetch: int = 10,
    timeout: float | None = None,
) -> Service:
    """A service that posts orders to the ledger, and notes its runs if there is a journal."""
    service = Service("ledger", retry=RETRIES, store=store)
    orders = queue or Queue(QUEUE, delivery_limit=DELIVERY_LIMIT)
    commits = os.environ.get("MQKIT_MATRIX_COMMITS", COMMITS[0])
    if commits == "batches":
        _register_batch(service, journal, orders, events, prefetch, timeout)
        return service

    @service.handler(
        orders,
        concurrency=concurrency,
        prefetch=prefetch,
        timeout=timeout,
        share_commits=commits == "groups",
    )
    async def handle(order: Order, transaction: Transaction, delivery: Delivery) -> None:
        with _noted(journal, order, delivery):
            await post(order, transaction, events)
            await asyncio.sleep(order.seconds)
            if delivery.attempt <= order.failures:
                raise FailedOnPurposeError(order.key)

    return service


@contextlib.contextmanager
def sharing_more() -> Iterator[None]:
    """Let messages share a transaction however slow this machine is."""
    with mock.patch.multiple(
        group_size,
        GROUP_TIME=GROUP_TIME,
        LONGEST_GROUP=GROUP_TIME,
        WAITS=math.inf,
        STALL=GROUP_TIME,
    ):
        yield


def _register_batch(
    service: Service,
    journal: Journal | None,
    queue: Queue,
    events: str,
    prefetch: int,
    timeout: float | None,
) -> None:
    """Post many orders at a time: what one of them did is taken back where it fails."""
    size = min(BATCH, prefetch)

    @service.batch(
        queue,
        size=size,
        within=WITHIN,
        prefetch=prefetch,
        concurrency=BATCHES,
        timeout=timeout,
    )
    async def handle(
        orders: list[Order], transaction: Transaction, deliveries: list[Delivery]
    ) -> list[Exception | None]:
        results: list[Exception | None] = []
        with contextlib.ExitStack() as noted:
            for order, delivery in zip(orders, deliveries, strict=True):
                noted.enter_context(_noted(journal, order, delivery))
                # A message to the outbox cannot be taken back: who fails must do so before.
                if delivery.attempt <= order.failures:
                    results.append(FailedOnPurposeError(order.key))
                    continue
                await post(order, transaction, events)
                await asyncio.sleep(order.seconds)
                results.append(None)
        return results


def posting_in_threads(journal: Journal | None, store: Store) -> Service:
    """A service that does the same in `def` handlers."""
    service = Service("ledger", retry=RETRIES, store=store)

    @service.handler(Queue(QUEUE, delivery_limit=DELIVERY_LIMIT), concurrency=10, prefetch=10)
    def handle(order: Order, transaction: SyncTransaction, delivery: Delivery) -> None:
        with _noted(journal, order, delivery):
            post_in_thread(order, transaction, EVENTS)
            time.sleep(order.seconds)
            if delivery.attempt <= order.failures:
                raise FailedOnPurposeError(order.key)

    return service


def _noted(
    journal: Journal | None, order: Order, delivery: Delivery
) -> contextlib.AbstractContextManager[None]:
    if journal is None:
        return contextlib.nullcontext()
    return journal.handling(
        order.key, message_id=delivery.message_id, redelivered=delivery.redelivered
    )


async def busy_worker(url: BrokerUrl, stop: asyncio.Event) -> None:
    """Posts as many as it can, notes nothing, and leaves the outbox to others."""
    service = posting(None, Store(relay=False), concurrency=12, prefetch=50)
    await Runtime(service, url).run(stop)


async def bulk_worker(url: BrokerUrl, stop: asyncio.Event) -> None:
    """Does the same with many orders at a time, by a few statements for all of them."""
    service = Service("ledger", retry=RETRIES, store=Store(relay=False))

    @service.batch(
        Queue(QUEUE, delivery_limit=DELIVERY_LIMIT), size=BULK, within=WITHIN, prefetch=4 * BULK
    )
    async def handle(orders: list[Order], transaction: Transaction) -> None:
        await post_all(orders, transaction, EVENTS)

    await Runtime(service, url).run(stop)


async def worker(url: BrokerUrl, stop: asyncio.Event) -> None:
    """Posts, and leaves the outbox to others."""
    await _serve(url, stop, Store(relay=False))


async def worker_and_relay(url: BrokerUrl, stop: asyncio.Event) -> None:
    """Posts, and publishes what is in the outbox."""
    await _serve(url, stop, Store())


async def thread_worker_and_relay(url: BrokerUrl, stop: asyncio.Event) -> None:
    """Posts in `def` handlers, and publishes what is in the outbox."""
    journal = Journal(Path(os.environ["MQKIT_MATRIX_JOURNAL"]))
    await Runtime(posting_in_threads(journal, Store()), url).run(stop)


async def _serve(url: BrokerUrl, stop: asyncio.Event, store: Store) -> None:
    journal = Journal(Path(os.environ["MQKIT_MATRIX_JOURNAL"]))
    with sharing_more():
        await Runtime(posting(journal, store), url).run(stop)


async def relay(url: BrokerUrl, stop: asyncio.Event) -> None:
    """Publishes what is in the outbox, and nothing else."""
    connection = Connection(url, name="relay", driver=named())
    await connection.open()
    publisher = Publisher.on(connection)
    async with Store() as store:
        relaying = store.start(publisher.send)
        assert relaying is not None
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait([relaying, stopped], return_when=asyncio.FIRST_COMPLETED)
        await store.stop()
        relaying.result()
    await publisher.close()
    await connection.close()
