"""Remembers in the inbox which messages a handler has had its effect for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pydantic_core import to_json
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncConnection

from mqkit.errors import ConfigurationError, MessageIdError, MessageIdReusedError, StoreError
from mqkit.message import Delivery
from mqkit.registration.transactions import HandlerPolicy
from mqkit.store.database.dialects import Dialect
from mqkit.store.schema import MAX_ID, inbox, states
from mqkit.store.serialization import writable

PURGE_LOCK = -1
"""Locked like a shard of the outbox, of which none has this number."""

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


def check_handlers(handlers: Iterable[HandlerPolicy], longest_retry: float) -> None:
    """Refuse handlers whose messages could come back after their rows are gone.

    :param longest_retry: seconds, which no handler's retries may take longer than
    :raises ConfigurationError: one of them does, or its name does not fit
    """
    for handler in handlers:
        if len(handler.name) > MAX_ID:
            raise ConfigurationError(
                f"handler {handler.name}: its name is over {MAX_ID} characters, and would not "
                "fit into the inbox"
            )
        longest = handler.longest_retry
        if longest > longest_retry:
            raise ConfigurationError(
                f"handler {handler.name} may retry a message for {longest:.0f} s, and its "
                f"store is told of {longest_retry:.0f} s: say "
                "Store(longest_retry=...), or give the policy an earlier stop"
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
    known = await claim_many(connection, dialect, handler, [delivery], now=now, keep=keep)
    found = known.get(delivery.message_id or "")
    if isinstance(found, StoreError):
        raise found
    return found


async def claim_many(
    connection: AsyncConnection,
    dialect: Dialect,
    handler: str,
    deliveries: Collection[Delivery],
    *,
    now: datetime,
    keep: timedelta,
) -> dict[str, Handled | StoreError]:
    """Insert messages of different ids into the inbox, as `claim` does one.

    Returns those that may not be run, by their ids: what is known of each, or its error.
    """
    left, consumer = _rows(dialect, handler, deliveries, now, keep)
    known: dict[str, Handled | StoreError] = {}
    for _ in range(_CLAIM_AGAIN):
        for inserted in await dialect.insert_inbox(connection, list(left.values())):
            del left[inserted]
        if not left:
            return known
        there = await dialect.find_inbox(connection, list(left), consumer)
        known |= _take_known(handler, left, there)
        if not left:
            return known
    return known | {message_id: _collided(message_id) for message_id in left}


def sync_claim_many(
    connection: Connection,
    dialect: Dialect,
    handler: str,
    deliveries: Collection[Delivery],
    *,
    now: datetime,
    keep: timedelta,
) -> dict[str, Handled | StoreError]:
    """Insert messages into the inbox as `claim_many` does, on the connection of a thread."""
    left, consumer = _rows(dialect, handler, deliveries, now, keep)
    known: dict[str, Handled | StoreError] = {}
    for _ in range(_CLAIM_AGAIN):
        for inserted in dialect.sync_insert_inbox(connection, list(left.values())):
            del left[inserted]
        if not left:
            return known
        there = dialect.sync_find_inbox(connection, list(left), consumer)
        known |= _take_known(handler, left, there)
        if not left:
            return known
    return known | {message_id: _collided(message_id) for message_id in left}


def _rows(
    dialect: Dialect,
    handler: str,
    deliveries: Collection[Delivery],
    now: datetime,
    keep: timedelta,
) -> tuple[dict[str, dict[str, Any]], tuple[str, str]]:
    """Return the rows to insert, by their messages' ids, and their handler and queue."""
    # In one order for everybody, so that no two transactions wait for each other.
    ordered = sorted(deliveries, key=lambda delivery: delivery.message_id or "")
    kept = dialect.kept(inbox, keep, now)
    rows = {each.message_id or "": {**_row(handler, each), **kept} for each in ordered}
    assert len(rows) == len(ordered), "no id comes twice"
    return rows, (handler, ordered[0].queue)


def _take_known(
    handler: str,
    left: dict[str, dict[str, Any]],
    there: Iterable[tuple[str, str | None, int | None]],
) -> dict[str, Handled | StoreError]:
    """Take from the rows that are left those that are there, and return what is known of each."""
    known: dict[str, Handled | StoreError] = {}
    for message_id, result, hashed in there:
        row = left.pop(message_id, None)
        if row is not None:  # else it is one of another id, of the same hash
            known[message_id] = _known(handler, row, hashed, result)
    return known


def _row(handler: str, delivery: Delivery) -> dict[str, Any]:
    return {
        "handler": handler,
        "message_id": delivery.message_id,
        "queue": delivery.queue,
        "attempt": min(delivery.attempt, HIGHEST_ATTEMPT),
        "body_hash": body_hash(delivery.body),
    }


def _known(
    handler: str, row: Mapping[str, Any], hashed: int | None, result: str | None
) -> Handled | StoreError:
    try:
        _check_body(handler, row, hashed)
    except MessageIdReusedError as error:
        return error
    return Handled(kept_result(result))


def _check_body(handler: str, row: Mapping[str, Any], hashed: int | None) -> None:
    # A row of an earlier version has no hash.
    if hashed is not None and hashed != row["body_hash"]:
        raise MessageIdReusedError(
            f"handler {handler} handled a message of the id {row['message_id']!r} "
            f"before, and its body was another one; each message needs an id of its own"
        )


def _collided(message_id: str | None) -> StoreError:
    return StoreError(
        f"the inbox cannot tell message {message_id!r} from one of another id; its "
        "publisher must give it another one"
    )


async def take_out(
    connection: AsyncConnection, dialect: Dialect, handler: str, deliveries: Sequence[Delivery]
) -> None:
    """Delete rows that this transaction has inserted, of messages that failed in it."""
    if deliveries:
        ids = [each.message_id or "" for each in deliveries]
        await dialect.delete_inbox(connection, ids, (handler, deliveries[0].queue))


def sync_take_out(
    connection: Connection, dialect: Dialect, handler: str, deliveries: Sequence[Delivery]
) -> None:
    """Delete rows as `take_out` does, on the connection of a thread."""
    if deliveries:
        ids = [each.message_id or "" for each in deliveries]
        dialect.sync_delete_inbox(connection, ids, (handler, deliveries[0].queue))


async def keep_result(
    connection: AsyncConnection, dialect: Dialect, handler: str, delivery: Delivery, result: Any
) -> None:
    """Write what the handler returned, for status and for a reply that is asked for again."""
    await keep_results(connection, dialect, handler, [(delivery, result)])


async def keep_results(
    connection: AsyncConnection,
    dialect: Dialect,
    handler: str,
    results: Sequence[tuple[Delivery, Any]],
) -> None:
    """Write what the handler returned for each of many, as `keep_result` does for one."""
    if texts := _texts(results):
        await dialect.set_results(connection, texts, (handler, results[0][0].queue))


def sync_keep_results(
    connection: Connection,
    dialect: Dialect,
    handler: str,
    results: Sequence[tuple[Delivery, Any]],
) -> None:
    """Write results as `keep_results` does, on the connection of a thread."""
    if texts := _texts(results):
        dialect.sync_set_results(connection, texts, (handler, results[0][0].queue))


def _texts(results: Iterable[tuple[Delivery, Any]]) -> dict[str, str]:
    return {d.message_id or "": result_text(result) for d, result in results if result is not None}


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
        result = await connection.execute(dialect.delete_old(table, now))
        deleted += result.rowcount
    return deleted
