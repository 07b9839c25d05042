"""Judges facts: each posting by itself, each fact against its copies, and all facts of an order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from handlers.invariants.facts import EXECUTED, REFUSED, ZERO, Event, Fact, Kind
from handlers.messages import (
    Alert,
    HoldState,
    Invariant,
    Posted,
)

MAX_WHAT = 1000
"""Characters of an alert's text."""

_OF_ANOTHER_CONTENT = {
    Kind.ACCEPTED: Invariant.ONE_EFFECT,
    Kind.END: Invariant.ONE_END,
    Kind.HOLD: Invariant.HOLDS_ADD_UP,
    Kind.HOLD_END: Invariant.HOLDS_ADD_UP,
    Kind.POSTING: Invariant.ONE_EFFECT,
    Kind.REFUND: Invariant.ONE_EFFECT,
    Kind.MONTH: Invariant.ONE_EFFECT,
}


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
