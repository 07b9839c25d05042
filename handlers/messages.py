"""The messages between the payment services, and the exchanges that they are published to.

A command says what shall be done, and to whom: `order.place`, `risk.check`, `ledger.hold`. Its
answer says what became of it, with a reason where it was refused. An event says what happened, for
whoever wants to know. Each of them names the money by an amount and a currency, and each effect on
money by a business key that is its own for ever (`hold-7`, `refund-9`): under it the ledger posts
once, whatever comes twice.
"""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from handlers.events import MAX_DIGITS, MAX_ID, Amount, Id
from mqkit import Exchange

ORDERS = Exchange("payments.orders", type="topic")
"""`order.place`; `order.accepted`, `order.executed`, `order.refused`."""

RISK = Exchange("payments.risk", type="topic")
"""`risk.check`, `risk.limit`, `risk.refuse-partner`, `risk.limits`; `risk.answered`."""

LEDGER = Exchange("payments.ledger", type="topic")
"""Commands `ledger.command.KIND` and requests `ledger.balance`; `ledger.answered.KIND`,
`ledger.posted`, `ledger.hold-changed`."""

REFUNDS = Exchange("payments.refunds", type="topic")
"""`refund.request`; `refund.executed`, `refund.refused`."""

BILLING = Exchange("payments.billing", type="topic")
"""`billing.close-month`; `billing.month-closed`."""

ALERTS = Exchange("payments.alerts", type="topic")
"""`alert.INVARIANT`: what the monitoring service found to be wrong."""

SHORT = 50
LONG = 200

WITHOUT_NUL = r"^[^\x00]*$"
"""A pattern of text that every database keeps; PostgreSQL keeps no NUL."""


class Currency(StrEnum):
    """The currencies that accounts are kept in; all of them have two digits behind the point."""

    CZK = "CZK"
    EUR = "EUR"
    USD = "USD"


OrderId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=SHORT)]
"""Names an order, a refund: what its sender chose, and what stands in business keys."""

Reason = Annotated[str, Field(max_length=LONG, pattern=WITHOUT_NUL)]
Balance = Annotated[Decimal, Field(max_digits=MAX_DIGITS, decimal_places=2, allow_inf_nan=False)]


class Frozen(BaseModel):
    """The ground of all messages: what came does not change, and what nobody knows is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Partner(Frozen):
    """Whom an order pays: an account at another bank."""

    bank: Annotated[str, Field(min_length=1, max_length=SHORT, pattern=WITHOUT_NUL)]
    account: Annotated[str, Field(min_length=1, max_length=SHORT, pattern=WITHOUT_NUL)]


# Orders


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


# Risk


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


# Ledger. Commands go to one queue, in the order of their account.


class OpenAccount(Frozen):
    """`ledger.command.open`: keep an account in a currency; how far it may be overdrawn."""

    kind: Literal["open"] = "open"
    account_id: Id
    currency: Currency
    overdraft: Annotated[
        Decimal, Field(ge=0, max_digits=MAX_DIGITS, decimal_places=2, allow_inf_nan=False)
    ] = Decimal("0.00")


class Deposit(Frozen):
    """`ledger.command.deposit`: cash was paid in."""

    kind: Literal["deposit"] = "deposit"
    deposit_id: OrderId
    account_id: Id
    amount: Amount
    currency: Currency


class PlaceHold(Frozen):
    """`ledger.command.hold`: set an order's amount aside, if the account has it."""

    kind: Literal["hold"] = "hold"
    order_id: OrderId
    account_id: Id
    amount: Amount
    currency: Currency


class ExecuteHold(Frozen):
    """`ledger.command.execute`: pay what is held for an order."""

    kind: Literal["execute"] = "execute"
    order_id: OrderId
    account_id: Id
    partner: Partner


class ReleaseHold(Frozen):
    """`ledger.command.release`: give back what is held for an order.

    Where there is no hold yet, none will be placed: a `PlaceHold` that comes later is refused.
    """

    kind: Literal["release"] = "release"
    order_id: OrderId
    account_id: Id


class PayBack(Frozen):
    """`ledger.command.refund`: pay a part of an order back to the account."""

    kind: Literal["refund"] = "refund"
    refund_id: OrderId
    order_id: OrderId
    account_id: Id
    amount: Amount
    currency: Currency


class Charge(Frozen):
    """`ledger.command.charge`: take a fee from an account, into overdraft if it must be."""

    kind: Literal["charge"] = "charge"
    charge_id: OrderId
    account_id: Id
    amount: Amount
    currency: Currency


class CreditInterest(Frozen):
    """`ledger.command.interest`: pay interest to an account."""

    kind: Literal["interest"] = "interest"
    interest_id: OrderId
    account_id: Id
    amount: Amount
    currency: Currency


LedgerCommand = Annotated[
    OpenAccount
    | Deposit
    | PlaceHold
    | ExecuteHold
    | ReleaseHold
    | PayBack
    | Charge
    | CreditInterest,
    Field(discriminator="kind"),
]


class HoldAnswered(Frozen):
    """`ledger.answered.hold`: whether the amount is held, and why not."""

    order_id: OrderId
    held: bool
    reason: Reason = ""


class ExecutionAnswered(Frozen):
    """`ledger.answered.execute`: whether the order is paid, and why not (released before, say)."""

    order_id: OrderId
    executed: bool
    reason: Reason = ""


class ReleaseAnswered(Frozen):
    """`ledger.answered.release`: nothing is held any more: the order was paid before, or not."""

    order_id: OrderId
    executed: bool
    """It was paid before the release came, and stays paid."""


class PayBackAnswered(Frozen):
    """`ledger.answered.refund`: whether the refund is paid, and why not."""

    refund_id: OrderId
    order_id: OrderId
    paid: bool
    reason: Reason = ""


class BalanceOf(Frozen):
    """`ledger.balance`: a request, which `AccountBalance` answers."""

    account_id: Id
    currency: Currency


class AccountBalance(Frozen):
    """What an account has; zeros where nothing was ever posted."""

    account_id: Id
    currency: Currency
    balance: Balance
    held: Balance
    available: Balance
    """What may still be paid: the balance and the overdraft, less what is held."""


class Side(Frozen):
    """One posting: a credit is positive, a debit negative."""

    account: Annotated[str, Field(max_length=LONG, pattern=WITHOUT_NUL)]
    """`customer:576`, `bank:clearing`."""
    currency: Currency
    amount: Balance


class Posted(Frozen):
    """`ledger.posted`: a transaction was posted; its sides sum to zero in each currency."""

    business_key: Annotated[str, Field(max_length=LONG, pattern=WITHOUT_NUL)]
    kind: Literal["deposit", "execute", "refund", "charge", "interest"]
    account_id: Id
    order_id: OrderId | None = None
    sides: tuple[Side, ...]
    posted_at: AwareDatetime


class HoldState(StrEnum):
    """What becomes of a hold: it is placed once, and ended once."""

    PLACED = "placed"
    EXECUTED = "executed"
    RELEASED = "released"


class HoldChanged(Frozen):
    """`ledger.hold-changed`: a hold was placed, or ended."""

    order_id: OrderId
    account_id: Id
    amount: Amount
    currency: Currency
    state: HoldState


# Refunds


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


# Billing


class CloseMonth(Frozen):
    """`billing.close-month`: charge the month's fees, credit its interest, write its statements."""

    month: Annotated[str, Field(pattern=r"^[1-9][0-9]{3}-(0[1-9]|1[0-2])$")]


class MonthClosed(Frozen):
    """`billing.month-closed`: the month's fees and interest are sent to the ledger."""

    month: str
    accounts: int
    statements: Annotated[str, Field(max_length=1000)]
    """The folder that they are in."""


# Monitoring


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
