"""The messages of risk: whether an order may be executed, and what limits that."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from handlers.events import MAX_ID, Amount, Id
from handlers.messages.values import (
    Currency,
    Frozen,
    OrderId,
    Partner,
    Reason,
)


class CheckRisk(Frozen):
    """`risk.check`: ask whether an order may be executed."""

    order_id: OrderId
    account_id: Id
    partner: Partner
    amount: Amount
    currency: Currency


class RiskAnswered(Frozen):
    """`risk.answered`: whether it may, and why not."""

    order_id: OrderId
    passed: bool
    reason: Reason = ""


class SetRiskLimit(Frozen):
    """`risk.limit`: say how much an account may pay in one order, and how many within a window."""

    account_id: Id
    currency: Currency
    most_per_order: Amount
    most_orders: Annotated[int, Field(ge=0, le=MAX_ID)]
    """Orders within the sliding window of `window` seconds."""
    window: Annotated[float, Field(gt=0, allow_inf_nan=False)]


class RefusePartner(Frozen):
    """`risk.refuse-partner`: pay this partner no more."""

    partner: Partner
    reason: Reason


class RiskLimitOf(Frozen):
    """`risk.limits`: a request, which `SetRiskLimit` answers, or null where none was set."""

    account_id: Id
    currency: Currency
