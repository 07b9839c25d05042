"""The ledger's tables, and how an amount is kept in them without losing a digit."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Date,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

MINOR_DIGITS = 2
"""Digits behind the point: 1 CZK is 100 haléř (ISO 4217)."""


class Money(TypeDecorator[Decimal]):
    """A `Decimal` kept as a whole number of minor units; SQLite's own decimals are floats.

    :raises ValueError: on writing, what is no finite `Decimal` or has more than two digits
        behind the point
    """

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> int | None:  # noqa: ARG002
        """Convert a value on its way to the database."""
        return None if value is None else to_minor_units(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> Decimal | None:  # noqa: ARG002
        """Convert a value that comes from the database."""
        return None if value is None else from_minor_units(value)


def to_minor_units(amount: Decimal) -> int:
    """Convert an amount to minor units: 12.5 is 1250.

    :raises ValueError: it is no finite `Decimal`, or minor units cannot express it
    """
    if not isinstance(amount, Decimal) or not amount.is_finite():
        raise ValueError(f"{amount!r} is not a finite Decimal")
    sign, digits, exponent = amount.as_tuple()
    assert isinstance(exponent, int), "finite, so the exponent is a number"
    # By hand and not by `scaleb`, which rounds to the context's precision.
    number, shift = int("".join(map(str, digits))), exponent + MINOR_DIGITS
    if shift >= 0:
        number *= int(10**shift)
    else:
        number, rest = divmod(number, 10**-shift)
        if rest:
            raise ValueError(f"{amount} has more than {MINOR_DIGITS} digits behind the point")
    return -number if sign else number


def from_minor_units(number: int) -> Decimal:
    """Convert minor units to an amount with two digits behind the point: 1250 is 12.50."""
    digits = tuple(map(int, str(abs(number))))
    return Decimal((1 if number < 0 else 0, digits, -MINOR_DIGITS))


metadata = MetaData()

transactions = Table(
    "ledger_transaction",
    metadata,
    # Ascending in the order of commits, which lets a reader ask for what is new.
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("bank_transaction_id", BigInteger, nullable=False, unique=True),
    Column("account_id", BigInteger, nullable=False),
    Column("date", Date, nullable=False),
    Column("direction", String(6), nullable=False),
    Column("operation", String, nullable=False),
    Column("amount", Money, CheckConstraint("amount > 0"), nullable=False),
    Column("currency", String(3), nullable=False),
    Column("balance_after", Money, nullable=False),
    Column("k_symbol", String, nullable=False),
    Column("partner_bank", String, nullable=False),
    Column("partner_account", String, nullable=False),
    Column("source_file", String, nullable=False),
    Column("source_line", Integer, nullable=False),
    # Without it SQLite gives a deleted last row's number to the next one.
    sqlite_autoincrement=True,
)

postings = Table(
    "ledger_posting",
    metadata,
    Column(
        "bank_transaction_id",
        BigInteger,
        ForeignKey(transactions.c.bank_transaction_id),
        primary_key=True,
    ),
    Column("account", String, primary_key=True),
    Column("amount", Money, CheckConstraint("amount <> 0"), nullable=False),
)

Index("ledger_posting_account", postings.c.account)
