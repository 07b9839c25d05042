"""A statement: what was posted to an account in a month, and what that costs and earns."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from handlers.accounting.schema import from_minor_units, to_minor_units
from handlers.monthly.month import Month

FEES = {"CZK": Decimal("15.00"), "EUR": Decimal("0.60"), "USD": Decimal("0.70")}
"""What an account costs a month, whatever was posted to it."""

YEARLY_RATE = Decimal("0.0050")
"""What a balance of 1.00 earns in 365 days."""

DAYS_IN_YEAR = 365
"""Also in a leap year, which earns a day more."""


@dataclass(frozen=True, slots=True)
class Line:
    """One posting."""

    business_key: str
    kind: str
    amount: Decimal
    """A credit is positive, a debit negative."""
    posted_at: dt.datetime


@dataclass(frozen=True, slots=True)
class Statement:
    """The statement of an account in a currency, for one month.

    Its fee and interest are posted after it, and so are lines of a later one.
    """

    month: Month
    account_id: int
    currency: str
    opening: Decimal
    lines: tuple[Line, ...]
    fee: Decimal
    interest: Decimal

    @property
    def closing(self) -> Decimal:
        """The balance after the last line."""
        return self.opening + sum((line.amount for line in self.lines), Decimal(0))


def make_statement(
    month: Month, account_id: int, currency: str, opening: Decimal, lines: Sequence[Line]
) -> Statement:
    """Make an account's statement by this month's fee and rate."""
    earned = interest(daily_balances(month, opening, lines))
    return Statement(month, account_id, currency, opening, tuple(lines), FEES[currency], earned)


def daily_balances(month: Month, opening: Decimal, lines: Sequence[Line]) -> list[Decimal]:
    """Sum the balance at the end of each day of a month.

    A line of an earlier month, which came after that was closed, counts from the first day on.
    """
    changes = [Decimal(0)] * month.days
    for line in lines:
        day = (line.posted_at - month.start).days
        changes[max(day, 0)] += line.amount
    balances, balance = [], opening
    for change in changes:
        balance += change
        balances.append(balance)
    return balances


def interest(balances: Sequence[Decimal]) -> Decimal:
    """Return what balances at the end of each day earn together, to two digits.

    Each day earns a 365th of the yearly rate, and an overdrawn one nothing. Nothing is rounded but
    their sum: half a hundredth goes to the even neighbour.
    """
    minor = sum(max(to_minor_units(balance), 0) for balance in balances)
    return from_minor_units(round(minor * Fraction(YEARLY_RATE) / DAYS_IN_YEAR))
