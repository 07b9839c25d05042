"""What the services have said, as facts: each event states one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from handlers.messages import (
    HoldChanged,
    HoldState,
    MonthClosed,
    OrderAccepted,
    OrderExecuted,
    OrderRefused,
    Posted,
    RefundExecuted,
    RefundRefused,
)

Event = (
    OrderAccepted
    | OrderExecuted
    | OrderRefused
    | HoldChanged
    | Posted
    | RefundExecuted
    | RefundRefused
    | MonthClosed
)
"""What the services say, and the monitoring service hears."""

ZERO = Decimal("0.00")


class Kind(StrEnum):
    """What a fact is about."""

    ACCEPTED = "accepted"
    END = "end"
    HOLD = "hold"
    HOLD_END = "hold-end"
    POSTING = "posting"
    REFUND = "refund"
    MONTH = "month"


EXECUTED = "executed"
REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Fact:
    """What an event says, as far as an invariant depends on it."""

    kind: Kind
    key: str
    """The order, the refund, the business key: there is one fact of a kind and key."""
    order_id: str | None
    account_id: int | None
    amount: Decimal
    currency: str
    """Empty where it is about no money."""
    detail: str
    """What it was of its kind: `executed`, `refused`, `deposit`."""
    content: str
    """All that may not differ where it comes again."""
    deadline: float | None = None
    """When the order's end is overdue, in seconds since 1970."""

    @property
    def id(self) -> str:
        """What there is one of."""
        return f"{self.kind}:{self.key}"


def fact_of(event: Event) -> Fact:
    """Read the fact that an event states."""
    if isinstance(event, Posted):
        return _posting(event)
    if isinstance(event, MonthClosed):
        content = f"{event.accounts} accounts"
        return Fact(Kind.MONTH, event.month, None, None, ZERO, "", "closed", content)
    kind, detail = _KINDS[type(event)]
    key, more, deadline = event.order_id, "", None
    if isinstance(event, HoldChanged):
        kind = Kind.HOLD if event.state is HoldState.PLACED else Kind.HOLD_END
        detail = event.state.value
    elif isinstance(event, RefundExecuted | RefundRefused):
        key, more = event.refund_id, f", of order {event.order_id}"
    elif isinstance(event, OrderExecuted):
        more = f", to {event.partner.bank} {event.partner.account}"
    elif isinstance(event, OrderAccepted):
        deadline = event.deadline.timestamp()
    account, amount, currency = event.account_id, event.amount, event.currency
    content = f"{detail}: {amount:.2f} {currency}, account {account}{more}"
    return Fact(kind, key, event.order_id, account, amount, currency, detail, content, deadline)


_KINDS: dict[type, tuple[Kind, str]] = {
    OrderAccepted: (Kind.ACCEPTED, "accepted"),
    OrderExecuted: (Kind.END, EXECUTED),
    OrderRefused: (Kind.END, REFUSED),
    HoldChanged: (Kind.HOLD, ""),
    RefundExecuted: (Kind.REFUND, EXECUTED),
    RefundRefused: (Kind.REFUND, REFUSED),
}


def _posting(event: Posted) -> Fact:
    sides = sorted((side.account, side.currency, side.amount) for side in event.sides)
    said = ", ".join(f"{account} {amount:.2f} {currency}" for account, currency, amount in sides)
    return Fact(
        Kind.POSTING,
        event.business_key,
        event.order_id,
        event.account_id,
        sum((side.amount for side in event.sides if side.amount > 0), ZERO),
        event.sides[0].currency if event.sides else "",
        event.kind,
        f"{event.kind}: {said}",
    )


Sums = dict[tuple[str, str], tuple[Decimal, Decimal, Decimal]]
"""Debits, credits and what is held, by account and currency."""


def add_up(events: Iterable[Event]) -> Sums:
    """Sum what events add to accounts, and to what is held on them."""
    sums: Sums = {}

    def add(account: str, currency: str, amount: Decimal, held: Decimal) -> None:
        before = sums.get((account, currency), (ZERO, ZERO, ZERO))
        sums[account, currency] = (
            before[0] - min(amount, ZERO),
            before[1] + max(amount, ZERO),
            before[2] + held,
        )

    for event in events:
        if isinstance(event, Posted):
            for side in event.sides:
                add(side.account, side.currency, side.amount, ZERO)
        elif isinstance(event, HoldChanged):
            held = event.amount if event.state is HoldState.PLACED else -event.amount
            add(f"customer:{event.account_id}", event.currency, ZERO, held)
    return sums
