"""The messages of the ledger: commands, answers, and events of what was posted and held.

Commands go to one queue, in the order of their account.
"""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from handlers.events import MAX_DIGITS, Amount, Id
from handlers.messages.values import (
    LONG,
    WITHOUT_NUL,
    Balance,
    Currency,
    Frozen,
    OrderId,
    Partner,
    Reason,
)


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
