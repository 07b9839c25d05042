"""Compares the ledger with the balances that the bank recorded.

The bank rounds a balance to 0.10 after each entry and the ledger does not, so the two drift
apart a little. The order of the entries within a day is not recorded: any balance of an
account's last day may be its last one, and the nearest counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from enum import StrEnum

from handlers.events import EntryRecorded

ROUNDING = Decimal("0.70")
"""How far the bank's rounding may lead away from the exact sum."""


class Agreement(StrEnum):
    """How well an account agrees with the bank."""

    EXACT = "exact"
    WITHIN_ROUNDING = "within rounding"
    OFF = "off"


@dataclass(slots=True)
class LastDay:
    """The last day on which an account has entries, and the balances recorded on it."""

    day: date
    balances: set[Decimal] = field(default_factory=set)


class LastDays:
    """Gathers each account's last day from entries in any order."""

    def __init__(self, entries: Iterable[EntryRecorded] = ()) -> None:
        self.by_account: dict[int, LastDay] = {}
        for entry in entries:
            self.add(entry)

    def add(self, entry: EntryRecorded) -> None:
        """Take one more entry into account."""
        last = self.by_account.get(entry.account_id)
        if last is None or entry.date > last.day:
            last = self.by_account[entry.account_id] = LastDay(entry.date)
        if entry.date == last.day:
            last.balances.add(entry.balance_after)

    def days(self) -> dict[int, date]:
        """Map each account to its last day."""
        return {account: last.day for account, last in self.by_account.items()}


@dataclass(frozen=True, slots=True)
class AccountResult:
    """One account's comparison."""

    account_id: int
    agreement: Agreement
    ledger: Decimal
    recorded: Decimal
    """The nearest of the balances that the bank recorded on the account's last day."""


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """The comparison of all accounts, in the order of their numbers."""

    accounts: tuple[AccountResult, ...]

    def count(self, agreement: Agreement) -> int:
        """Count the accounts that agree that well."""
        return sum(account.agreement is agreement for account in self.accounts)

    @property
    def off(self) -> tuple[AccountResult, ...]:
        """Return the accounts that do not agree."""
        return tuple(a for a in self.accounts if a.agreement is Agreement.OFF)

    @property
    def total(self) -> Decimal:
        """Sum the ledger's balances of these accounts."""
        return sum((account.ledger for account in self.accounts), Decimal("0.00"))


def reconcile(last_days: LastDays, balances: Mapping[int, Decimal]) -> Reconciliation:
    """Compare the ledger's `balances` with those recorded; one that it lacks counts as zero."""
    return Reconciliation(
        tuple(
            _compare(account, last.balances, balances.get(account, Decimal("0.00")))
            for account, last in sorted(last_days.by_account.items())
        )
    )


def _compare(account_id: int, recorded: Iterable[Decimal], ledger: Decimal) -> AccountResult:
    # Of two that are equally near, the lower: the answer must not hang on a set's order.
    nearest = min(recorded, key=lambda balance: (abs(ledger - balance), balance))
    distance = abs(ledger - nearest)
    if distance == 0:
        agreement = Agreement.EXACT
    elif distance <= ROUNDING:
        agreement = Agreement.WITHIN_ROUNDING
    else:
        agreement = Agreement.OFF
    return AccountResult(account_id, agreement, ledger, nearest)
