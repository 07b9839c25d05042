"""What the refunds service keeps: what was paid for each order, and each refund that was asked for.

An order's refunds together are never more than was paid. A refund locks the order's row before it
looks what is left: of two at the same moment, in whatever processes, the second one waits for the
first one's commit, and sees what is left then. (SQLite has one writer at a time anyway.)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    MetaData,
    Row,
    String,
    Table,
    bindparam,
    select,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from handlers.accounting.schema import Money
from handlers.records.inserting import insert_new

metadata = MetaData()

orders = Table(
    "refunds_order",
    metadata,
    Column("order_id", String, primary_key=True),
    Column("account_id", BigInteger, nullable=False),
    Column("currency", String(3), nullable=False),
    Column("paid", Money, CheckConstraint("paid > 0"), nullable=False),
    # By refunds that are paid, or that the ledger has still to answer.
    Column("taken", Money, CheckConstraint("taken BETWEEN 0 AND paid"), nullable=False),
)

refunds = Table(
    "refunds_refund",
    metadata,
    Column("refund_id", String, primary_key=True),
    Column("order_id", String, nullable=False, index=True),
    Column("amount", Money, nullable=False),
    Column("currency", String(3), nullable=False),
    Column("state", String(8), nullable=False),
    Column("reason", String, nullable=False),
)

# Statements that are made once: to make one takes longer than all else that SQLAlchemy does.
_ORDER = select(orders).where(orders.c.order_id == bindparam("of_order"))
_LOCKED = _ORDER.with_for_update()
_TAKE = (
    orders.update()
    .where(orders.c.order_id == bindparam("of_order"))
    .values(taken=orders.c.taken + bindparam("more", type_=Money))
)
_END = (
    refunds.update()
    .where(refunds.c.refund_id == bindparam("of_refund"), refunds.c.state == bindparam("before"))
    .values(state=bindparam("end"), reason=bindparam("why"))
    .returning(refunds.c.order_id, refunds.c.amount, refunds.c.currency)
)


class ReusedIdError(Exception):
    """An id is known with another content; the message says which, and how they differ."""


class UnknownOrderError(Exception):
    """Nothing is known to have been paid for the order: not yet, or it never was."""


class State(StrEnum):
    """What has become of a refund."""

    RESERVED = "reserved"
    EXECUTED = "executed"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Refund:
    """A refund that was asked for, and what has become of it."""

    refund_id: str
    order_id: str
    amount: Decimal
    currency: str
    state: State = State.RESERVED
    reason: str = ""
    account_id: int | None = None
    """The order's; None where that is not known."""


async def note_paid(
    connection: AsyncConnection, order_id: str, account_id: int, amount: Decimal, currency: str
) -> None:
    """Note what was paid for an order; a second time it does nothing.

    :raises ReusedIdError: it is noted with another content
    """
    new = {"account_id": account_id, "currency": currency, "paid": amount}
    if not await _insert(connection, orders, order_id=order_id, **new, taken=Decimal(0)):
        there = await _order(connection, order_id)
        assert there is not None, "its id is taken"
        _check_same(f"order {order_id}", there, new)


async def reserve(connection: AsyncConnection, asked: Refund, *, waits: bool) -> Refund | None:
    """Take a refund's amount of what was paid, or refuse it; None if it was asked for before.

    :param waits: whether to raise where nothing is known of the order, and not to refuse
    :raises ReusedIdError: it was asked for before, with another content
    :raises UnknownOrderError: nothing is known of the order; what was written must be rolled back
    """
    if not await _note(connection, asked):
        return None
    of = {"of_order": asked.order_id}
    order = (await connection.execute(_LOCKED, of)).one_or_none()
    reason = _why_not(asked, order)
    if order is None and waits:
        raise UnknownOrderError(reason)
    account_id = None if order is None else order.account_id
    if reason:
        await _end(connection, asked.refund_id, State.REFUSED, reason)
        return replace(asked, state=State.REFUSED, reason=reason, account_id=account_id)
    await connection.execute(_TAKE, {**of, "more": asked.amount})
    return replace(asked, account_id=account_id)


def _why_not(asked: Refund, order: Row[Any] | None) -> str:
    if order is None:
        return f"order {asked.order_id} is not known to be paid"
    if order.currency != asked.currency:
        return f"order {asked.order_id} was paid in {order.currency}, not {asked.currency}"
    left = order.paid - order.taken
    if asked.amount <= left:
        return ""
    return f"of {order.paid:.2f} paid for order {asked.order_id} {left:.2f} are left to refund"


async def settle(
    connection: AsyncConnection, refund_id: str, *, paid: bool, reason: str
) -> Refund | None:
    """End a refund as the ledger answered; None if it has ended before, or was never asked for."""
    state = State.EXECUTED if paid else State.REFUSED
    if (row := await _end(connection, refund_id, state, reason)) is None:
        return None
    if not paid:
        await connection.execute(_TAKE, {"of_order": row.order_id, "more": -row.amount})
    order = await _order(connection, row.order_id)
    assert order is not None, "the refund was reserved"
    return Refund(
        refund_id, row.order_id, row.amount, row.currency, state, reason, order.account_id
    )


async def _note(connection: AsyncConnection, refund: Refund) -> bool:
    """Note a refund; returns whether it is new."""
    asked = {"order_id": refund.order_id, "amount": refund.amount, "currency": refund.currency}
    of_state = {"state": refund.state, "reason": refund.reason}
    if await _insert(connection, refunds, refund_id=refund.refund_id, **asked, **of_state):
        return True
    query = select(refunds).where(refunds.c.refund_id == refund.refund_id)
    _check_same(f"refund {refund.refund_id}", (await connection.execute(query)).one(), asked)
    return False


async def _end(
    connection: AsyncConnection, refund_id: str, state: State, reason: str
) -> Row[Any] | None:
    of = {"of_refund": refund_id, "before": State.RESERVED, "end": state, "why": reason}
    return (await connection.execute(_END, of)).one_or_none()


async def _order(connection: AsyncConnection, order_id: str) -> Row[Any] | None:
    return (await connection.execute(_ORDER, {"of_order": order_id})).one_or_none()


def _check_same(what: str, there: Row[Any], here: dict[str, Any]) -> None:
    differences = [
        f"{name} is {getattr(there, name)} there and {value} here"
        for name, value in here.items()
        if getattr(there, name) != value
    ]
    if differences:
        raise ReusedIdError(f"{what} is known already: {'; '.join(differences)}")


async def _insert(connection: AsyncConnection, table: Table, **values: Any) -> bool:
    """Insert a row, unless its key is there; returns whether it was not."""
    done = await connection.execute(insert_new(connection, table), values)
    return bool(done.rowcount)
