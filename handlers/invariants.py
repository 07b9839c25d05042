"""What must hold of the payments, judged by what the services have said; without a database.

Each event states one *fact*: that an order was accepted, that it ended, that its hold was placed.
A fact is known by its kind and a key, and there is one of each: the same one again is a copy, and
another one in its place an alert. The facts of one order must agree, which is judged whenever
one comes, and none may be missing, which is judged when the order's time is over: events of several
services come in any order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from handlers.messages import (
    Alert,
    HoldChanged,
    HoldState,
    Invariant,
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
MAX_WHAT = 1000
"""Characters of an alert's text."""


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

_OF_ANOTHER_CONTENT = {
    Kind.ACCEPTED: Invariant.ONE_EFFECT,
    Kind.END: Invariant.ONE_END,
    Kind.HOLD: Invariant.HOLDS_ADD_UP,
    Kind.HOLD_END: Invariant.HOLDS_ADD_UP,
    Kind.POSTING: Invariant.ONE_EFFECT,
    Kind.REFUND: Invariant.ONE_EFFECT,
    Kind.MONTH: Invariant.ONE_EFFECT,
}


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


def unbalanced(event: Event) -> Iterator[Alert]:
    """Judge a posting by itself: its sides sum to zero in each currency."""
    if not isinstance(event, Posted):
        return
    for currency in sorted({side.currency for side in event.sides}):
        total = sum((s.amount for s in event.sides if s.currency == currency), ZERO)
        if total:
            what = f"its sides in {currency} sum to {total:.2f} and not to zero"
            yield _alert(Invariant.DEBITS_EQUAL_CREDITS, event.business_key, what)
    if not event.sides:
        yield _alert(Invariant.DEBITS_EQUAL_CREDITS, event.business_key, "it has no sides")


def differing(known: Fact, now: Fact) -> Alert:
    """Say that something came a second time, with another content."""
    what = f"it was said to be {known.content}; and then {now.content}"
    return _alert(_OF_ANOTHER_CONTENT[now.kind], now.key, what)


class Order:
    """The facts of one order, and what is to be said against them."""

    def __init__(self, order_id: str, facts: Iterable[Fact]) -> None:
        self.order_id = order_id
        self._all = sorted(facts, key=lambda fact: fact.id)
        self.accepted = self._one(Kind.ACCEPTED)
        self.end = self._one(Kind.END)
        self.hold = self._one(Kind.HOLD)
        self.hold_end = self._one(Kind.HOLD_END)
        postings = self._of(Kind.POSTING)
        self.executions = [fact for fact in postings if fact.detail == "execute"]
        self.refunds = [fact for fact in postings if fact.detail == "refund"]

    @property
    def deadline(self) -> float | None:
        """When its end is overdue; None where nobody has said that it was accepted."""
        return None if self.accepted is None else self.accepted.deadline

    def _of(self, kind: Kind) -> list[Fact]:
        return [fact for fact in self._all if fact.kind is kind]

    def _one(self, kind: Kind) -> Fact | None:
        return next(iter(self._of(kind)), None)

    def contradictions(self) -> Iterator[Alert]:
        """Judge what is there: what can never be true, whatever is still to come."""
        of_the_order = (self.accepted, self.hold, self.hold_end, self.end, *self.executions)
        money = {
            f"{fact.amount:.2f} {fact.currency}, account {fact.account_id}": fact.kind
            for fact in of_the_order
            if fact is not None
        }
        if len(money) > 1:
            said = "; ".join(f"{kind}: {amount}" for amount, kind in money.items())
            yield self._alert(Invariant.ONE_EFFECT, f"it is about different money: {said}")
        if len(self.executions) > 1:
            keys = ", ".join(fact.key for fact in self.executions)
            yield self._alert(Invariant.ONE_EFFECT, f"it was paid more than once: {keys}")
        yield from self._one_end()
        refunded = sum((fact.amount for fact in self.refunds), ZERO)
        if self.executions and refunded > self.executions[0].amount:
            what = f"{self.executions[0].amount:.2f} were paid, and {refunded:.2f} paid back"
            yield self._alert(Invariant.REFUNDED_AT_MOST_PAID, what)

    def _one_end(self) -> Iterator[Alert]:
        released = self.hold_end is not None and self.hold_end.detail == HoldState.RELEASED
        taken = self.hold_end is not None and self.hold_end.detail == HoldState.EXECUTED
        if released and self.executions:
            yield self._alert(Invariant.HOLDS_ADD_UP, "its hold was released, and it was paid")
        if self.end is None:
            return
        if self.end.detail == EXECUTED and released:
            yield self._alert(Invariant.ONE_END, "it was executed, and its hold released")
        if self.end.detail == REFUSED and (taken or self.executions):
            yield self._alert(Invariant.ONE_END, "it was refused, and it was paid")

    def gaps(self) -> Iterator[Alert]:
        """Judge what is missing, once the order's time is over."""
        if self.accepted is not None and self.end is None:
            yield self._alert(Invariant.ORDER_IN_TIME, "it has no end, and its deadline is over")
        if self.accepted is None and (self.hold or self.hold_end or self.executions):
            yield self._alert(Invariant.ONE_EFFECT, "money was moved for it; nobody accepted it")
        if self.hold is not None and self.hold_end is None:
            yield self._alert(Invariant.HOLDS_ADD_UP, "its hold was placed, and never ended")
        if self.hold is None and self.hold_end is not None:
            yield self._alert(Invariant.HOLDS_ADD_UP, "its hold was ended, and never placed")
        taken = self.hold_end is not None and self.hold_end.detail == HoldState.EXECUTED
        if taken and not self.executions:
            yield self._alert(Invariant.HOLDS_ADD_UP, "its hold was executed, and nothing posted")
        if self.executions and self.hold_end is None:
            yield self._alert(Invariant.HOLDS_ADD_UP, "it was paid, and no hold executed for it")
        if self.end is not None and self.end.detail == EXECUTED and not self.executions:
            yield self._alert(Invariant.ONE_EFFECT, "it was executed, and nothing posted")
        yield from self._refund_gaps()

    def _refund_gaps(self) -> Iterator[Alert]:
        if self.refunds and not self.executions:
            yield self._alert(Invariant.REFUNDED_AT_MOST_PAID, "it was paid back, and never paid")
        posted = {fact.key: fact for fact in self.refunds}
        said = {f"refund-{fact.key}": fact for fact in self._of(Kind.REFUND)}
        for key in sorted(posted.keys() | said.keys()):
            posting, end = posted.get(key), said.get(key)
            if (posting is not None) != (end is not None and end.detail == EXECUTED):
                what = f"posted: {'yes' if posting else 'no'}; {end.content if end else 'no end'}"
                yield _alert(Invariant.ONE_EFFECT, key, f"a refund of {self.order_id}: {what}")

    def _alert(self, invariant: Invariant, what: str) -> Alert:
        return _alert(invariant, self.order_id, what)


def _alert(invariant: Invariant, about: str, what: str) -> Alert:
    return Alert(invariant=invariant, about=about, what=what[:MAX_WHAT])
