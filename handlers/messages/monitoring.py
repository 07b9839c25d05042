"""The messages of monitoring: alerts, and the summary of what was seen."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import Annotated

from pydantic import AwareDatetime, Field

from handlers.messages.values import (
    LONG,
    Currency,
    Frozen,
)


class Invariant(StrEnum):
    """What must hold at every moment."""

    DEBITS_EQUAL_CREDITS = "debits-equal-credits"
    HOLDS_ADD_UP = "holds-add-up"
    ORDER_IN_TIME = "order-in-time"
    ONE_END = "one-end"
    ONE_EFFECT = "one-effect"
    REFUNDED_AT_MOST_PAID = "refunded-at-most-paid"


class Alert(Frozen):
    """`alert.INVARIANT`: an invariant does not hold."""

    invariant: Invariant
    about: Annotated[str, Field(max_length=LONG)]
    """The order, account or business key that it is about."""
    what: Annotated[str, Field(max_length=1000)]


class JudgeOrders(Frozen):
    """`monitoring.judge`: judge the orders whose time is over then."""

    at: AwareDatetime


class AskSummary(Frozen):
    """`monitoring.summary`: a request, which `Summary` answers."""


class Count(Frozen):
    """How many things of one kind were seen, and how much money they are about."""

    kind: str
    """`accepted`, `end`, `hold`, `hold-end`, `posting`, `refund`, `month`."""
    detail: str
    """What it was of its kind: `executed`, `refused`, `deposit`."""
    currency: str
    """Empty where it is about no money."""
    number: int
    amount: Decimal


class Totals(Frozen):
    """What was posted in one currency, and what is held."""

    currency: Currency
    debits: Decimal
    credits: Decimal
    held: Decimal


class Summary(Frozen):
    """What the monitoring service has seen."""

    counts: tuple[Count, ...]
    totals: tuple[Totals, ...]
    unsettled: int
    """Orders of which something has still to come."""
    alerts: int
    latest_alerts: tuple[Alert, ...]
    """The latest ten."""
