"""Histories of payments, as the services tell them: right ones, and broken ones of each kind."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from handlers.invariants import Event
from handlers.messages import (
    Currency,
    HoldChanged,
    HoldState,
    Invariant,
    OrderAccepted,
    OrderExecuted,
    OrderRefused,
    Partner,
    Posted,
    RefundExecuted,
    RefundRefused,
    Side,
)

NOON = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)
DEADLINE = NOON + dt.timedelta(seconds=60)
PARTNER = Partner(bank="AB", account="123")

PostingKind = Literal["deposit", "execute", "refund", "charge", "interest"]


@dataclass(frozen=True)
class Payment:
    """Writes what the services say of one order."""

    order_id: str
    amount: Decimal = Decimal("10.00")
    account_id: int = 7
    currency: Currency = Currency.CZK

    @property
    def _money(self) -> dict[str, Any]:
        return {
            "order_id": self.order_id,
            "account_id": self.account_id,
            "amount": self.amount,
            "currency": self.currency,
        }

    def accepted(self) -> OrderAccepted:
        return OrderAccepted(**self._money, deadline=DEADLINE)

    def ended(self, *, executed: bool) -> OrderExecuted | OrderRefused:
        if executed:
            return OrderExecuted(**self._money, partner=PARTNER)
        return OrderRefused(**self._money, reason="too much")

    def hold(self, state: HoldState) -> HoldChanged:
        return HoldChanged(**self._money, state=state)

    def paid(self) -> Posted:
        key = f"execute-{self.order_id}"
        return posted(key, "execute", -self.amount, self.account_id, self.order_id, self.currency)

    def paid_back(self, number: int, amount: Decimal) -> Posted:
        key = f"refund-{self.order_id}-{number}"
        return posted(key, "refund", amount, self.account_id, self.order_id, self.currency)

    def refunded(self, number: int, amount: Decimal) -> RefundExecuted:
        money = {**self._money, "amount": amount}
        return RefundExecuted(**money, refund_id=f"{self.order_id}-{number}")

    def refund_refused(self, number: int, amount: Decimal) -> RefundRefused:
        return RefundRefused(
            refund_id=f"{self.order_id}-{number}",
            order_id=self.order_id,
            amount=amount,
            currency=self.currency,
            reason="more than was paid",
        )

    def executed_history(self, *refunds: Decimal) -> list[Event]:
        """Tell of an order that was paid, and of refunds of it."""
        events: list[Event] = [
            self.accepted(),
            self.hold(HoldState.PLACED),
            self.hold(HoldState.EXECUTED),
            self.paid(),
            self.ended(executed=True),
        ]
        for number, amount in enumerate(refunds):
            events += [self.paid_back(number, amount), self.refunded(number, amount)]
        return [*events, self.refund_refused(99, self.amount * 2)]

    def released_history(self) -> list[Event]:
        """Tell of an order that was refused after its amount was held."""
        return [
            self.accepted(),
            self.hold(HoldState.PLACED),
            self.hold(HoldState.RELEASED),
            self.ended(executed=False),
        ]

    def refused_history(self) -> list[Event]:
        """Tell of an order that was refused before."""
        return [self.accepted(), self.ended(executed=False)]


def posted(
    key: str,
    kind: PostingKind,
    amount: Decimal,
    account: int = 7,
    order_id: str | None = None,
    currency: Currency = Currency.CZK,
    off: Decimal = Decimal("0.00"),
) -> Posted:
    """Write a posting to a customer's account; `off` is what its other side is wrong by."""
    sides = (
        Side(account=f"customer:{account}", currency=currency, amount=amount),
        Side(account="bank:clearing", currency=currency, amount=off - amount),
    )
    return Posted(
        business_key=key,
        kind=kind,
        account_id=account,
        order_id=order_id,
        sides=sides,
        posted_at=NOON,
    )


def _without(events: Sequence[Event], *kinds: type) -> list[Event]:
    return [event for event in events if not isinstance(event, kinds)]


_ONE = Payment("o-1")
_OTHER = Payment("o-1", Decimal("11.00"))
_EXECUTED = _ONE.executed_history()
_MOST = _ONE.amount

BROKEN: dict[str, tuple[Invariant, str, Callable[[], list[Event]]]] = {
    "a posting whose sides do not sum to zero": (
        Invariant.DEBITS_EQUAL_CREDITS,
        "deposit-1",
        lambda: [posted("deposit-1", "deposit", _MOST, off=Decimal("0.01"))],
    ),
    "a posting without sides": (
        Invariant.DEBITS_EQUAL_CREDITS,
        "deposit-1",
        lambda: [posted("deposit-1", "deposit", _MOST).model_copy(update={"sides": ()})],
    ),
    "a ledger that is out of balance": (
        Invariant.DEBITS_EQUAL_CREDITS,
        "all accounts in CZK",
        lambda: [posted("deposit-1", "deposit", _MOST, off=Decimal("0.01"))],
    ),
    "a hold that is placed twice": (
        Invariant.HOLDS_ADD_UP,
        "o-1",
        lambda: [*_EXECUTED, _OTHER.hold(HoldState.PLACED)],
    ),
    "a hold that is ended twice": (
        Invariant.HOLDS_ADD_UP,
        "o-1",
        lambda: [*_ONE.released_history(), _ONE.hold(HoldState.EXECUTED)],
    ),
    "a hold that is never ended": (
        Invariant.HOLDS_ADD_UP,
        "o-1",
        lambda: [*_ONE.refused_history(), _ONE.hold(HoldState.PLACED)],
    ),
    "a hold that is ended and was never placed": (
        Invariant.HOLDS_ADD_UP,
        "o-1",
        lambda: [*_ONE.refused_history(), _ONE.hold(HoldState.RELEASED)],
    ),
    "a hold that is executed without a posting": (
        Invariant.HOLDS_ADD_UP,
        "o-1",
        lambda: _without(_EXECUTED, Posted),
    ),
    "a posting without a hold": (
        Invariant.HOLDS_ADD_UP,
        "o-1",
        lambda: _without(_EXECUTED, HoldChanged),
    ),
    "a posting, and a hold that is released": (
        Invariant.HOLDS_ADD_UP,
        "o-1",
        lambda: [*_ONE.released_history(), _ONE.paid()],
    ),
    "an order without an end": (
        Invariant.ORDER_IN_TIME,
        "o-1",
        lambda: _without(_EXECUTED, OrderExecuted),
    ),
    "an order of which nothing but its accepting is heard": (
        Invariant.ORDER_IN_TIME,
        "o-1",
        lambda: [_ONE.accepted()],
    ),
    "an order that is executed and refused": (
        Invariant.ONE_END,
        "o-1",
        lambda: [*_EXECUTED, _ONE.ended(executed=False)],
    ),
    "an order that is refused and paid": (
        Invariant.ONE_END,
        "o-1",
        lambda: [*_without(_EXECUTED, OrderExecuted), _ONE.ended(executed=False)],
    ),
    "an order that is executed, and its hold released": (
        Invariant.ONE_END,
        "o-1",
        lambda: [*_without(_ONE.released_history(), OrderRefused), _ONE.ended(executed=True)],
    ),
    "an order that is executed and not posted": (
        Invariant.ONE_EFFECT,
        "o-1",
        lambda: _without(_EXECUTED, Posted),
    ),
    "a business key that is posted with another content": (
        Invariant.ONE_EFFECT,
        "execute-o-1",
        lambda: [*_EXECUTED, _OTHER.paid()],
    ),
    "an order that is paid under two keys": (
        Invariant.ONE_EFFECT,
        "o-1",
        lambda: [*_EXECUTED, posted("execute-o-1-again", "execute", -_MOST, order_id="o-1")],
    ),
    "an order that is paid by another amount": (
        Invariant.ONE_EFFECT,
        "o-1",
        lambda: [*_without(_EXECUTED, Posted), _OTHER.paid()],
    ),
    "money that moves for an order that nobody accepted": (
        Invariant.ONE_EFFECT,
        "o-1",
        lambda: _without(_EXECUTED, OrderAccepted),
    ),
    "a refund that is said to be executed and is not posted": (
        Invariant.ONE_EFFECT,
        "refund-o-1-1",
        lambda: [*_EXECUTED, _ONE.refunded(1, _MOST)],
    ),
    "a refund that is posted and of which nobody says so": (
        Invariant.ONE_EFFECT,
        "refund-o-1-1",
        lambda: [*_EXECUTED, _ONE.paid_back(1, _MOST)],
    ),
    "refunds of more than was paid": (
        Invariant.REFUNDED_AT_MOST_PAID,
        "o-1",
        lambda: _ONE.executed_history(Decimal("6.00"), Decimal("6.00")),
    ),
    "a refund of what was not paid": (
        Invariant.REFUNDED_AT_MOST_PAID,
        "o-1",
        lambda: [
            *_ONE.refused_history(),
            _ONE.paid_back(0, Decimal("1.00")),
            _ONE.refunded(0, Decimal("1.00")),
        ],
    ),
}
"""What may be wrong: the invariant, what it is about, and a history of it."""
