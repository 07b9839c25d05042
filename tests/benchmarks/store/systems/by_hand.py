"""The three INSERTs written by hand on the database's driver, without a broker.

The bodies are in this process's memory, and each is validated into the same model as elsewhere.
Nothing is received, acked or relayed, no key's order is kept, and a failure would end it: it is
what is left for the database alone, and no program that somebody could run.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg

from mqkit.cli.loop import runner, tune_collector
from tests.benchmarks.side_by_side.systems.base import GIVE_UP, Order
from tests.benchmarks.store.systems.base import EVENT, Meter, Program, StoreJob, run, values_of

SIZE = 100
"""Messages of a transaction that is one for many."""

CONNECTIONS = {"single": 20, "own-single": 8, "bulk": 2}
"""How many at a time: twenty, as the store's pool; else those with which it is fastest."""

KEEP = timedelta(days=37)

POSTING = ("order_id", "account", "cents")
INBOX = (
    "handled_at",
    "keep_until",
    "body_hash",
    "attempt",
    "message_id",
    "handler",
    "queue",
)
OUTBOX = (
    "shard",
    "order_key",
    "message_id",
    "exchange",
    "routing_key",
    "mandatory",
    "properties",
    "body",
    "written_at",
    "attempts",
)
TYPES = {
    "posting": ("text", "text", "bigint"),
    "hand_inbox": ("timestamptz", "timestamptz", "bigint", "int", "text", "text", "text"),
    "hand_outbox": (
        *("smallint", "text", "text", "text", "text", "boolean"),
        *("text", "bytea", "timestamptz", "int"),
    ),
}
COLUMNS = {"posting": POSTING, "hand_inbox": INBOX, "hand_outbox": OUTBOX}

PROPERTIES = (
    '{{"content_type": "application/json", "delivery_mode": 2, "message_id": "{id}", '
    '"app_id": "benchmark", "timestamp": "{at}"}}'
)

Rows = tuple[tuple[Any, ...], tuple[Any, ...], tuple[Any, ...]]
"""Of one message: its own, the inbox's, the outbox's."""


def rows_of(number: int, body: bytes) -> Rows:
    """What one message writes."""
    order = Order.model_validate_json(body)
    moment = datetime.now(UTC)
    message_id = f"00000000-0000-4000-8000-{number:012d}"
    hashed = int.from_bytes(hashlib.blake2b(body, digest_size=8).digest(), signed=True)
    event = (EVENT, False, PROPERTIES.format(id=message_id, at=moment.isoformat()), body, moment, 0)
    return (
        values_of(order),
        (moment, moment + KEEP, hashed, 1, message_id, "benchmark.post", "benchmark"),
        (number % 64, order.account, message_id, "benchmark.events", *event),
    )


def single(table: str) -> str:
    """The INSERT of one row."""
    columns = COLUMNS[table]
    marks = ", ".join(f"${number}" for number in range(1, len(columns) + 1))
    once = " ON CONFLICT DO NOTHING" if table == "hand_inbox" else ""
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks}){once}"  # noqa: S608


def bulk(table: str) -> str:
    """The INSERT of many rows, which are given by column."""
    arrays = ", ".join(f"${n}::{kind}[]" for n, kind in enumerate(TYPES[table], 1))
    once = " ON CONFLICT DO NOTHING" if table == "hand_inbox" else ""
    columns = ", ".join(COLUMNS[table])
    return f"INSERT INTO {table} ({columns}) SELECT * FROM unnest({arrays}){once}"  # noqa: S608


class OnPostgres:
    """The ways to do it with asyncpg."""

    def __init__(self, job: StoreJob, meter: Meter) -> None:
        self._job = job
        self._meter = meter
        bodies = [order.model_dump_json().encode() for order in job.orders()]
        self._bodies = iter(enumerate(bodies))

    async def run(self) -> None:
        """All messages, over so many connections."""
        way = self._one if self._job.kind == "single" else self._many
        async with asyncio.timeout(GIVE_UP):
            await asyncio.gather(*(way() for _ in range(CONNECTIONS[self._job.kind])))

    async def _one(self) -> None:
        connection = None
        for number, body in self._bodies:
            self._meter.began()
            if connection is None:
                connection = await self._connect()
            rows = rows_of(number, body)
            async with connection.transaction():
                for table, row in zip(COLUMNS, rows, strict=True):
                    await connection.execute(single(table), *row)
            self._meter.done()
        if connection is not None:
            await connection.close()

    async def _many(self) -> None:
        connection = None
        while some := list(itertools.islice(self._bodies, SIZE)):
            self._meter.began()
            if connection is None:
                connection = await self._connect()
            rows = [rows_of(number, body) for number, body in some]
            own, inbox, outbox = zip(*rows, strict=True)
            async with connection.transaction():
                await connection.execute(bulk("hand_inbox"), *_by_column(inbox))
                if self._job.kind == "bulk":
                    await connection.execute(bulk("posting"), *_by_column(own))
                else:
                    for row in own:
                        await connection.execute(single("posting"), *row)
                await connection.execute(bulk("hand_outbox"), *_by_column(outbox))
            self._meter.done(len(some))
        if connection is not None:
            await connection.close()

    async def _connect(self) -> Any:
        return await asyncpg.connect(self._job.database.replace("+asyncpg", ""))


def on_sqlite(job: StoreJob, meter: Meter) -> None:
    """The same with Python's sqlite3, in this thread: there is one writer at a time."""
    bodies = [order.model_dump_json().encode() for order in job.orders()]
    source: Iterator[tuple[int, bytes]] = iter(enumerate(bodies))
    size = 1 if job.kind == "sqlite-single" else SIZE
    statements = [single(table).replace("$", "?") for table in COLUMNS]
    meter.began()
    connection = sqlite3.connect(job.database.partition(":///")[2], isolation_level=None)
    # As mqkit sets it: readers go on beside the writer, and a commit waits for the disk.
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    while some := list(itertools.islice(source, size)):
        rows = zip(*(rows_of(number, body) for number, body in some), strict=True)
        connection.execute("BEGIN IMMEDIATE")
        for statement, values in zip(statements, rows, strict=True):
            connection.executemany(statement, [tuple(map(_plain, row)) for row in values])
        connection.execute("COMMIT")
        meter.done(len(some))
    connection.close()


def _plain(value: Any) -> Any:
    return value.isoformat(" ") if isinstance(value, datetime) else value


def _by_column(rows: tuple[tuple[Any, ...], ...]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]


def consume(job: StoreJob) -> None:
    """Write all of it."""
    tune_collector()
    meter = Meter(job, lambda: None)
    if job.kind.startswith("sqlite"):
        on_sqlite(job, meter)
    else:
        with runner(None) as on_loop:
            on_loop.run(OnPostgres(job, meter).run())
    meter.tell()


def settings(kind: str) -> str:
    """How a kind works."""
    if kind.startswith("sqlite"):
        size = "a transaction a message" if kind == "sqlite-single" else f"{SIZE} to a transaction"
        return f"sqlite3, no broker, WAL, synchronous=FULL, {size}, executemany."
    ways = {
        "single": "a transaction a message, three INSERTs one after the other",
        "own-single": f"{SIZE} messages to a transaction, their own INSERTs one by one, "
        "inbox and outbox by an INSERT of arrays each",
        "bulk": f"{SIZE} messages to a transaction, an INSERT of arrays (unnest) a table",
    }
    return f"asyncpg, no broker, {CONNECTIONS[kind]} connections, {ways[kind]}. On uvloop."


if __name__ == "__main__":
    run(Program(settings, ("asyncpg", "uvloop"), lambda _: None, consume))
