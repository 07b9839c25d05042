"""Between messages and the books: what a command asks of the ledger, and what is said of it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

from handlers.accounting.books import Outcome
from handlers.accounting.rules import Command, Hold, Kind
from handlers.messages import (
    Charge,
    CreditInterest,
    Currency,
    Deposit,
    ExecuteHold,
    ExecutionAnswered,
    Frozen,
    HoldAnswered,
    HoldChanged,
    HoldState,
    LedgerCommand,
    OpenAccount,
    PayBack,
    PayBackAnswered,
    PlaceHold,
    Posted,
    ReleaseAnswered,
    ReleaseHold,
    Side,
)


def booking(command: LedgerCommand) -> Command:
    """Return what a command asks of the ledger, with its business key."""
    kind, account = Kind(command.kind), command.account_id
    match command:
        case OpenAccount(currency=currency, overdraft=overdraft):
            return Command(f"open-{account}-{currency}", kind, account, overdraft, currency)
        case ExecuteHold(order_id=order, partner=partner):
            return Command(
                f"execute-{order}",
                kind,
                account,
                order_id=order,
                partner_bank=partner.bank,
                partner_account=partner.account,
            )
        case ReleaseHold(order_id=order):
            return Command(f"release-{order}", kind, account, order_id=order)
    order_id = command.order_id if isinstance(command, PlaceHold | PayBack) else None
    key = f"{kind}-{_own_id(command)}"
    return Command(key, kind, account, command.amount, command.currency, order_id)


def _own_id(command: Deposit | PlaceHold | PayBack | Charge | CreditInterest) -> str:
    match command:
        case PlaceHold(order_id=own) | PayBack(refund_id=own) | Deposit(deposit_id=own):
            return own
        case Charge(charge_id=own) | CreditInterest(interest_id=own):
            return own


def answer(command: LedgerCommand, outcome: Outcome) -> tuple[str, Frozen] | None:
    """Return the routing key and the message that answer a command; None where it has none."""
    done, reason = outcome.decision.done, outcome.decision.reason
    match command:
        case PlaceHold(order_id=order):
            said: Frozen = HoldAnswered(order_id=order, held=done, reason=reason)
        case ExecuteHold(order_id=order):
            said = ExecutionAnswered(order_id=order, executed=done, reason=reason)
        case ReleaseHold(order_id=order):
            said = ReleaseAnswered(order_id=order, executed=not done)
        case PayBack(refund_id=refund, order_id=order):
            said = PayBackAnswered(refund_id=refund, order_id=order, paid=done, reason=reason)
        case _:
            return None
    return f"ledger.answered.{command.kind}", said


def events(
    command: Command, outcome: Outcome, now: dt.datetime
) -> Iterator[tuple[str, Posted | HoldChanged]]:
    """Return the events of what was done: their routing keys and bodies."""
    decision = outcome.decision
    if decision.postings:
        currency = Currency(outcome.currency or "")
        posted = Posted(
            business_key=command.key,
            kind=command.kind.value,  # type: ignore[arg-type] # what posts is one of its kinds
            account_id=command.account_id,
            order_id=command.order_id,
            sides=tuple(
                Side(account=each.account, currency=currency, amount=each.amount)
                for each in decision.postings
            ),
            posted_at=now,
        )
        yield "ledger.posted", posted
    if decision.held and decision.hold is not None:
        yield "ledger.hold-changed", _changed(decision.hold)


def _changed(hold: Hold) -> HoldChanged:
    return HoldChanged.model_validate(
        {
            "order_id": hold.order_id,
            "account_id": hold.account_id,
            "amount": hold.amount,
            "currency": hold.currency,
            "state": HoldState(hold.state.value),
        }
    )
