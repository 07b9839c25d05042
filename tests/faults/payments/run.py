"""Runs generated orders through the services under faults, and reports."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from handlers.demo.plan import make_plan
from handlers.demo.report import Report
from handlers.demo.run import ORDERS_DONE, REFUNDS_DONE, Demo, refunds_of
from handlers.demo.services import SERVICES, Services
from handlers.running.progress import Progress
from mqkit.testing.brokers.broker import Broker
from mqkit.testing.brokers.finder import find_brokers, start
from tests.faults.payments.trouble import Trouble
from tests.postgres import find_postgres
from tests.postgres import start as start_postgres
from tests.postgres.server import PostgresServer

TIMEOUT = 180.0
"""Seconds without any order's end after which it is given up: a broker restarts in some twenty."""

WINDOW = 1000
"""Orders that are under way at a time: none waits for longer than its patience."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a run."""

    report: Report
    faults: dict[str, int]

    def as_json(self) -> dict[str, Any]:
        """Return the report's figures, with the faults."""
        return {**self.report.as_json(), "faults": self.faults}


@contextlib.contextmanager
def own_broker(label: str) -> Iterator[Broker]:
    """Start a RabbitMQ that nobody else uses, of which the version begins so."""
    for kind in ("container", "node"):
        with contextlib.suppress(LookupError):
            specs = find_brokers({**os.environ, "MQKIT_TEST_BROKER": kind})
            found = [spec for spec in specs if spec.label.startswith(label)]
            with start((found or specs)[0]) as broker:
                yield broker
                return


def run(
    broker: Broker,
    postgres: PostgresServer,
    folder: Path,
    *,
    orders: int,
    accounts: int,
    seed: int,
    every: float,
    faults: Sequence[str] | None = None,
    console: Console,
) -> Outcome:
    """Run so many orders, with a fault every few seconds: these, or else as many as there is time.

    :raises InvariantError: something did not hold after a fault
    :raises DemoError: the services do not go on
    """
    plan = make_plan(seed=seed, orders=orders, accounts=accounts)
    run_id = secrets.token_hex(3)
    databases = {name: postgres.create_database(f"{name}-{run_id}") for name in SERVICES}

    async def main(progress: Progress) -> Outcome:
        services = Services(broker.url, databases, folder, progress.tell)
        trouble = Trouble(
            services,
            broker,
            postgres,
            every=every,
            seed=seed,
            tell=progress.tell,
            orders=orders,
            faults=faults,
        )
        demo = Demo(
            plan,
            broker.url,
            services,
            trouble=trouble,
            timeout=TIMEOUT,
            progress=progress,
            window=WINDOW,
            most_sent=trouble.most_sent,
        )
        report = await demo.run()
        return Outcome(report, dict(trouble.done))

    with Progress({ORDERS_DONE: orders, REFUNDS_DONE: refunds_of(plan)}, console) as progress:
        return asyncio.run(main(progress))


@contextlib.contextmanager
def own_postgres() -> Iterator[PostgresServer]:
    """Start a PostgreSQL that nobody else uses, which loses nothing when it is killed."""
    with start_postgres(find_postgres(os.environ), fsync=True) as server:
        yield server
