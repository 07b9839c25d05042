"""What the billing service keeps: months, what was posted in each, and its statements."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Sequence
from decimal import Decimal

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Executable,
    Index,
    MetaData,
    String,
    Table,
    false,
    func,
    select,
    true,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from handlers.accounting.schema import Money
from handlers.monthly.month import Month
from handlers.monthly.statement import Line, Statement
from handlers.records.inserting import insert_into, insert_new

metadata = MetaData()

months = Table(
    "billing_month",
    metadata,
    Column("month", String(7), primary_key=True),
    # One is not: the next one that will be.
    Column("is_closed", Boolean, nullable=False),
)

postings = Table(
    "billing_posting",
    metadata,
    # For ever: what is posted once is billed once.
    Column("business_key", String, primary_key=True),
    Column("currency", String(3), primary_key=True),
    Column("account_id", BigInteger, nullable=False),
    Column("kind", String, nullable=False),
    Column("amount", Money, nullable=False),
    # Seconds since 1970, which both databases compare alike.
    Column("posted_at", Double, nullable=False),
    # The month on whose statement it stands; NULL until that is closed.
    Column("month", String(7)),
)

Index("billing_posting_month", postings.c.month, postings.c.posted_at)

statements = Table(
    "billing_statement",
    metadata,
    Column("month", String(7), primary_key=True),
    Column("account_id", BigInteger, primary_key=True),
    Column("currency", String(3), primary_key=True),
    Column("opening", Money, nullable=False),
    Column("closing", Money, nullable=False),
    Column("fee", Money, nullable=False),
    Column("interest", Money, nullable=False),
)

Account = tuple[int, str]
"""An account's number and currency."""


async def open_month(connection: AsyncConnection, first: Month) -> Month:
    """Return the month that is open; it is the first one where there is none at all."""
    query = select(func.min(months.c.month)).where(months.c.is_closed == false())
    if (found := await connection.scalar(query)) is not None:
        return Month.parse(found)
    await connection.execute(_opened(connection, first))
    return first


def _opened(connection: AsyncConnection, month: Month) -> Executable:
    """Make the statement that opens a month; two processes may start at the same time."""
    statement = insert_into(connection, months).values(month=str(month), is_closed=False)
    return statement.on_conflict_do_nothing()


async def is_closed(connection: AsyncConnection, month: Month) -> bool | None:
    """Tell whether a month is closed; None if it was never open.

    What else would close it waits until this transaction has ended.
    """
    query = select(months.c.is_closed).where(months.c.month == str(month))
    return await connection.scalar(query.with_for_update())


async def keep_posting(
    connection: AsyncConnection, account_id: int, currency: str, line: Line
) -> bool:
    """Keep a posting for a month that is still open; returns False if it is another one's key."""
    row = {
        "business_key": line.business_key,
        "currency": currency,
        "account_id": account_id,
        "kind": line.kind,
        "amount": line.amount,
        "posted_at": line.posted_at.timestamp(),
    }
    if (await connection.execute(insert_new(connection, postings), row)).rowcount:
        return True
    same = [postings.c[name] == value for name, value in row.items()]
    return await connection.scalar(select(postings.c.business_key).where(*same)) is not None


async def claim_lines(connection: AsyncConnection, month: Month) -> None:
    """Put all that was posted before a month's end, and stands on no statement, on this one's."""
    claimed = postings.c.month.is_(None) & (postings.c.posted_at < month.end.timestamp())
    await connection.execute(update(postings).where(claimed).values(month=str(month)))


async def find_lines(connection: AsyncConnection, month: Month) -> dict[Account, list[Line]]:
    """Return the lines of a month's statements, in the order in which they were posted."""
    query = (
        select(postings)
        .where(postings.c.month == str(month))
        .order_by(postings.c.posted_at, postings.c.business_key)
    )
    found = defaultdict[Account, list[Line]](list)
    for row in await connection.execute(query):
        at = dt.datetime.fromtimestamp(row.posted_at, dt.UTC)
        line = Line(row.business_key, row.kind, row.amount, at)
        found[row.account_id, row.currency].append(line)
    return found


async def find_closings(connection: AsyncConnection, month: Month) -> dict[Account, Decimal]:
    """Return the balances at the end of a month of all accounts that had a statement."""
    query = select(statements.c.account_id, statements.c.currency, statements.c.closing)
    found = await connection.execute(query.where(statements.c.month == str(month)))
    return {(row.account_id, row.currency): row.closing for row in found}


async def find_statements(connection: AsyncConnection, month: Month) -> list[Statement]:
    """Return the statements of a month that is closed, in the order of accounts."""
    lines = await find_lines(connection, month)
    query = (
        select(statements)
        .where(statements.c.month == str(month))
        .order_by(statements.c.account_id, statements.c.currency)
    )
    return [
        Statement(
            month=month,
            account_id=row.account_id,
            currency=row.currency,
            opening=row.opening,
            lines=tuple(lines.get((row.account_id, row.currency), ())),
            fee=row.fee,
            interest=row.interest,
        )
        for row in await connection.execute(query)
    ]


async def close(connection: AsyncConnection, month: Month, of: Sequence[Statement]) -> None:
    """Close a month with its statements, and open the next one."""
    await connection.execute(
        update(months).where(months.c.month == str(month)).values(is_closed=true())
    )
    await connection.execute(_opened(connection, month.next))
    rows = [
        {
            "month": str(month),
            "account_id": each.account_id,
            "currency": each.currency,
            "opening": each.opening,
            "closing": each.closing,
            "fee": each.fee,
            "interest": each.interest,
        }
        for each in of
    ]
    if rows:
        await connection.execute(statements.insert(), rows)
