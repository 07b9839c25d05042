"""Carries commands out in a transaction of the caller's: each key has its effect once, for ever."""

from __future__ import annotations

import dataclasses
import datetime as dt
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, Table, bindparam, func, literal, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from handlers.accounting.double_entry import customer_account
from handlers.accounting.errors import ConflictError, RacedError
from handlers.accounting.posting import Execute
from handlers.accounting.rules import (
    ZERO,
    Account,
    Command,
    Decision,
    Hold,
    HoldState,
    Kind,
    decide,
)
from handlers.accounting.schema import Money, accounts, commands, holds, postings, sides

ENTRIES_CURRENCY = "CZK"
"""Of the bank's entries, which count in the account of the same number."""

OPENED_BY = frozenset({Kind.OPEN, Kind.DEPOSIT})
"""The kinds of command that make an account where there is none: a deposit does, too."""

_OF_COMMAND = tuple(field.name for field in dataclasses.fields(Command) if field.name != "key")
"""What makes two commands the same, by column."""


# Statements that are made once: to make them for each command took a third of its processor time.
_ENTRIES = select(func.sum(postings.c.amount)).where(
    postings.c.account == bindparam("customer", type_=postings.c.account.type)
)
_ACCOUNT = select(accounts.c.overdraft, accounts.c.balance, accounts.c.held).where(
    accounts.c.account_id == bindparam("account_id"), accounts.c.currency == bindparam("currency")
)
_OTHERS = _ACCOUNT.add_columns(literal(None, Money).label("entries"))
_WITH_ENTRIES = _ACCOUNT.add_columns(_ENTRIES.scalar_subquery().label("entries"))
_LOCKING = {query: query.with_for_update(of=accounts) for query in (_OTHERS, _WITH_ENTRIES)}
_FIND = (
    select(
        *(commands.c[name] for name in ("business_key", *_OF_COMMAND, "done", "reason")),
        *(column.label(f"hold_{column.name}") for column in holds.c),
    )
    .select_from(select(literal(1).label("one")).subquery())
    .outerjoin(commands, commands.c.business_key == bindparam("business_key"))
    .outerjoin(holds, holds.c.order_id == bindparam("order_id"))
)
_CHANGE_HOLD = (
    holds.update()
    .where(holds.c.order_id == bindparam("order"))
    .where(holds.c.state == bindparam("state_before"))
    .where(holds.c.refunded == bindparam("refunded_before"))
    .values(state=bindparam("new_state"), refunded=bindparam("new_refunded"))
)
_CHANGE = (
    accounts.update()
    .where(accounts.c.account_id == bindparam("account"))
    .where(accounts.c.currency == bindparam("of_currency"))
    .values(
        balance=accounts.c.balance + bindparam("more", type_=Money),
        held=accounts.c.held + bindparam("more_held", type_=Money),
        overdraft=bindparam("new_overdraft"),
    )
)
_SIDES = 2
_INSERT_SIDES = sides.insert().values(
    [
        {c.name: bindparam(f"{c.name}_{side}", type_=c.type) for c in sides.c}
        for side in range(_SIDES)
    ]
)
_INSERTS = {
    (dialect, table): insert(table).on_conflict_do_nothing()
    for dialect, insert in (("sqlite", sqlite.insert), ("postgresql", postgresql.insert))
    for table in (accounts, commands, holds)
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a command, now or when it came for the first time."""

    decision: Decision
    currency: str | None = None
    """The currency of what was posted, or is held."""
    repeated: bool = False
    """It came before: the decision says what was answered then, and nothing was done now."""


async def carry_out(
    connection: AsyncConnection,
    command: Command,
    now: dt.datetime,
    *,
    execute: Execute | None = None,
) -> Outcome:
    """Carry a command out, unless it is already; then it gets the same answer.

    :param execute: runs what changes rows on the connection; by default, the connection itself
    :raises ConflictError: its key, or its order, is in the ledger with another content
    :raises RefusedError: it cannot be carried out, and is of a kind that has no answer
    :raises RacedError: another transaction did so at the same moment: try again, in another one
    """
    there, hold = await _find(connection, command)
    if there is not None:
        if problem := _conflict(command, there):
            raise ConflictError(problem)
        return Outcome(Decision(there.done, there.reason), there.currency, repeated=True)
    currency = command.currency or (hold.currency if hold is not None else None)
    account = None
    if currency is not None:
        opens = command.kind in OPENED_BY
        account = await _locked(connection, command.account_id, currency, opens=opens)
    decision = decide(command, account, hold)
    writer = _Writer(connection.dialect.name, execute or connection.execute)
    await _note(writer, command, decision, now)
    if decision.hold is not None:
        await _keep_hold(writer, hold, decision.hold)
    if account is not None and decision.done:
        await _change(writer, account, decision)
    if decision.postings:
        await _post(writer, command, decision, currency)
    return Outcome(decision, currency)


async def account(connection: AsyncConnection, account_id: int, currency: str) -> Account | None:
    """Return an account as it is; None where neither a command nor an entry has been for it."""
    found = await _read(connection, account_id, currency)
    if found is not None or currency != ENTRIES_CURRENCY:
        return found
    entries = await connection.scalar(_ENTRIES, {"customer": customer_account(account_id)})
    return None if entries is None else Account(account_id, currency, balance=entries)


async def _locked(
    connection: AsyncConnection, account_id: int, currency: str, *, opens: bool
) -> Account | None:
    """Lock an account's row until the end of the transaction, and return the account."""
    found = await _read(connection, account_id, currency, locks=True)
    if found is not None:
        return found
    if not opens and await account(connection, account_id, currency) is None:
        return None
    new = {"overdraft": ZERO, "balance": ZERO, "held": ZERO}
    writer = _Writer(connection.dialect.name, connection.execute)
    await writer.insert(accounts, account_id=account_id, currency=currency, **new)
    return await _read(connection, account_id, currency, locks=True)


async def _read(
    connection: AsyncConnection, account_id: int, currency: str, *, locks: bool = False
) -> Account | None:
    of = {"account_id": account_id, "currency": currency}
    query = _OTHERS
    if currency == ENTRIES_CURRENCY:
        query = _WITH_ENTRIES
        of["customer"] = customer_account(account_id)
    if locks:
        query = _LOCKING[query]
    row = (await connection.execute(query, of)).one_or_none()
    if row is None:
        return None
    balance = row.balance + (row.entries or ZERO)
    return Account(account_id, currency, row.overdraft, balance, row.held)


async def _find(
    connection: AsyncConnection, command: Command
) -> tuple[Row[Any] | None, Hold | None]:
    """Read what is there under the command's key, and the hold of its order."""
    of = {"business_key": command.key, "order_id": command.order_id}
    row = (await connection.execute(_FIND, of)).one()
    hold = None
    if row.hold_order_id is not None:
        hold = Hold(
            row.hold_order_id,
            row.hold_account_id,
            row.hold_amount,
            row.hold_currency,
            HoldState(row.hold_state),
            row.hold_refunded,
        )
    return (row if row.business_key is not None else None), hold


def _conflict(command: Command, there: Row[Any]) -> str | None:
    differences = [
        f"{name} is {getattr(there, name)} in the ledger and {getattr(command, name)} here"
        for name in _OF_COMMAND
        if getattr(there, name) != getattr(command, name)
    ]
    if not differences:
        return None
    return f"{command.key} is in the ledger already: {'; '.join(differences)}"


@dataclass(frozen=True, slots=True)
class _Writer:
    """Runs what changes rows."""

    dialect: str
    execute: Execute

    async def insert(self, table: Table, **values: Any) -> bool:
        """Insert a row, unless its key is there; returns whether it was not."""
        done = await self.execute(_INSERTS[self.dialect, table], values)
        return bool(done.rowcount)


async def _note(writer: _Writer, command: Command, decision: Decision, now: dt.datetime) -> None:
    content = {name: getattr(command, name) for name in _OF_COMMAND}
    is_new = await writer.insert(
        commands,
        business_key=command.key,
        **content,
        done=decision.done,
        reason=decision.reason,
        carried_out_at=now,
    )
    if not is_new:
        raise RacedError(f"{command.key} came twice at the same moment")


async def _keep_hold(writer: _Writer, before: Hold | None, after: Hold) -> None:
    if before is None:
        content = {column.name: getattr(after, column.name) for column in holds.c}
        is_kept = await writer.insert(holds, **content)
    else:
        new = {
            "order": before.order_id,
            "state_before": before.state,
            "refunded_before": before.refunded,
            "new_state": after.state,
            "new_refunded": after.refunded,
        }
        is_kept = bool((await writer.execute(_CHANGE_HOLD, new)).rowcount)
    if not is_kept:
        raise RacedError(f"what is held for order {after.order_id} changed at the same moment")


async def _change(writer: _Writer, account: Account, decision: Decision) -> None:
    if not decision.postings and not decision.held and decision.overdraft is None:
        return
    changes = {
        "account": account.account_id,
        "of_currency": account.currency,
        "more": decision.balance,
        "more_held": decision.held,
        "new_overdraft": account.overdraft if decision.overdraft is None else decision.overdraft,
    }
    await writer.execute(_CHANGE, changes)


async def _post(
    writer: _Writer, command: Command, decision: Decision, currency: str | None
) -> None:
    values: dict[str, Any] = {}
    for side, each in enumerate(decision.postings):
        values |= {
            f"business_key_{side}": command.key,
            f"account_{side}": each.account,
            f"currency_{side}": currency,
            f"amount_{side}": each.amount,
        }
    await writer.execute(_INSERT_SIDES, values)
