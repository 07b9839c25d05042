"""The rules of the ledger: what becomes of a command, decided without a database.

An account may pay what is available: its balance and its overdraft, less what is held for orders.
A fee alone is taken whatever the balance is, as the bank's own entries are.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from handlers.accounting.double_entry import BankAccount, Posting, customer_account
from handlers.accounting.errors import ConflictError, RefusedError

ZERO = Decimal("0.00")

MOST = Decimal("9999999999999.99")
"""The largest balance, and the largest sum of a balance and its overdraft: fifteen digits."""


class Kind(StrEnum):
    """What a command asks for."""

    OPEN = "open"
    DEPOSIT = "deposit"
    HOLD = "hold"
    EXECUTE = "execute"
    RELEASE = "release"
    REFUND = "refund"
    CHARGE = "charge"
    INTEREST = "interest"


class HoldState(StrEnum):
    """What has become of a hold."""

    PLACED = "placed"
    EXECUTED = "executed"
    RELEASED = "released"


@dataclass(frozen=True, slots=True)
class Command:
    """What the ledger is asked to do, under a key that is its own for ever."""

    key: str
    kind: Kind
    account_id: int
    amount: Decimal | None = None
    """Of `OPEN` the overdraft; of `EXECUTE` and `RELEASE` none, as it is the hold's."""
    currency: str | None = None
    order_id: str | None = None
    partner_bank: str | None = None
    partner_account: str | None = None


@dataclass(frozen=True, slots=True)
class Account:
    """A customer's account in one currency."""

    account_id: int
    currency: str
    overdraft: Decimal = ZERO
    balance: Decimal = ZERO
    """All that was posted, the bank's entries included."""
    held: Decimal = ZERO

    @property
    def available(self) -> Decimal:
        """Return what may still be paid; negative where a fee or an entry took more than that."""
        return self.balance + self.overdraft - self.held


@dataclass(frozen=True, slots=True)
class Hold:
    """What is held for an order, or was."""

    order_id: str
    account_id: int
    amount: Decimal | None
    """None of one that was released before it was placed."""
    currency: str | None
    state: HoldState
    refunded: Decimal = ZERO
    """How much of what was executed is paid back."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to be done for a command; or why not, where that is answered."""

    done: bool = True
    """Of `RELEASE` whether the order is unpaid for good."""
    reason: str = ""
    postings: tuple[Posting, ...] = ()
    """The customer's first; they sum to zero."""
    held: Decimal = ZERO
    """What it adds to what is held on the account."""
    overdraft: Decimal | None = None
    """The account's overdraft from now on."""
    hold: Hold | None = None
    """The order's hold from now on."""

    @property
    def balance(self) -> Decimal:
        """Return what it adds to the account's balance."""
        return self.postings[0].amount if self.postings else ZERO


def decide(command: Command, account: Account | None, hold: Hold | None) -> Decision:
    """Decide what becomes of a command that was not carried out before.

    :param account: the command's, or the hold's; None where nothing is known of it
    :param hold: the order's, if it has one
    :raises ConflictError: its order is another account's
    :raises RefusedError: it cannot be carried out, and is of a kind that has no answer
    """
    match command.kind:
        case Kind.HOLD:
            return _hold(command, account, hold)
        case Kind.EXECUTE:
            return _execute(command, account, hold)
        case Kind.RELEASE:
            return _release(command, hold)
        case Kind.REFUND:
            return _refund(command, account, hold)
    if account is None:
        raise RefusedError(f"{command.key}: {_unknown(command)}")
    if command.kind is Kind.OPEN:
        return _open(command, account)
    return _post(command, account)


def _open(command: Command, account: Account) -> Decision:
    assert command.amount is not None, "the overdraft"
    if account.balance + command.amount > MOST:
        raise RefusedError(f"{command.key}: {_too_many_digits(account)}")
    return Decision(overdraft=command.amount)


_AGAINST = {
    Kind.DEPOSIT: (BankAccount.CASH, 1),
    Kind.CHARGE: (BankAccount.FEE_INCOME, -1),
    Kind.INTEREST: (BankAccount.INTEREST_EXPENSE, 1),
}
"""The bank's account against the customer's, and whether it adds to the customer's or takes."""


def _post(command: Command, account: Account) -> Decision:
    assert command.amount is not None
    against, sign = _AGAINST[command.kind]
    amount = sign * command.amount
    balance = account.balance + amount
    if balance - account.held < -MOST or balance + account.overdraft > MOST:
        raise RefusedError(f"{command.key}: {_too_many_digits(account)}")
    return Decision(postings=_postings(account.account_id, amount, against))


def _hold(command: Command, account: Account | None, hold: Hold | None) -> Decision:
    assert command.amount is not None
    assert command.order_id is not None
    if hold is not None:
        return _no(f"order {command.order_id} was released before it was held")
    if account is None:
        return _no(_unknown(command))
    if command.amount > account.available:
        return _no(f"{_name(account)} has {account.available:.2f} available, not {command.amount}")
    placed = Hold(
        command.order_id, command.account_id, command.amount, command.currency, HoldState.PLACED
    )
    return Decision(held=command.amount, hold=placed)


def _execute(command: Command, account: Account | None, hold: Hold | None) -> Decision:
    if hold is None:
        return _no(f"nothing is held for order {command.order_id}")
    _check_account(command, hold)
    if hold.amount is None or hold.state is not HoldState.PLACED:
        return _no(f"order {command.order_id} was {hold.state} before")
    assert account is not None, "something is held on it"
    # A fee, or an entry of the bank's, may have taken what was held.
    if hold.amount > account.balance + account.overdraft:
        has = account.balance + account.overdraft
        return _no(f"{_name(account)} has {has:.2f} to pay from, not {hold.amount}")
    return Decision(
        postings=_postings(account.account_id, -hold.amount, BankAccount.CLEARING),
        held=-hold.amount,
        hold=_changed(hold, HoldState.EXECUTED),
    )


def _release(command: Command, hold: Hold | None) -> Decision:
    assert command.order_id is not None
    if hold is None:
        # None will be placed either.
        released = Hold(command.order_id, command.account_id, None, None, HoldState.RELEASED)
        return Decision(hold=released)
    _check_account(command, hold)
    if hold.state is HoldState.EXECUTED:
        return _no(f"order {command.order_id} is paid")
    return Decision(held=-(hold.amount or ZERO), hold=_changed(hold, HoldState.RELEASED))


def _refund(command: Command, account: Account | None, hold: Hold | None) -> Decision:
    assert command.amount is not None
    if hold is None or hold.state is not HoldState.EXECUTED or hold.amount is None:
        return _no(f"order {command.order_id} was not paid")
    _check_account(command, hold)
    if command.currency != hold.currency:
        return _no(f"order {command.order_id} was paid in {hold.currency}, not {command.currency}")
    refunded = hold.refunded + command.amount
    if refunded > hold.amount:
        return _no(
            f"of order {command.order_id} {hold.amount:.2f} were paid and {hold.refunded:.2f} are "
            f"paid back: {command.amount} are too much"
        )
    assert account is not None, "it was paid from it"
    if account.balance + command.amount + account.overdraft > MOST:
        return _no(_too_many_digits(account))
    return Decision(
        postings=_postings(account.account_id, command.amount, BankAccount.CLEARING),
        hold=_changed(hold, hold.state, refunded),
    )


def _check_account(command: Command, hold: Hold) -> None:
    if hold.account_id != command.account_id:
        raise ConflictError(
            f"order {command.order_id} is account {hold.account_id}'s in the ledger, and account "
            f"{command.account_id}'s in {command.key}"
        )


def _changed(hold: Hold, state: HoldState, refunded: Decimal | None = None) -> Hold:
    return Hold(
        hold.order_id,
        hold.account_id,
        hold.amount,
        hold.currency,
        state,
        hold.refunded if refunded is None else refunded,
    )


def _postings(account_id: int, amount: Decimal, against: BankAccount) -> tuple[Posting, Posting]:
    return Posting(customer_account(account_id), amount), Posting(str(against), -amount)


def _no(reason: str) -> Decision:
    return Decision(done=False, reason=reason)


def _name(account: Account) -> str:
    return f"account {account.account_id} in {account.currency}"


def _unknown(command: Command) -> str:
    return f"account {command.account_id} is not known in {command.currency}"


def _too_many_digits(account: Account) -> str:
    return f"{_name(account)} would have a balance of more than 15 digits"
