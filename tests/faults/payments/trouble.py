"""What goes wrong on the way, and what must hold after each time."""

from __future__ import annotations

import asyncio
import datetime as dt
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from decimal import Decimal

from sqlalchemy import text

from handlers.accounting import audit
from handlers.demo.services import SERVICES, Services, queues_of
from handlers.messages import LEDGER, MONITORING, AskSummary, Currency, Posted, Side, Summary
from handlers.running.queues import look
from mqkit import BrokerError, BrokerUrl, Publisher, Queue, RequestError, Retry, Runtime, Service
from mqkit.errors import StoreUnavailableError
from mqkit.store import Store
from mqkit.testing.brokers.broker import Broker
from tests.postgres.server import PostgresServer

KILL = "kill a service"
CLOSE = "close all connections"
BROKER = "kill the broker"
DATABASE = "kill the database"
FORGE = "forge an event"
"""A posting that the ledger never made: what must be found."""

ROUND = (KILL, KILL, KILL, KILL, CLOSE, KILL, KILL, DATABASE, KILL, BROKER)
"""The faults of one round, of which the most are of services."""

SHORT = (KILL, CLOSE, DATABASE, BROKER)
"""One of each."""

SETTLED = 2.0
"""Seconds from a queue's new consumers to the next fault: what comes at the same millisecond as a
consume-ok may leave RabbitMQ 4.3.6 with a queue that delivers nothing more."""

RECOVERY = 90.0
"""Seconds in which all queues must be consumed again."""

REQUEST_TIMEOUT = 10.0


class InvariantError(Exception):
    """Something did not hold after a fault; the message says what, and after which."""


class Trouble:
    """Brings a fault every few seconds, and looks at the invariants after each."""

    def __init__(
        self,
        services: Services,
        broker: Broker,
        postgres: PostgresServer,
        *,
        every: float,
        seed: int,
        tell: Callable[[str], None],
        orders: int,
        faults: Sequence[str] | None = None,
    ) -> None:
        self._services = services
        self._broker = broker
        self._postgres = postgres
        self._every = every
        self._chance = random.Random(seed)
        self._tell = tell
        self._orders = orders
        self._number = None if faults is None else len(faults)
        self._faults = iter(self._rounds() if faults is None else faults)
        self._due: float | None = None
        self._running: asyncio.Task[None] | None = None
        self.done: Counter[str] = Counter()

    async def __call__(self, ended: int) -> None:
        """Bring the next fault once it is due; meanwhile orders go on."""
        if self._due is None:
            self._due = time.monotonic() + self._every
        if self._running is not None:
            if self._running.done():
                task, self._running = self._running, None
                task.result()
                self._due = time.monotonic() + self._every
        elif time.monotonic() >= self._due and (fault := next(self._faults, None)) is not None:
            self._running = asyncio.create_task(self._one(fault, ended))

    def most_sent(self) -> int | None:
        """Say how many orders may be sent until now: with so many faults, each meets its part."""
        if self._number is None:
            return None
        return self._orders * (self.done.total() + 1) // (self._number + 1)

    def _rounds(self) -> Iterator[str]:
        while True:
            yield from self._chance.sample(ROUND, len(ROUND))

    async def _one(self, fault: str, ended: int) -> None:
        if fault == KILL:
            name = self._chance.choice(SERVICES)
            await self._services.kill(name, f"after {ended:,} orders")
        else:
            self._tell(f"{fault} after {ended:,} orders")
            await (self._forge() if fault == FORGE else asyncio.to_thread(self._bring, fault))
        await self._until_consumed(fault)
        await self._check(fault)
        await asyncio.sleep(SETTLED)
        self.done[fault] += 1

    def _bring(self, fault: str) -> None:
        if fault == CLOSE:
            self._broker.close_connections()
        elif fault == BROKER:
            self._broker.kill()
            self._broker.start()
        else:
            self._postgres.kill()
            self._postgres.start()

    async def _forge(self) -> None:
        money = Side(account="customer:1", currency=Currency.CZK, amount=Decimal(1_000_000))
        forged = Posted(
            business_key="deposit-forged",
            kind="deposit",
            account_id=1,
            sides=(money,),
            posted_at=dt.datetime.now(dt.UTC),
        )
        async with Publisher(self._url) as publisher:
            await publisher.publish(LEDGER, "ledger.posted", forged)

    async def _until_consumed(self, fault: str) -> None:
        deadline = time.monotonic() + RECOVERY
        async with Runtime(looking(), BrokerUrl.parse(self._url)) as runtime:
            waiting = queues_of(SERVICES)
            while waiting:
                if (await look(runtime, waiting[-1])).is_consumed:
                    waiting.pop()
                    continue
                if time.monotonic() > deadline:
                    raise InvariantError(f"{waiting[-1].name} has no consumer after: {fault}")
                await asyncio.sleep(0.2)

    async def _check(self, fault: str) -> None:
        """Check what must hold at every moment: by the monitor, and in the ledger itself."""
        said = await self._asked()
        if said.alerts:
            raise InvariantError(f"after: {fault}: {said.latest_alerts}")
        async with (
            Store(self._services.databases["ledger"], relay=False) as store,
            store.transaction() as of,
        ):
            await of.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
            if found := [problem async for problem in audit.problems(of.connection)]:
                raise InvariantError(f"after: {fault}: {found[:3]}")

    async def _asked(self) -> Summary:
        deadline = time.monotonic() + RECOVERY
        async with Publisher(self._url) as publisher:
            while True:
                with suppress(RequestError, BrokerError, StoreUnavailableError):
                    route = MONITORING.key("monitoring.summary")
                    said: Summary = await publisher.request(
                        route, AskSummary(), Summary, timeout=REQUEST_TIMEOUT
                    )
                    return said
                if time.monotonic() > deadline:
                    raise InvariantError("the monitor does not answer")
                await asyncio.sleep(0.2)

    @property
    def _url(self) -> str:
        return self._services.url


def looking() -> Service:
    """Make a service that only looks at others' queues; each needs one of its own."""
    service = Service("looking", retry=Retry.never())

    @service.handler(Queue("looking", type="classic", durable=False, auto_delete=True))
    async def nothing(_: bytes) -> None: ...

    return service
