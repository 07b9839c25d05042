"""The messages of orders: a payment from a customer's account to a partner."""

from __future__ import annotations

from typing import Annotated

from pydantic import AwareDatetime, Field

from handlers.events import Amount, Id
from handlers.messages.values import (
    LONG,
    WITHOUT_NUL,
    Currency,
    Frozen,
    OrderId,
    Partner,
    Reason,
)


class PlaceOrder(Frozen):
    """`order.place`: pay a partner from a customer's account."""

    order_id: OrderId
    account_id: Id
    partner: Partner
    amount: Amount
    currency: Currency
    purpose: Annotated[str, Field(max_length=LONG, pattern=WITHOUT_NUL)] = ""


class OrderAccepted(Frozen):
    """`order.accepted`: the order is known; what becomes of it is said by one more event."""

    order_id: OrderId
    account_id: Id
    amount: Amount
    currency: Currency
    deadline: AwareDatetime
    """When its end is overdue (UTC)."""


class OrderExecuted(Frozen):
    """`order.executed`: the money has left the account; the order's one end."""

    order_id: OrderId
    account_id: Id
    partner: Partner
    amount: Amount
    currency: Currency


class OrderRefused(Frozen):
    """`order.refused`: no money was moved, and none is held; the order's one end."""

    order_id: OrderId
    account_id: Id
    amount: Amount
    currency: Currency
    reason: Reason
    compensated: bool = False
    """Whether something was done for it before, and was taken back."""
