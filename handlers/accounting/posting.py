"""Posts entries in a transaction of the caller's, who commits it: each of the bank's ids once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any

from sqlalchemy import ColumnElement, CursorResult, Executable, Insert, bindparam, select, union_all
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from handlers.accounting.double_entry import double_entry
from handlers.accounting.errors import ConflictError
from handlers.accounting.schema import postings, transactions
from handlers.events import NOWHERE, EntryRecorded, Origin

LOOKUP_SIZE = 500
"""Ids in one `IN (...)`; SQLite allows 999 parameters in its older builds."""

Execute = Callable[[Executable, dict[str, Any]], Awaitable[CursorResult[Any]]]

Content = Mapping[str, Any]
"""What makes two entries the same, by column; where they stand is not part of it."""

_OF_ENTRY = tuple(
    column.name
    for column in transactions.c
    if column.name not in ("id", "bank_transaction_id", "source_file", "source_line")
)

_ENTRY = (
    transactions.c.bank_transaction_id,
    *(transactions.c[name] for name in (*_OF_ENTRY, "source_file", "source_line")),
)
_ENTRY_VALUES = {
    column.name: bindparam(f"new_{column.name}", type_=column.type) for column in _ENTRY
}


def _insert_sides(of: ColumnElement[int]) -> Insert:
    """Make the INSERT of the two postings of a transaction, whose id is `of`."""
    sides = union_all(
        *(
            select(
                of,
                bindparam(f"{side}_account", type_=postings.c.account.type),
                bindparam(f"{side}_amount", type_=postings.c.amount.type),
            )
            for side in ("customer", "bank")
        )
    )
    return postings.insert().from_select(["bank_transaction_id", "account", "amount"], sides)


# Inline: nobody asks for the number that the database gives the row.
_INSERT_ENTRY = sqlite.insert(transactions).values(_ENTRY_VALUES).on_conflict_do_nothing().inline()
_INSERT_SIDES = _insert_sides(_ENTRY_VALUES["bank_transaction_id"])

_NEW = (
    postgresql.insert(transactions)
    .values(_ENTRY_VALUES)
    .on_conflict_do_nothing(index_elements=[transactions.c.bank_transaction_id])
    .returning(transactions.c.bank_transaction_id)
    .cte("new")
)
_INSERT_BOTH = _insert_sides(_NEW.c.bank_transaction_id)
"""The entry and its postings in one statement, which SQLite does not know."""


async def post(
    connection: AsyncConnection,
    entry: EntryRecorded,
    origin: Origin = NOWHERE,
    *,
    execute: Execute | None = None,
) -> bool:
    """Post an entry, unless it is posted already; returns whether it is new.

    :param execute: runs statements on the connection; by default, the connection itself
    :raises ConflictError: the bank's id is posted already, with another content
    """
    values = _values(entry, origin)
    execute = execute or connection.execute
    if connection.dialect.name == "postgresql":
        inserted = await execute(_INSERT_BOTH, values)
    else:
        inserted = await execute(_INSERT_ENTRY, values)
        if inserted.rowcount:
            await execute(_INSERT_SIDES, values)
    if inserted.rowcount:
        return True
    there = await contents(connection, [entry.transaction_id])
    if problem := conflict(entry, there[entry.transaction_id]):
        raise ConflictError(problem)
    return False


def _values(entry: EntryRecorded, origin: Origin) -> dict[str, Any]:
    customer, bank = double_entry(entry)
    of_entry = {f"new_{name}": value for name, value in content(entry).items()}
    return of_entry | {
        "new_source_file": origin.file,
        "new_source_line": origin.line,
        "customer_account": customer.account,
        "customer_amount": customer.amount,
        "bank_account": str(bank.account),
        "bank_amount": bank.amount,
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
