"""Remembers in the inbox which messages a handler has had its effect for."""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pydantic_core import to_json
from sqlalchemy import ColumnElement, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from mqkit.errors import MessageIdError, MessageIdReusedError, StoreError
from mqkit.message import Delivery
from mqkit.store.database.dialects import Dialect
from mqkit.store.schema import MAX_ID, inbox, states
from mqkit.store.serialization import writable

PURGE_LOCK = -1
"""Locked like a shard of the outbox, of which none has this number."""

PURGE_BATCH = 5_000
"""Rows that one transaction of the purge deletes."""


HIGHEST_ATTEMPT = 2**31 - 1
"""What the column holds; a header may hold more."""

_CLAIM_AGAIN = 3


@dataclass(frozen=True, slots=True)
class Handled:
    """Says that a message was handled before; `result` is what its handler returned then."""

    result: Any


def check_id(handler: str, message_id: str | None) -> None:
    """Refuse a message id that one of the databases would not take as it is.

    :raises MessageIdError: it is none, or has NUL or half of a character in it, or is too long
    """
    if message_id and message_id.isascii() and "\0" not in message_id and len(message_id) <= MAX_ID:
        return
    if not message_id:
        problem = "is empty"
    elif writable(message_id) != message_id:
        problem = "has NUL or half of a character in it"
    elif len(message_id) > MAX_ID:
        problem = f"is longer than {MAX_ID} characters"
    else:
        return
    raise MessageIdError(
        f"the message_id, by which handler {handler} and its store would know the message again, "
        f"{problem}; its publisher must give it another one"
    )


def body_hash(body: bytes) -> int:
    """Hash a body to 64 signed bits, the same in every process."""
    return int.from_bytes(hashlib.blake2b(body, digest_size=8).digest(), signed=True)


async def claim(
    connection: AsyncConnection,
    dialect: Dialect,
    handler: str,
    delivery: Delivery,
    *,
    now: datetime,
    keep: timedelta,
) -> Handled | None:
    """Insert the message into the inbox; None says that this transaction may run the handler.

    Where another transaction has put it there and is not committed yet, this waits for its end:
    two runs for one message cannot go on at the same time, in whatever processes.

    :raises MessageIdReusedError: another message of this id was handled: its body is another
    """
    hashed = body_hash(delivery.body)
    row = {
        "handler": handler,
        "message_id": delivery.message_id,
        "queue": delivery.queue,
        "attempt": min(delivery.attempt, HIGHEST_ATTEMPT),
        "body_hash": hashed,
        **dialect.kept(inbox, keep, now),
    }
    for _ in range(_CLAIM_AGAIN):
        inserted = await connection.execute(_claim(dialect), row)
        if inserted.rowcount == 1:
            return None
        found = await connection.execute(
            select(inbox.c.result, inbox.c.body_hash).where(_mine(dialect, handler, delivery))
        )
        there = found.one_or_none()
        if there is not None:
            # A row of an earlier version has no hash.
            if there.body_hash is not None and there.body_hash != hashed:
                raise MessageIdReusedError(
                    f"handler {handler} handled a message of the id {delivery.message_id!r} "
                    f"before, and its body was another one; each message needs an id of its own"
                )
            return Handled(kept_result(there.result))
        # Deleted as too old in between; or it was the row of another id, of the same hash.
    raise StoreError(
        f"the inbox cannot tell message {delivery.message_id!r} from one of another id; its "
        "publisher must give it another one"
    )


def _mine(dialect: Dialect, handler: str, delivery: Delivery) -> ColumnElement[bool]:
    return dialect.of_inbox(delivery.message_id or "", (handler, delivery.queue))


@functools.lru_cache(maxsize=16)
def _claim(dialect: Dialect) -> Any:
    # Once for all messages: making a statement takes a good part of what running it takes.
    return dialect.insert(inbox).values(**dialect.kept_columns(inbox)).on_conflict_do_nothing()


async def keep_result(
    connection: AsyncConnection, dialect: Dialect, handler: str, delivery: Delivery, result: Any
) -> None:
    """Write what the handler returned, for status and for a reply that is asked for again."""
    if result is None:
        return
    await connection.execute(
        update(inbox).where(_mine(dialect, handler, delivery)).values(result=result_text(result))
    )


def kept_result(text: str | None) -> Any:
    """Read a result from what `result_text` wrote."""
    return None if text is None else json.loads(text)


def result_text(result: Any) -> str:
    """Write a result as JSON; what JSON and pydantic do not know is named by its type.

    It is what is told of the effect, and must not be what prevents it.
    """
    try:
        return to_json(result, fallback=_named, bytes_mode="base64").decode()
    except (ValueError, RecursionError):
        return to_json(_named(result)).decode()


def _named(value: Any) -> str:
    return f"<{type(value).__qualname__}>"


async def purge(connection: AsyncConnection, dialect: Dialect, now: datetime) -> int:
    """Delete some of the rows whose time is over, and return how many.

    One at a time does it: another that comes meanwhile deletes nothing. `now` is the clock of the
    only host of an SQLite; a server goes by its own, which all hosts have in common.
    """
    deleted = 0
    if not await dialect.lock_shards(connection, [PURGE_LOCK]):
        return 0
    for table in (inbox, states):
        result = await connection.execute(dialect.delete_old(table, PURGE_BATCH, now))
        deleted += result.rowcount
    return deleted
