"""mqkit with its store: the handlers of each kind, as a user would write them.

It runs on an earlier commit's package, too: what not every version has is asked for (`missing`).
"""

from __future__ import annotations

import asyncio
import importlib.util
import inspect
from pathlib import Path
from typing import Any

import mqkit.store
from mqkit import (
    BrokerUrl,
    Delivery,
    Exchange,
    Observer,
    Queue,
    Retry,
    Runtime,
    Service,
)
from mqkit.cli.loop import runner, tune_collector
from mqkit.outcome import Ack, DeadLetter, Outcome
from mqkit.store import Store, Transaction
from tests.benchmarks.side_by_side.systems.base import GIVE_UP, Order, ready, say
from tests.benchmarks.store.systems.base import (
    EVENT,
    TABLE,
    Meter,
    Program,
    StoreJob,
    row_of,
    run,
    values_of,
)
from tests.benchmarks.store.systems.tables import INSERT, posting

SIZE = 100
"""Messages of a batch."""

RUNS = 4
"""Batches at a time: while one waits for its commit, others are made."""

WITHIN = 0.05
"""Seconds that a batch waits for others: for the last one of a run, and for one at a low rate."""

POLL = 0.02
"""Seconds between two looks whether the outbox is empty."""

NARROW, WIDE = (200, 20), (500, 100)
"""Prefetch and concurrency."""

BY_DRIVER = f"INSERT INTO {TABLE} (order_id, account, cents) VALUES ($1, $2, $3)"  # noqa: S608

# It is not in the package of every version that this runs on.
SYNC_TRANSACTION = getattr(mqkit.store, "SyncTransaction", None)

KINDS = {
    "plain": "a handler with an INSERT by SQLAlchemy and a publish",
    "wide": "as mqkit, with more at a time",
    "add": "its row by transaction.add, written with those of the messages that share its commit",
    "driver": "its INSERT on the driver's own connection (transaction.driver_connection)",
    "alone": "share_commits=False: a transaction for each message alone",
    "batch": f"@service.batch, size {SIZE}, an INSERT a message",
    "batch-bulk": f"@service.batch, size {SIZE}, one INSERT of all rows",
    "batch-add": f"@service.batch, size {SIZE}, a transaction.add for each message",
    "def": "a def handler with a SyncTransaction",
    # What is taken away, to see what it costs.
    "no-store": "a handler that does nothing, of a service without a store",
    "claim": "a handler that takes the transaction and does nothing",
    "insert": "a handler with its INSERT alone",
}


class Handlers:
    """A service with the handler of one kind."""

    def __init__(self, job: StoreJob, meter: Meter, store: Store | None) -> None:
        self._job = job
        self._meter = meter
        self._queue = Queue(job.queue)
        # Whether somebody is bound to it is not the handler's business.
        self._events = Exchange(job.events, type="topic", mandatory=False)
        self.service = Service("benchmark", retry=Retry.never(), store=store)
        kinds = {"batch": self._batch, "batch-bulk": self._batch_bulk, "def": self._def}
        kinds |= {"batch-add": self._batch_add}
        kinds.get(job.kind, self._single)()

    def _single(self) -> None:
        prefetch, concurrency = WIDE if self._job.kind == "wide" else NARROW
        options: dict[str, Any] = {"prefetch": prefetch, "concurrency": concurrency}
        if self._job.kind == "alone":
            options["share_commits"] = False
        ways = {"no-store": self._nothing, "claim": self._claim, "insert": self._insert}
        ways |= {"driver": self._driver, "add": self._add}
        function = ways.get(self._job.kind, self._plain)()
        self.service.handler(self._queue, **options)(function)

    def _plain(self) -> Any:
        meter, events = self._meter, self._events

        async def post(order: Order, transaction: Transaction) -> None:
            meter.began()
            await transaction.execute(INSERT, row_of(order))
            await transaction.publish(events, EVENT, order, key=order.account)

        return post

    def _driver(self) -> Any:
        meter, events = self._meter, self._events

        async def post(order: Order, transaction: Transaction) -> None:
            meter.began()
            connection = getattr(transaction, "driver_connection")  # noqa: B009 - see `missing`
            await connection.execute(BY_DRIVER, *values_of(order))
            await transaction.publish(events, EVENT, order, key=order.account)

        return post

    def _add(self) -> Any:
        meter, events = self._meter, self._events

        async def post(order: Order, transaction: Transaction) -> None:
            meter.began()
            add = getattr(transaction, "add")  # noqa: B009 - see `missing`
            add(posting, row_of(order))
            await transaction.publish(events, EVENT, order, key=order.account)

        return post

    def _nothing(self) -> Any:
        meter = self._meter

        async def post(order: Order) -> None:
            meter.began()

        return post

    def _claim(self) -> Any:
        meter = self._meter

        async def post(order: Order, transaction: Transaction) -> None:
            meter.began()

        return post

    def _insert(self) -> Any:
        meter = self._meter

        async def post(order: Order, transaction: Transaction) -> None:
            meter.began()
            await transaction.execute(INSERT, row_of(order))

        return post

    def _batch(self) -> None:
        meter, events = self._meter, self._events

        @self.service.batch(self._queue, size=SIZE, within=WITHIN, concurrency=RUNS)
        async def post(batch: list[Order], transaction: Transaction) -> None:
            meter.began()
            for order in batch:
                await transaction.execute(INSERT, row_of(order))
                await transaction.publish(events, EVENT, order, key=order.account)

    def _batch_bulk(self) -> None:
        meter, events = self._meter, self._events

        @self.service.batch(self._queue, size=SIZE, within=WITHIN, concurrency=RUNS)
        async def post(batch: list[Order], transaction: Transaction) -> None:
            meter.began()
            await transaction.execute(INSERT, [row_of(order) for order in batch])
            for order in batch:
                await transaction.publish(events, EVENT, order, key=order.account)

    def _batch_add(self) -> None:
        meter, events = self._meter, self._events

        @self.service.batch(self._queue, size=SIZE, within=WITHIN, concurrency=RUNS)
        async def post(batch: list[Order], transaction: Transaction) -> None:
            meter.began()
            add = getattr(transaction, "add")  # noqa: B009 - see `missing`
            for order in batch:
                add(posting, row_of(order))
                await transaction.publish(events, EVENT, order, key=order.account)

    def _def(self) -> None:
        meter, events = self._meter, self._events
        prefetch, concurrency = NARROW

        def post(order: Order, transaction: Any) -> None:
            meter.began()
            transaction.execute(INSERT, row_of(order))
            transaction.publish(events, EVENT, order, key=order.account)

        post.__annotations__["transaction"] = SYNC_TRANSACTION
        self.service.handler(self._queue, prefetch=prefetch, concurrency=concurrency)(post)


class Seen(Observer):
    """Tells the meter of messages that are settled: committed before, and the ack is written."""

    def __init__(self, job: StoreJob, meter: Meter) -> None:
        self._meter = meter
        self._latency = job.latency

    def settled(self, handler: str, delivery: Delivery, outcome: Outcome) -> None:
        """Count what is acknowledged; a message that failed is handled again, or ends the run."""
        if isinstance(outcome, DeadLetter):
            self._meter.failed(f"a message was dead-lettered: {outcome.error!r}")
        if isinstance(outcome, Ack):
            if self._latency:
                self._meter.took(Order.model_validate_json(delivery.body).sent)
            self._meter.done()


async def handle(job: StoreJob) -> None:
    """Run the service until all is acknowledged; with the relay, until the outbox is empty."""
    done = asyncio.Event()
    meter = Meter(job, done.set)
    store = None if job.kind == "no-store" else Store(job.database, relay=job.relay)
    service = Handlers(job, meter, store).service
    async with asyncio.timeout(GIVE_UP):
        async with Runtime(service, BrokerUrl.parse(job.url), observer=Seen(job, meter)):
            ready()
            await done.wait()
            if job.relay and store is not None:
                await _emptied(store)
                meter.stop()
    meter.tell()


async def relay(job: StoreJob) -> None:
    """Publish what is in the outbox.

    The clock starts when the service runs, with what is left then.
    """
    store = Store(job.database)
    service = Handlers(job, Meter(job, lambda: None), store).service
    async with asyncio.timeout(GIVE_UP), store:
        found = await store.pending()
        async with Runtime(service, BrokerUrl.parse(job.url)):
            meter = Meter(job, lambda: None)
            left = await store.pending()
            meter.began()
            await _emptied(store)
            meter.stop()
    if left < found / 2:
        # A rate of the few that were left would say nothing.
        left = 0
    say(found=found, relayed=left, **meter.figures(left) if left else {})


async def _emptied(store: Store) -> None:
    while await store.pending():
        await asyncio.sleep(POLL)


def consume(job: StoreJob) -> None:
    """As `mqkit run` does it: its event loop, its garbage collector."""
    tune_collector()
    with runner(None) as on_loop:
        on_loop.run(handle(job))


def drain(job: StoreJob) -> None:
    """As `consume`."""
    tune_collector()
    with runner(None) as on_loop:
        on_loop.run(relay(job))


def publish(job: StoreJob) -> None:
    """Publish confirmed and pipelined, also at a rate."""
    # It uses more of mqkit than every version has in the same place.
    from tests.benchmarks.side_by_side.systems.mqkit_service import system  # noqa: PLC0415

    with runner(None) as on_loop:
        on_loop.run(system("pika").publish(job))  # type: ignore[arg-type]


def settings(kind: str) -> str:
    """How a kind is set up."""
    if kind.startswith("batch"):
        ahead = 2 * SIZE * RUNS
        return f"{KINDS[kind]}; prefetch {ahead}, {RUNS} batches at a time. On uvloop."
    prefetch, concurrency = WIDE if kind == "wide" else NARROW
    return f"{KINDS[kind]}; prefetch {prefetch}, concurrency {concurrency}. On uvloop."


def missing(kind: str) -> str:
    """What of this version of mqkit a kind needs and does not find."""
    if kind == "driver" and not hasattr(Transaction, "driver_connection"):
        return "this version has no transaction.driver_connection"
    if kind in {"add", "batch-add"} and not hasattr(Transaction, "add"):
        return "this version has no transaction.add"
    if kind == "alone" and "share_commits" not in inspect.signature(Service.handler).parameters:
        return "this version has no handler(share_commits=...)"
    if kind == "def" and SYNC_TRANSACTION is None:
        return "this version has no SyncTransaction"
    if kind == "def" and importlib.util.find_spec("psycopg") is None:
        return "a SyncTransaction on PostgreSQL needs psycopg, which is not installed"
    return ""


def more() -> dict[str, str]:
    """Where mqkit was imported from."""
    return {"package": str(Path(mqkit.store.__file__).parents[2])}


if __name__ == "__main__":
    packages = ("SQLAlchemy", "asyncpg", "aiosqlite", "pika", "uvloop")
    run(Program(settings, packages, publish, consume, drain, missing, more))
