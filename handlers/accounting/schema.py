"""The ledger's tables, and how an amount is kept in them without losing a digit."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Numeric,
    String,
    Table,
    text,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import TypeDecorator, TypeEngine

MINOR_DIGITS = 2
"""Digits behind the point: 1 CZK is 100 haléř (ISO 4217)."""


MAX_DIGITS = 18
"""Digits of an amount on PostgreSQL: what a signed 64-bit count of minor units holds."""


class Money(TypeDecorator[Decimal]):
    """A `Decimal`: a NUMERIC on PostgreSQL, and a whole number of minor units in SQLite.

    SQLite's own decimals are floats.

    :raises ValueError: on writing, what is no finite `Decimal` or has more than two digits
        behind the point
    """

    impl = BigInteger
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Choose the column's type."""
        return dialect.type_descriptor(
            Numeric(MAX_DIGITS, MINOR_DIGITS) if _has_decimals(dialect) else BigInteger()
        )

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> Decimal | int | None:
        """Convert a value on its way to the database."""
        if value is None:
            return None
        # Either way it is looked at: PostgreSQL would round a third digit.
        minor = to_minor_units(value)
        return value if _has_decimals(dialect) else minor

    def process_result_value(self, value: Any, dialect: Dialect) -> Decimal | None:
        """Convert a value that comes from the database."""
        if value is None:
            return None
        return Decimal(value) if _has_decimals(dialect) else from_minor_units(value)


def _has_decimals(dialect: Dialect) -> bool:
    return dialect.name == "postgresql"


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
    # Ascending in the order of commits in SQLite, which has one writer; on PostgreSQL nearly so.
    Column(
        "id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True
    ),
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

accounts = Table(
    "ledger_account",
    metadata,
    Column("account_id", BigInteger, primary_key=True, autoincrement=False),
    Column("currency", String(3), primary_key=True),
    Column("overdraft", Money, CheckConstraint("overdraft >= 0"), nullable=False),
    # What commands posted. The bank's entries are not in it: they are summed by their index, so
    # that to post one touches no row that others wait for.
    Column("balance", Money, nullable=False),
    Column("held", Money, CheckConstraint("held >= 0"), nullable=False),
)

holds = Table(
    "ledger_hold",
    metadata,
    Column("order_id", String, primary_key=True),
    Column("account_id", BigInteger, nullable=False),
    # Neither has a hold that was released before it was placed.
    Column("amount", Money, CheckConstraint("amount > 0")),
    Column("currency", String(3)),
    Column("state", String(8), nullable=False),
    Column(
        "refunded",
        Money,
        CheckConstraint("refunded >= 0 AND (refunded = 0 OR refunded <= amount)"),
        nullable=False,
    ),
)

commands = Table(
    "ledger_command",
    metadata,
    Column("business_key", String, primary_key=True),
    Column("kind", String(8), nullable=False),
    Column("account_id", BigInteger, nullable=False),
    Column("order_id", String),
    Column("amount", Money),
    Column("currency", String(3)),
    Column("partner_bank", String),
    Column("partner_account", String),
    # What was answered, and is answered again.
    Column("done", Boolean, nullable=False),
    Column("reason", String, nullable=False),
    Column("carried_out_at", DateTime(timezone=True), nullable=False),
)

sides = Table(
    "ledger_side",
    metadata,
    Column("business_key", String, ForeignKey(commands.c.business_key), primary_key=True),
    Column("account", String, primary_key=True),
    Column("currency", String(3), nullable=False),
    Column("amount", Money, CheckConstraint("amount <> 0"), nullable=False),
)
"""The postings of commands, as `postings` has those of the bank's entries."""

SCHEMA_LOCK = 0x6C6564676572
"""The number of the advisory lock under which tables are created."""


async def create_tables(connection: AsyncConnection) -> None:
    """Create the tables that are missing, in a transaction that the caller commits.

    On SQLite it holds the write lock already: it has begun as immediate.
    """
    if connection.dialect.name == "postgresql":
        # Of two processes that find none, the second would fail to create them.
        await connection.execute(text(f"SELECT pg_advisory_xact_lock({SCHEMA_LOCK})"))
    await connection.run_sync(metadata.create_all)
