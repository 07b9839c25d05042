"""Posts entries in a transaction of the caller's, who commits it: each of the bank's ids once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from sqlalchemy import CursorResult, Executable, bindparam, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from handlers.accounting.double_entry import double_entry
from handlers.accounting.errors import ConflictError, RacedError
from handlers.accounting.lookups import to_look_up
from handlers.accounting.schema import postings, transactions
from handlers.events import EntryRecorded, Origin

LOOKUP_SIZE = 512
"""Ids in one `IN (...)`; SQLite allows 999 parameters in its older builds."""

Execute = Callable[[Executable, list[dict[str, Any]]], Awaitable[CursorResult[Any]]]
"""Runs a statement once for each of these rows."""

Content = Mapping[str, Any]
"""What makes two entries the same, by column; where they stand is not part of it."""

_OF_ENTRY = tuple(
    column.name
    for column in transactions.c
    if column.name not in ("id", "bank_transaction_id", "source_file", "source_line")
)

_INSERT_ENTRIES = transactions.insert()
_INSERT_SIDES = postings.insert()
# Made once: to make it for each batch took a third of what it takes on SQLite.
_CONTENTS = select(*(transactions.c[name] for name in ("bank_transaction_id", *_OF_ENTRY))).where(
    transactions.c.bank_transaction_id.in_(bindparam("ids", expanding=True))
)


async def post_all(
    connection: AsyncConnection,
    entries: Sequence[tuple[EntryRecorded, Origin]],
    *,
    execute: Execute | None = None,
) -> list[bool | ConflictError]:
    """Post entries that are not posted yet, in one go; returns of each whether it is new.

    One whose bank's id is posted already with another content is not posted: its result says so.

    :param execute: runs what inserts rows on the connection; by default, the connection itself
    :raises RacedError: another transaction posted one at the same moment: try again, in another one
    """
    known = await contents(connection, [entry.transaction_id for entry, _ in entries])
    results: list[bool | ConflictError] = []
    new: list[dict[str, Any]] = []
    sides: list[dict[str, Any]] = []
    for entry, origin in entries:
        there = known.get(entry.transaction_id)
        if there is None:
            here = known[entry.transaction_id] = content(entry)
            new.append({**here, "source_file": origin.file, "source_line": origin.line})
            sides += _sides(entry)
        problem = None if there is None else conflict(entry, there)
        results.append(there is None if problem is None else ConflictError(problem))
    if new:
        execute = execute or connection.execute
        try:
            await execute(_INSERT_ENTRIES, new)
        except IntegrityError as error:
            raise RacedError("an entry was posted twice at the same moment") from error
        await execute(_INSERT_SIDES, sides)
    return results


def _sides(entry: EntryRecorded) -> Iterator[dict[str, Any]]:
    for side in double_entry(entry):
        yield {
            "bank_transaction_id": entry.transaction_id,
            "account": str(side.account),
            "amount": side.amount,
        }


def content(entry: EntryRecorded) -> Content:
    """Return what is posted of an entry."""
    columns = {name: getattr(entry, name) for name in _OF_ENTRY}
    return {
        "bank_transaction_id": entry.transaction_id,
        **columns,
        "direction": str(entry.direction),
    }


async def contents(connection: AsyncConnection, ids: Iterable[int]) -> dict[int, Content]:
    """Return what is posted under the bank's ids; an id under which nothing is has no item."""
    all_ids = list(ids)
    found: dict[int, Content] = {}
    for start in range(0, len(all_ids), LOOKUP_SIZE):
        some = {"ids": to_look_up(all_ids[start : start + LOOKUP_SIZE])}
        for row in (await connection.execute(_CONTENTS, some)).mappings():
            found[row["bank_transaction_id"]] = dict(row)
    return found


def conflict(entry: EntryRecorded, there: Content) -> str | None:
    """Say how an entry differs from what is posted under its id; None where it does not."""
    here = content(entry)
    differences = [
        f"{name} is {_shown(there[name])} in the ledger and {_shown(here[name])} here"
        for name in _OF_ENTRY
        if here[name] != there[name]
    ]
    if not differences:
        return None
    return f"transaction {entry.transaction_id} is posted already: {'; '.join(differences)}"


def _shown(value: Any) -> str:
    return f"{value:.2f}" if isinstance(value, Decimal) else str(value)
