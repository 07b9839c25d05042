"""The inbox: one row for each message that a handler has had its effect for."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pydantic_core import to_json
from sqlalchemy import Table, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from mqkit.message import Delivery
from mqkit.store.flavour import Flavour
from mqkit.store.schema import inbox, states

PURGE_LOCK = -1
"""Locked like a shard of the outbox, of which none has this number."""

PURGE_BATCH = 5_000
"""Rows that one transaction of the purge deletes."""


@dataclass(frozen=True, slots=True)
class Handled:
    """The message was handled before; `result` is what its handler returned then."""

    result: Any


async def claim(
    connection: AsyncConnection,
    flavour: Flavour,
    handler: str,
    delivery: Delivery,
    *,
    now: datetime,
    keep: timedelta,
) -> Handled | None:
    """Put the message into the inbox; None if this transaction may run the handler.

    Where another transaction has put it there and is not committed yet, this waits for its end:
    two runs for one message cannot go on at the same time, in whatever processes.
    """
    inserted = await connection.execute(
        _claim(flavour.insert),
        {
            "handler": handler,
            "message_id": delivery.message_id,
            "queue": delivery.queue,
            "attempt": delivery.attempt,
            "handled_at": now,
            "keep_until": now + keep,
        },
    )
    if inserted.rowcount == 1:
        return None
    found = await connection.execute(
        select(inbox.c.result).where(
            inbox.c.handler == handler, inbox.c.message_id == delivery.message_id
        )
    )
    result = found.scalar_one_or_none()
    return Handled(None if result is None else json.loads(result))


@functools.cache
def _claim(insert: Callable[[Table], Any]) -> Any:
    # Once for all messages: making a statement takes a good part of what running it takes.
    return insert(inbox).on_conflict_do_nothing()


async def keep_result(
    connection: AsyncConnection, handler: str, delivery: Delivery, result: Any
) -> None:
    """Keep what the handler returned, for status and for a reply that is asked for again."""
    if result is None:
        return
    await connection.execute(
        update(inbox)
        .where(inbox.c.handler == handler, inbox.c.message_id == delivery.message_id)
        .values(result=result_text(result))
    )


def result_text(result: Any) -> str:
    """A result as JSON; what JSON and pydantic do not know is named by its type.

    It is what is told of the effect, and must not be what prevents it.
    """
    try:
        return to_json(result, fallback=_named, bytes_mode="base64").decode()
    except (ValueError, RecursionError):
        return to_json(_named(result)).decode()


def _named(value: Any) -> str:
    return f"<{type(value).__qualname__}>"


async def purge(connection: AsyncConnection, flavour: Flavour, now: datetime) -> int:
    """Delete some of what need not be kept any longer, and say how many rows it were.

    One at a time does it: another that comes meanwhile deletes nothing.
    """
    deleted = 0
    if not await flavour.lock_shards(connection, [PURGE_LOCK]):
        return 0
    for table in (inbox, states):
        result = await connection.execute(flavour.delete_old(table, PURGE_BATCH), {"now": now})
        deleted += result.rowcount
    return deleted
