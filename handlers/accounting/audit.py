"""Finds what does not add up in what commands have written: nothing, or something is very wrong.

A ledger that is used meanwhile is to be read in a transaction that sees one moment (SQLite's do;
on PostgreSQL REPEATABLE READ): else what is committed between two queries is seen in one of them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from decimal import Decimal
from typing import Any

from sqlalchemy import Select, and_, func, literal, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from handlers.accounting.double_entry import CUSTOMER_PREFIX, customer_account
from handlers.accounting.rules import ZERO, HoldState, Kind
from handlers.accounting.schema import Money, accounts, commands, holds, sides

# The database compares: what it returns is what is wrong, and sums by account, and does not grow
# with all that was ever posted.
_TOTAL = func.sum(sides.c.amount)
_UNBALANCED = (
    select(sides.c.business_key, sides.c.currency, _TOTAL)
    .group_by(sides.c.business_key, sides.c.currency)
    .having(_TOTAL != ZERO)
)
_POSTED = (
    select(sides.c.account, sides.c.currency, func.sum(sides.c.amount))
    .where(sides.c.account.startswith(CUSTOMER_PREFIX, autoescape=True))
    .group_by(sides.c.account, sides.c.currency)
)
_HELD = (
    select(holds.c.account_id, holds.c.currency, func.sum(holds.c.amount))
    .where(holds.c.state == HoldState.PLACED)
    .group_by(holds.c.account_id, holds.c.currency)
)
_EXECUTED = select(holds).where(holds.c.state == HoldState.EXECUTED).subquery()
_REFUNDS = (
    select(commands.c.order_id, commands.c.currency, func.sum(commands.c.amount).label("total"))
    .where(commands.c.kind == Kind.REFUND, commands.c.done)
    .group_by(commands.c.order_id, commands.c.currency)
    .subquery()
)
_OF_ONE_ORDER = and_(
    _EXECUTED.c.order_id == _REFUNDS.c.order_id, _EXECUTED.c.currency == _REFUNDS.c.currency
)
_REFUNDED = func.coalesce(_REFUNDS.c.total, literal(ZERO, Money))
_WRONGLY_REFUNDED = (
    select(_EXECUTED.c.order_id, _EXECUTED.c.currency, _EXECUTED.c.refunded, _REFUNDED)
    .outerjoin_from(_EXECUTED, _REFUNDS, _OF_ONE_ORDER)
    .where(_EXECUTED.c.refunded != _REFUNDED)
)
_OVERPAID = (
    select(_REFUNDS)
    .outerjoin_from(_REFUNDS, _EXECUTED, _OF_ONE_ORDER)
    .where(or_(_EXECUTED.c.order_id.is_(None), _REFUNDS.c.total > _EXECUTED.c.amount))
)


async def problems(connection: AsyncConnection) -> AsyncIterator[str]:
    """Say each thing that does not add up: postings, balances, holds, refunds."""
    for key, currency, total in await connection.execute(_UNBALANCED):
        yield f"the postings of {key} sum to {total} {currency}"
    balances, held = {}, {}
    for row in await connection.execute(select(accounts)):
        balances[customer_account(row.account_id), row.currency] = row.balance
        held[row.account_id, row.currency] = row.held
    for problem in _differences("balance", balances, await _sums(connection, _POSTED)):
        yield problem
    for problem in _differences("held", held, await _sums(connection, _HELD)):
        yield problem
    for order, currency, refunded, total in await connection.execute(_WRONGLY_REFUNDED):
        yield f"refunded of {order} is {refunded} {currency}, and the sum is {total}"
    for order, currency, total in await connection.execute(_OVERPAID):
        yield f"{total} {currency} of order {order} are refunded, more than was paid"


Sums = Mapping[tuple[Any, str], Decimal]


async def _sums(connection: AsyncConnection, query: Select[Any]) -> Sums:
    return {(of, currency): total for of, currency, total in await connection.execute(query)}


def _differences(what: str, kept: Sums, summed: Sums) -> list[str]:
    return [
        f"{what} of {of} is {kept.get((of, currency))} {currency}, and the sum is {total}"
        for of, currency in sorted({*kept, *summed}, key=str)
        if kept.get((of, currency), ZERO) != (total := summed.get((of, currency), ZERO))
    ]
