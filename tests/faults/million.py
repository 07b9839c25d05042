"""`python -m tests.faults.million`: many messages through inbox, handler and outbox, under SIGKILL.

Orders go to two workers, which post them to a ledger in PostgreSQL; a relay publishes an event for
each. Every few seconds one of the processes is killed. In the end every order has exactly one
posting and one event, the balances are right to the last digit, and the events of each account
came in order. Exit codes: 0 all of it holds; 1 not so.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import os
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from rich.console import Console
from sqlalchemy import func, insert, select
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from mqkit.cli.loop import runner, tune_collector
from mqkit.drivers.base import Incoming
from mqkit.publishing.outgoing import Outgoing
from mqkit.store import metadata as store_metadata
from mqkit.store.schema import outbox
from mqkit.testing.brokers.finder import find_brokers
from mqkit.testing.brokers.finder import start as start_broker
from tests.faults.deaths import Deaths
from tests.faults.ledger import PLACES, account, effect, metadata, posting
from tests.faults.nurseries import Nursery
from tests.faults.store_services import EVENTS, QUEUE
from tests.postgres import find_postgres
from tests.postgres import start as start_postgres
from tests.support import Client, connected, eventually

ACCOUNTS = 1000
OPENING = Decimal("1000.00000001")

AHEAD = 4000
"""Orders that are sent, and whose event has not come yet, at most."""

PREFETCH = 500
"""Events that the broker sends ahead."""

IN_MEMORY = 5000
"""Rows that are read at a time, at the end."""

STARTED_WITHIN = 60.0
STILL_WITHIN = 120.0
"""Seconds without any event after which something is lost."""

WORKERS = {"bulk": "bulk_worker", "single": "busy_worker"}
"""Targets of the nursery, by what they are called here. Single ones wait for each other's
accounts, and come to 200 to 400 a second on two cores."""

DONE, FAILED = 0, 1

TELL_EVERY = 10.0
"""Seconds."""

console = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)


@dataclass
class Report:
    """What came of a run; seconds, messages per second, and mebibytes."""

    messages: int
    seconds: float = 0.0
    rate: float = 0.0
    kills: int = 0
    doubled_events: int = 0
    """Events that came more than once, under the same id."""
    memory: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


class Tally:
    """What came to the queue of the events: a few bytes for each order."""

    def __init__(self, messages: int) -> None:
        self._ids = [0] * messages
        self._last = dict.fromkeys(_accounts(), 0)
        self.arrived = 0
        """Orders whose event has come."""
        self.again = 0
        self.other_ids = 0
        self.unordered = 0

    def take(self, incoming: Incoming) -> None:
        """Book an event."""
        event = json.loads(incoming.body)
        number = int(event["key"])
        identity = _short(incoming.properties.message_id or "")
        if self._ids[number]:
            self.again += 1
            self.other_ids += self._ids[number] != identity
            return
        self._ids[number] = identity
        self.arrived += 1
        self.unordered += event["number"] != self._last[event["account"]] + 1
        self._last[event["account"]] = event["number"]

    def is_of(self, key: str, event_id: str) -> bool:
        """Whether the event of this order has come, under this id."""
        return self._ids[int(key)] == _short(event_id)


def _short(identity: str) -> int:
    # Of a UUID, which is what it is: enough to tell two of a million apart.
    return int(identity.replace("-", "")[:15], 16)


def _accounts() -> list[str]:
    return [f"account-{number}" for number in range(ACCOUNTS)]


class Million:
    """One run, on a broker and a database that are its own."""

    def __init__(
        self,
        url: str,
        store: str,
        directory: Path,
        report: Report,
        *,
        worker: str,
        minutes: float,
    ) -> None:
        self._url = url
        self._store = store
        self._directory = directory
        self._report = report
        self._worker = worker
        self._minutes = minutes
        self._tally = Tally(report.messages)
        self._engine: AsyncEngine = create_async_engine(store, hide_parameters=True)

    async def run(self, kill_every: float, workers: int, relays: int) -> None:
        """Send, kill, collect, and draw up the account."""
        try:
            await self._create()
            async with connected(self._url, "million") as client:
                await client.declare(EVENTS)
                with self._nursery(workers, relays) as nursery:
                    await self._until_consuming(nursery)
                    await self._through(client, nursery, kill_every)
                    await eventually(self._is_empty, STILL_WITHIN, "an empty outbox")
                    await nursery.stop()
                await self._audit(client)
        finally:
            await self._engine.dispose()

    async def _create(self) -> None:
        rows = [{"name": name, "balance": OPENING, "orders": 0} for name in _accounts()]
        async with self._engine.begin() as connection:
            await connection.run_sync(metadata.create_all)
            await connection.run_sync(store_metadata.create_all)
            await connection.execute(insert(account), rows)

    def _nursery(self, workers: int, relays: int) -> Nursery:
        services = "tests.faults.store_services"
        return Nursery(
            {f"{services}:{self._worker}": workers, f"{services}:relay": relays},
            self._url,
            self._directory / "nursery.log",
            MQKIT_STORE=self._store,
        )

    @staticmethod
    async def _until_consuming(nursery: Nursery) -> None:
        def consuming() -> bool:
            return "consuming" in nursery.log.read_text()

        await eventually(consuming, STARTED_WITHIN, "a consumer")

    async def _through(self, client: Client, nursery: Nursery, kill_every: float) -> None:
        began = time.monotonic()
        deaths = Deaths(nursery, kill_every)
        async with self._collecting(client), asyncio.TaskGroup() as group:
            killing = group.create_task(deaths.run())
            telling = group.create_task(self._tell(began, deaths))
            await self._send(client)
            await self._until_all_came()
            killing.cancel()
            telling.cancel()
        self._report.seconds = round(time.monotonic() - began, 1)
        self._report.rate = round(self._report.messages / self._report.seconds, 1)
        self._report.kills = deaths.kills
        self._report.memory = deaths.memory()
        self._report.problems += deaths.problems()

    async def _send(self, client: Client) -> None:
        async for result in client.publisher.publish_many(self._orders()):
            if result.error is not None:
                self._report.problems.append(f"order {result.index}: {result.error}")

    async def _orders(self) -> AsyncIterator[Outgoing]:
        accounts = _accounts()
        end = time.monotonic() + self._minutes * 60
        for number in range(self._report.messages):
            if time.monotonic() > end:
                # What was sent until now is what the account is of.
                self._report.messages = number
                return
            while number - self._tally.arrived >= AHEAD:
                await asyncio.sleep(0.01)
            debit, credit = random.sample(accounts, 2)
            body = {
                "key": str(number),
                "debit": debit,
                "credit": credit,
                "amount": str(Decimal(random.randint(1, 10**10)).scaleb(-PLACES)),
            }
            yield Outgoing("", QUEUE, body, message_id=f"order-{number}")

    @contextlib.asynccontextmanager
    async def _collecting(self, client: Client) -> AsyncIterator[None]:
        async with client.channel() as channel:

            def take(incoming: Incoming) -> None:
                self._tally.take(incoming)
                channel.ack(incoming.tag)

            await channel.qos(PREFETCH)
            tag = await channel.consume(EVENTS, take, lambda: None)
            yield
            await channel.cancel(tag)

    async def _until_all_came(self) -> None:
        came, since = -1, time.monotonic()
        while self._tally.arrived < self._report.messages:
            if self._tally.arrived != came:
                came, since = self._tally.arrived, time.monotonic()
            elif time.monotonic() - since > STILL_WITHIN:
                missing = self._report.messages - came
                self._report.problems.append(f"{missing} events did not come")
                return
            await asyncio.sleep(0.1)

    async def _is_empty(self) -> bool:
        async with self._engine.connect() as connection:
            return bool(await connection.scalar(select(func.count()).select_from(outbox)) == 0)

    async def _tell(self, began: float, deaths: Deaths) -> None:
        before = 0
        while True:
            await asyncio.sleep(TELL_EVERY)
            arrived = self._tally.arrived
            console.print(
                f"{time.monotonic() - began:6.0f} s  {arrived:>9,} of {self._report.messages:,}  "
                f"{(arrived - before) / TELL_EVERY:6.0f}/s  {deaths.kills} kills"
            )
            before = arrived

    # --- the account -----------------------------------------------------------------------------

    async def _audit(self, client: Client) -> None:
        tally, report = self._tally, self._report
        for incoming in await client.take_all(EVENTS):
            tally.take(incoming)
        report.doubled_events = tally.again
        self._check(tally.other_ids, "events came again under another id")
        self._check(tally.unordered, "events came out of their account's order")
        for queue in (QUEUE, f"{QUEUE}.dead", EVENTS):
            self._check(await client.messages(queue), f"messages are left in {queue}")
        async with self._engine.connect() as connection:
            effects = await connection.scalar(select(func.count()).select_from(effect))
            keys = await connection.scalar(select(func.count(effect.c.key.distinct())))
            self._check((effects or 0) - (keys or 0), "orders had a second effect")
            self._check(report.messages - (keys or 0), "orders had no effect")
            moved = dict.fromkeys(_accounts(), OPENING)
            postings = others = 0
            rows = await connection.stream(select(posting).execution_options(yield_per=IN_MEMORY))
            async for row in rows:
                postings += 1
                moved[row.debit] -= row.amount
                moved[row.credit] += row.amount
                others += not tally.is_of(row.key, row.event)
            self._check(report.messages - postings, "orders have no posting")
            self._check(others, "postings have no event, or one of another id")
            balances = await connection.execute(select(account.c.name, account.c.balance))
            wrong = sum(moved[name] != balance for name, balance in balances)
            self._check(wrong, "balances are not what was posted")

    def _check(self, count: int, what: str) -> None:
        if count:
            self._report.problems.append(f"{count} {what}")


async def run(
    url: str,
    store: str,
    directory: Path,
    *,
    messages: int,
    kill_every: float,
    workers: int = 2,
    relays: int = 1,
    worker: str = WORKERS["bulk"],
    minutes: float = math.inf,
) -> Report:
    """Run it on an empty virtual host and an empty database; what does not hold is in the report.

    :param store: the database's URL, with the scheme `postgresql+asyncpg`
    :param kill_every: seconds
    :param worker: one of those of `WORKERS`
    :param minutes: after these, no more are sent, and the account is of those that were
    """
    report = Report(messages)
    million = Million(url, store, directory, report, worker=worker, minutes=minutes)
    await million.run(kill_every, workers, relays)
    return report


def main(argv: Sequence[str] | None = None) -> int:
    """Run it as the arguments say; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults.million",
        description="Many messages through inbox, handler and outbox, under SIGKILL.",
    )
    parser.add_argument("--messages", type=int, default=1_000_000, help="%(default)s by default")
    parser.add_argument("--kill-every", type=float, default=5.0, help="seconds (%(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="%(default)s by default")
    parser.add_argument("--relays", type=int, default=1, help="%(default)s by default")
    parser.add_argument(
        "--worker",
        choices=WORKERS,
        default="bulk",
        help="posts many orders by a few statements, or each by its own (%(default)s)",
    )
    parser.add_argument("--minutes", type=float, default=math.inf, help="send no longer than that")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the report there, too")
    options = parser.parse_args(argv)
    with (
        tempfile.TemporaryDirectory(prefix="mqkit-million-") as directory,
        start_broker(find_brokers(os.environ)[0]) as broker,
        start_postgres(find_postgres(os.environ)) as server,
    ):
        running = run(
            broker.url,
            server.create_database("million"),
            Path(directory),
            messages=options.messages,
            kill_every=options.kill_every,
            workers=options.workers,
            relays=options.relays,
            worker=WORKERS[options.worker],
            minutes=options.minutes,
        )
        tune_collector()
        with runner(None) as on_loop:
            report = on_loop.run(running)
    text = json.dumps(asdict(report), indent=1)
    Console(soft_wrap=True, highlight=False, markup=False).print(text)
    if options.json is not None:
        options.json.write_text(text + "\n")
    return FAILED if report.problems else DONE


if __name__ == "__main__":
    sys.exit(main())
