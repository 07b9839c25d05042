"""Fills the tables as months of messages would have: random ids, several handlers, in time's order.

The indexes are there from the beginning. Made afterwards they would be packed, and smaller than
those that rows come into one by one.
"""

from __future__ import annotations

import json
import random
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

HANDLERS = tuple(f"shop.{name}.handle_message" for name in ("ledger", "payments", "accounting"))
QUEUES = tuple(f"shop.{name}.incoming" for name in ("ledger", "payments", "accounting"))
"""20 to 30 characters each, as those of real services are."""

DAYS = 30
"""Days that the inbox keeps; one of them is over at a time."""

RESULT = json.dumps({"posted": True, "entry": 123_456_789, "balance": "19152.20"})
"""What a handler returns, where it returns something."""

BODY = 200
"""Bytes of a message in the outbox."""

PROPERTIES = json.dumps(
    {"content_type": "application/json", "delivery_mode": 2, "type": "OrderPosted", "headers": {}}
)

_INBOX = """
INSERT INTO mqkit_inbox
    (handled_at, keep_until, body_hash, attempt, message_id, handler, queue, result)
SELECT t, date_trunc('minute', t + $4 * interval '1 day' + interval '1 minute'),
    hashtextextended(n::text, 1), 1, gen_random_uuid()::text,
    ($5::text[])[1 + n % 3], ($6::text[])[1 + n % 3], $7
FROM (
    SELECT n, now() + (($1 + (n - 1)::float8 / $2) - $4) * interval '1 day' AS t
    FROM generate_series(1, $3::bigint) AS n
) AS each
"""

_OUTBOX = """
INSERT INTO mqkit_outbox (id, shard, order_key, message_id, exchange, routing_key, mandatory,
    properties, body, written_at, attempts)
SELECT n, hashtext(n::text) & 63, 'account-' || n % 100000, gen_random_uuid()::text,
    'ledger', 'order.posted', false, $3, decode(repeat('ab', $4), 'hex'), now(), 0
FROM generate_series($1::bigint, $2::bigint) AS n
"""


async def fill_inbox(driver: Any, rows: int, *, first: float = 0, days: float = DAYS) -> None:
    """Insert rows into PostgreSQL's inbox, whose times are over in `days` days, one after another.

    :param driver: a connection of asyncpg
    :param first: days from now on until the first of them is over
    """
    done = 0
    while done < rows:
        many = min(rows - done, max(1, rows // DAYS))
        at = first + days * done / rows
        await driver.execute(
            _INBOX, at, rows / days, many, float(DAYS), HANDLERS, QUEUES, None, timeout=3600
        )
        done += many


async def fill_outbox(driver: Any, rows: int) -> None:
    """Insert rows into PostgreSQL's outbox, as if the broker had been away for long."""
    step = max(1, rows // 20)
    for start in range(1, rows + 1, step):
        end = min(rows, start + step - 1)
        await driver.execute(_OUTBOX, start, end, PROPERTIES, BODY, timeout=3600)
    await driver.execute(
        "SELECT setval(pg_get_serial_sequence('mqkit_outbox', 'id'), max(id)) FROM mqkit_outbox"
    )


def fill_sqlite(path: str, rows: int, *, first: datetime, days: float = DAYS) -> None:
    """Insert rows into SQLite's inbox, the time of whose first is over at `first`."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA cache_size = -2000000")
        step = 100_000
        for start in range(0, rows, step):
            with connection:
                connection.executemany(
                    "INSERT INTO mqkit_inbox (handled_at, keep_until, body_hash, attempt, "
                    "message_id, handler, queue) VALUES (?, ?, ?, 1, ?, ?, ?)",
                    _sqlite_rows(start, min(rows, start + step), first, days / rows),
                )


def _sqlite_rows(start: int, end: int, first: datetime, each: float) -> Iterator[tuple[Any, ...]]:
    def told(moment: datetime) -> str:
        return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")

    for number in range(start, end):
        until = first + timedelta(days=each * number)
        yield (
            told(until - timedelta(days=DAYS)),
            told(until),
            random.getrandbits(63),
            str(uuid.UUID(int=random.getrandbits(128), version=4)),
            HANDLERS[number % 3],
            QUEUES[number % 3],
        )
