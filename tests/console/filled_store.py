"""Fills a store with many sagas, states and messages of the outbox, in a second or two."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

from sqlalchemy import Table, insert

from mqkit.store import Store
from mqkit.store.schema import outbox, saga_history, sagas, states

AT_ONCE = 2_000
"""Rows of one statement."""

STEPS = 5
"""Entries of each saga's history."""


async def fill_store(url: str, count: int) -> None:
    """Write so many sagas, states of messages and unpublished messages, each with what is usual."""
    now = datetime.now(UTC)
    later = now + timedelta(days=30)
    tables: dict[Table, list[dict[str, object]]] = {
        sagas: [
            {
                "name": "payment",
                "id": f"order-{number}",
                "version": STEPS,
                "state_version": 1,
                "status": "running" if number % 10 else "compensating",
                "state": json.dumps({"amount": "12.50", "step": "executing", "lines": [1] * 20}),
                "progress": json.dumps({"timeouts": {}, "done": [], "reason": None}),
                "started_at": now,
                "updated_at": now + timedelta(milliseconds=number),
                "completed_at": None,
                "keep_until": None,
            }
            for number in range(count)
        ],
        saga_history: [
            {
                "name": "payment",
                "id": f"order-{number}",
                "at": now,
                "handler": "shop.Payment.placed",
                "message_id": f"message-{number}-{step}",
                "message_type": "Placed",
                "result": "ran",
                "status": "running",
                "changes": json.dumps({"step": "executing"}),
                "published": "[]",
            }
            for number in range(count)
            for step in range(STEPS)
        ],
        states: [
            {
                "message_id": f"message-{number}",
                "handler": "shop.post",
                "queue": "shop.post",
                "state": "retrying" if number % 2 else "dead",
                "attempt": 3,
                "updated_at": now + timedelta(milliseconds=number),
                "keep_until": later + timedelta(milliseconds=number),
                "retry_at": None,
                "error_type": "ValueError",
                "error": "it did not work",
                "result": None,
            }
            for number in range(count)
        ],
        outbox: [
            {
                "shard": 0,
                "order_key": None,
                "message_id": f"waits-{number}",
                "exchange": "orders",
                "routing_key": "order.placed",
                "mandatory": True,
                "properties": "{}",
                "body": b"{}",
                "written_at": now,
                "attempts": 0,
                "retry_at": None,
                "error": None,
            }
            for number in range(count)
        ],
    }
    async with Store(url, relay=False) as store, store.transaction() as transaction:
        for table, rows in tables.items():
            for start in range(0, len(rows), AT_ONCE):
                await transaction.connection.execute(insert(table), rows[start : start + AT_ONCE])
