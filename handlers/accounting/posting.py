"""Posts entries in a transaction of the caller's, who commits it: each of the bank's ids once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from sqlalchemy import Executable, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from handlers.accounting.double_entry import double_entry
from handlers.accounting.errors import ConflictError
from handlers.accounting.schema import postings, transactions
from handlers.events import NOWHERE, EntryRecorded, Origin

LOOKUP_SIZE = 500
"""Ids in one `IN (...)`; SQLite allows 999 parameters in its older builds."""

Content = Mapping[str, Any]
"""What makes two entries the same, by column; where they stand is not part of it."""

_OF_ENTRY = tuple(
    column.name
    for column in transactions.c
    if column.name not in ("id", "bank_transaction_id", "source_file", "source_line")
)

# Inline: nobody asks for the number that the database gives the row.
_INSERT: Mapping[str, Executable] = {
    name: insert(transactions)
    .on_conflict_do_nothing(index_elements=[transactions.c.bank_transaction_id])
    .inline()
    for name, insert in (("sqlite", sqlite.insert), ("postgresql", postgresql.insert))
}
_INSERT_POSTINGS = postings.insert().inline()


async def post(connection: AsyncConnection, entry: EntryRecorded, origin: Origin = NOWHERE) -> bool:
    """Post an entry, unless it is posted already; returns whether it is new.

    :raises ConflictError: the bank's id is posted already, with another content
    """
    row = {**content(entry), "source_file": origin.file, "source_line": origin.line}
    inserted = await connection.execute(_INSERT[connection.dialect.name], row)
    if not inserted.rowcount:
        there = await contents(connection, [entry.transaction_id])
        if problem := conflict(entry, there[entry.transaction_id]):
            raise ConflictError(problem)
        return False
    sides = [
        {
            "bank_transaction_id": entry.transaction_id,
            "account": posting.account,
            "amount": posting.amount,
        }
        for posting in double_entry(entry)
    ]
    await connection.execute(_INSERT_POSTINGS, sides)
    return True


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
    columns = [transactions.c[name] for name in ("bank_transaction_id", *_OF_ENTRY)]
    all_ids = list(ids)
    found: dict[int, Content] = {}
    for start in range(0, len(all_ids), LOOKUP_SIZE):
        some = all_ids[start : start + LOOKUP_SIZE]
        query = select(*columns).where(transactions.c.bank_transaction_id.in_(some))
        for row in (await connection.execute(query)).mappings():
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
