"""The messages of refunds: an executed order is paid back, in parts or all of it."""

from __future__ import annotations

from handlers.events import Amount, Id
from handlers.messages.values import (
    Currency,
    Frozen,
    OrderId,
    Reason,
)


class RequestRefund(Frozen):
    """`refund.request`: pay a part of an executed order back, or all of it."""

    refund_id: OrderId
    order_id: OrderId
    amount: Amount
    currency: Currency


class RefundExecuted(Frozen):
    """`refund.executed`: the money is back on the account."""

    refund_id: OrderId
    order_id: OrderId
    account_id: Id
    amount: Amount
    currency: Currency


class RefundRefused(Frozen):
    """`refund.refused`: nothing was paid back."""

    refund_id: OrderId
    order_id: OrderId
    account_id: Id | None = None
    """The order's account; None where the order is not known."""
    amount: Amount
    currency: Currency
    reason: Reason
