"""Carries commands out in a transaction of the caller's: each key has its effect once, for ever.

What is there of all of them is read at once, `Books` works out what becomes of each, and all that
has changed is written at once.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Row, bindparam, func, select, tuple_
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from handlers.accounting.books import OF_COMMAND, AccountKey, Books, Noted, Outcome
from handlers.accounting.double_entry import customer_account
from handlers.accounting.errors import ConflictError, RacedError, RefusedError
from handlers.accounting.lookups import to_look_up
from handlers.accounting.posting import Execute
from handlers.accounting.rules import ZERO, Account, Command, Hold, HoldState, Kind
from handlers.accounting.schema import Money, accounts, commands, holds, postings, sides

ENTRIES_CURRENCY = "CZK"
"""Of the bank's entries, which count in the account of the same number."""

Rows = list[dict[str, Any]]

# Statements that are made once: to make them for each run took a third of its processor time.
_COMMANDS = select(commands).where(commands.c.business_key.in_(bindparam("keys", expanding=True)))
# All lock rows in one order, holds before accounts: nobody waits in a circle.
_HOLDS = (
    select(holds)
    .where(holds.c.order_id.in_(bindparam("orders", expanding=True)))
    .order_by(holds.c.order_id)
    .with_for_update()
)
_ACCOUNTS = select(accounts).where(
    tuple_(accounts.c.account_id, accounts.c.currency).in_(bindparam("keys", expanding=True))
)
_LOCKED = _ACCOUNTS.order_by(accounts.c.account_id, accounts.c.currency).with_for_update()
_ENTRIES = (
    select(postings.c.account, func.sum(postings.c.amount).label("amount"))
    .where(postings.c.account.in_(bindparam("customers", expanding=True)))
    .group_by(postings.c.account)
)
_CHANGE_HOLD = (
    holds.update()
    .where(holds.c.order_id == bindparam("order"))
    .values(state=bindparam("new_state"), refunded=bindparam("new_refunded"))
)
_CHANGE_ACCOUNT = (
    accounts.update()
    .where(accounts.c.account_id == bindparam("account"))
    .where(accounts.c.currency == bindparam("of_currency"))
    .values(
        balance=accounts.c.balance + bindparam("more", type_=Money),
        held=accounts.c.held + bindparam("more_held", type_=Money),
        overdraft=bindparam("new_overdraft"),
    )
)
_INSERT = {table: table.insert() for table in (accounts, commands, holds, sides)}


async def carry_out_all(
    connection: AsyncConnection,
    asked: Sequence[Command],
    now: dt.datetime,
    *,
    execute: Execute | None = None,
) -> list[Outcome | ConflictError | RefusedError]:
    """Carry commands out, each after those before it; one that is already gets the same answer.

    An error as a result says why a command was not: its key, or its order, is in the ledger with
    another content; or it cannot be carried out, and is of a kind that has no answer.

    :param execute: runs what changes rows on the connection; by default, the connection itself
    :raises RacedError: another transaction did so at the same moment: try again, in another one
    """
    books, rows = await _read(connection, asked)
    results: list[Outcome | ConflictError | RefusedError] = []
    for command in asked:
        try:
            results.append(books.carry_out(command, now))
        except (ConflictError, RefusedError) as error:
            results.append(error)
    try:
        for statement, values in (
            *_of_accounts(books, rows),
            (_INSERT[commands], [_command_row(*each) for each in books.new_commands]),
            (_INSERT[sides], _side_rows(books)),
            *_of_holds(books),
        ):
            if values:
                await (execute or connection.execute)(statement, values)
    except IntegrityError as error:
        raise RacedError("what was to be carried out was, at the same moment") from error
    return results


async def account(connection: AsyncConnection, account_id: int, currency: str) -> Account | None:
    """Return an account as it is; None where neither a command nor an entry has been for it."""
    key = account_id, currency
    rows = await connection.execute(_ACCOUNTS, {"keys": [key]})
    return (await _with_entries(connection, [key], {_key(row): row for row in rows})).get(key)


async def _read(
    connection: AsyncConnection, asked: Sequence[Command]
) -> tuple[Books, Collection[AccountKey]]:
    """Read what is there of all that commands are about, and lock it; say which accounts have rows.

    An account that only the bank's entries know has none: who is the first to change it adds one.
    """
    found = await connection.execute(_COMMANDS, {"keys": to_look_up([each.key for each in asked])})
    books = Books({row.business_key: _noted(row) for row in found}, {}, {})
    new = [each for each in asked if each.key not in books.noted]
    if orders := sorted({each.order_id for each in new if each.order_id is not None}):
        of_orders = await connection.execute(_HOLDS, {"orders": to_look_up(orders)})
        books.holds = {row.order_id: _hold(row) for row in of_orders}
    keys = set[AccountKey]()
    for each in new:
        hold = books.hold_of(each)
        if currency := each.currency or (hold.currency if hold is not None else None):
            keys.add((each.account_id, currency))
    if not keys:
        return books, ()
    there = await connection.execute(_LOCKED, {"keys": to_look_up(sorted(keys))})
    rows = {_key(row): row for row in there}
    books.accounts = await _with_entries(connection, keys, rows)
    return books, rows.keys()


async def _with_entries(
    connection: AsyncConnection, keys: Collection[AccountKey], rows: dict[AccountKey, Row[Any]]
) -> dict[AccountKey, Account]:
    """Make the accounts of rows, with the bank's entries; and those that entries alone know."""
    customers = [customer_account(number) for number, of in keys if of == ENTRIES_CURRENCY]
    entries = {}
    if customers:
        sums = await connection.execute(_ENTRIES, {"customers": to_look_up(customers)})
        entries = {row.account: row.amount for row in sums}
    found: dict[AccountKey, Account] = {}
    for key in keys:
        number, currency = key
        row = rows.get(key)
        more = entries.get(customer_account(number)) if currency == ENTRIES_CURRENCY else None
        if row is not None:
            balance = row.balance + (more or ZERO)
            found[key] = Account(number, currency, row.overdraft, balance, row.held)
        elif more is not None:
            found[key] = Account(number, currency, balance=more)
    return found


def _key(row: Row[Any]) -> AccountKey:
    return row.account_id, row.currency


def _noted(row: Row[Any]) -> Noted:
    content = {name: getattr(row, name) for name in OF_COMMAND}
    return Noted(
        Command(row.business_key, **(content | {"kind": Kind(row.kind)})), row.done, row.reason
    )


def _hold(row: Row[Any]) -> Hold:
    state = HoldState(row.state)
    return Hold(row.order_id, row.account_id, row.amount, row.currency, state, row.refunded)


def _command_row(noted: Noted, now: dt.datetime) -> dict[str, Any]:
    content = {name: getattr(noted.command, name) for name in OF_COMMAND}
    said = {"done": noted.done, "reason": noted.reason, "carried_out_at": now}
    return {"business_key": noted.command.key, **content, **said}


def _side_rows(books: Books) -> Rows:
    return [
        {"business_key": key, "account": side.account, "currency": of, "amount": side.amount}
        for key, of, side in books.new_sides
    ]


def _of_accounts(
    books: Books, rows: Collection[AccountKey]
) -> tuple[tuple[Any, Rows], tuple[Any, Rows]]:
    """Return what writes the accounts that changed; the bank's entries are not in their rows."""
    new: Rows = []
    changed: Rows = []
    for key, before in books.changed_accounts.items():
        number, currency = key
        now = books.accounts[key]
        more, more_held = now.balance - before.balance, now.held - before.held
        if key in rows:
            sums = {"more": more, "more_held": more_held, "new_overdraft": now.overdraft}
            changed.append({"account": number, "of_currency": currency, **sums})
        else:
            columns = {"overdraft": now.overdraft, "balance": more, "held": more_held}
            new.append({"account_id": number, "currency": currency, **columns})
    return (_INSERT[accounts], new), (_CHANGE_ACCOUNT, changed)


def _of_holds(books: Books) -> tuple[tuple[Any, Rows], tuple[Any, Rows]]:
    """Return what writes the holds that are new, and those that changed."""
    new: Rows = []
    changed: Rows = []
    for order_id, before in books.changed_holds.items():
        now = books.holds[order_id]
        if before is None:
            new.append({column.name: getattr(now, column.name) for column in holds.c})
        else:
            state = {"new_state": now.state, "new_refunded": now.refunded}
            changed.append({"order": order_id, **state})
    return (_INSERT[holds], new), (_CHANGE_HOLD, changed)
