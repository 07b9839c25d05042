"""The rule of double entry: which two accounts an entry moves money between, and by how much.

Seen from the bank: a customer's account is what the bank owes, so a credit adds to it. Amounts
are signed, credits positive and debits negative, and those of one transaction sum to zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from handlers.events import EntryRecorded

CUSTOMER_PREFIX = "customer:"


class BankAccount(StrEnum):
    """The bank's own accounts: what stands against a customer's."""

    CASH = "bank:cash"
    CARDS = "bank:cards"
    """Owed to the card scheme until it is settled."""
    CLEARING = "bank:clearing"
    """Owed to and by other banks until it is settled."""
    INTEREST_EXPENSE = "bank:interest-expense"
    PENALTY_INTEREST_INCOME = "bank:penalty-interest-income"
    FEE_INCOME = "bank:fee-income"
    SUSPENSE = "bank:suspense"
    """For what the bank's words do not explain, until a person has looked at it."""


_BY_OPERATION = {
    "VKLAD": BankAccount.CASH,
    "VYBER": BankAccount.CASH,
    "VYBER KARTOU": BankAccount.CARDS,
    "PREVOD Z UCTU": BankAccount.CLEARING,
    "PREVOD NA UCET": BankAccount.CLEARING,
}

_BY_K_SYMBOL = {
    "UROK": BankAccount.INTEREST_EXPENSE,
    "SANKC. UROK": BankAccount.PENALTY_INTEREST_INCOME,
    "SLUZBY": BankAccount.FEE_INCOME,
}
"""What the bank books on its own account. It is looked at before the operation: the bank writes
fees and penalties as withdrawals (VYBER), although no cash is paid out."""


@dataclass(frozen=True, slots=True)
class Posting:
    """An amount on one account: positive is a credit, negative a debit."""

    account: str
    amount: Decimal


def customer_account(account_id: int) -> str:
    """Return the ledger's name of a customer's account."""
    return f"{CUSTOMER_PREFIX}{account_id}"


def contra_account(entry: EntryRecorded) -> BankAccount:
    """Choose the bank's account that stands against the customer's."""
    return _BY_K_SYMBOL.get(entry.k_symbol) or _BY_OPERATION.get(
        entry.operation, BankAccount.SUSPENSE
    )


def double_entry(entry: EntryRecorded) -> tuple[Posting, Posting]:
    """Return the entry's two postings, the customer's first; their amounts sum to zero."""
    amount = entry.signed_amount
    return (
        Posting(customer_account(entry.account_id), amount),
        Posting(contra_account(entry), -amount),
    )
