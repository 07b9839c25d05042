"""Reads the ledger: what is posted, balances, and the sums of both sides."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from sqlalchemy import case, func, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from handlers.accounting.carrying_out import account
from handlers.accounting.database import open_database, translated
from handlers.accounting.double_entry import CUSTOMER_PREFIX, customer_account
from handlers.accounting.posting import Content, contents
from handlers.accounting.rules import Account
from handlers.accounting.schema import postings, transactions


@dataclass(frozen=True, slots=True)
class Totals:
    """The debits and the credits of all the bank's entries, summed."""

    debits: Decimal
    credits: Decimal
    unbalanced: int
    """Transactions whose postings do not sum to zero; 0, or something is very wrong."""

    @property
    def balanced(self) -> bool:
        """Whether debits equal credits, over all and in each transaction."""
        return self.debits == self.credits and self.unbalanced == 0


class Ledger:
    """An open ledger, for reading; made by `open_ledger`. Its methods raise `LedgerError`."""

    def __init__(self, engine: AsyncEngine, url: str) -> None:
        self._engine = engine
        self._url = url

    async def contents(self, ids: Iterable[int]) -> dict[int, Content]:
        """Return what is posted under the bank's ids; an id under which nothing is has no item."""
        async with self._reading() as connection:
            return await contents(connection, ids)

    async def posted_after(self, row: int) -> tuple[int, list[int]]:
        """Return what was committed after a row: the last row of it, and the bank's ids.

        Start with row 0, and go on with the one that was returned. On PostgreSQL, where several
        post at a time, it may miss some, which `contents` finds.
        """
        query = (
            select(transactions.c.id, transactions.c.bank_transaction_id)
            .where(transactions.c.id > row)
            .order_by(transactions.c.id)
        )
        async with self._reading() as connection:
            found = (await connection.execute(query)).all()
        return (found[-1][0] if found else row), [bank_id for _, bank_id in found]

    async def balances(self, until: Mapping[int, date]) -> dict[int, Decimal]:
        """Sum each account's balance at the end of its day; zero where nothing is posted."""
        query = (
            select(transactions.c.account_id, transactions.c.date, func.sum(postings.c.amount))
            .join_from(transactions, postings)
            .where(postings.c.account.startswith(CUSTOMER_PREFIX, autoescape=True))
            .group_by(transactions.c.account_id, transactions.c.date)
        )
        sums = dict.fromkeys(until, Decimal("0.00"))
        async with self._reading() as connection:
            for account_id, day, amount in await connection.execute(query):
                if account_id in until and day <= until[account_id]:
                    sums[account_id] += amount
        return sums

    async def balance(self, account_id: int) -> Decimal:
        """Sum the account's balance over all the bank's entries."""
        query = select(func.sum(postings.c.amount)).where(
            postings.c.account == customer_account(account_id)
        )
        async with self._reading() as connection:
            return (await connection.scalar(query)) or Decimal("0.00")

    async def account(self, account_id: int, currency: str) -> Account:
        """Return an account, with the bank's entries and all that commands did; zeros of none."""
        async with self._reading() as connection:
            found = await account(connection, account_id, currency)
        return found or Account(account_id, currency)

    async def totals(self) -> Totals:
        """Sum the debits and the credits of all the bank's entries."""
        amount = postings.c.amount
        sides = select(
            func.sum(case((amount < Decimal(0), -amount))).label("debits"),
            func.sum(case((amount > Decimal(0), amount))).label("credits"),
        )
        unbalanced = (
            select(postings.c.bank_transaction_id)
            .group_by(postings.c.bank_transaction_id)
            .having(func.sum(amount) != Decimal(0))
            .subquery()
        )
        async with self._reading() as connection:
            row = (await connection.execute(sides)).one()
            wrong = await connection.scalar(select(func.count()).select_from(unbalanced))
        zero = Decimal("0.00")
        return Totals(row.debits or zero, row.credits or zero, wrong or 0)

    @contextlib.asynccontextmanager
    async def _reading(self) -> AsyncIterator[AsyncConnection]:
        with translated(self._url):
            async with self._engine.connect() as connection:
                yield connection


@contextlib.asynccontextmanager
async def open_ledger(url: str) -> AsyncIterator[Ledger]:
    """Open the ledger in a database of SQLite or PostgreSQL, with its tables.

    :param url: `sqlite:///path`, whose file is made where there is none, or
        `postgresql://user:password@host/database`
    :raises LedgerError: it cannot be opened, or is something else
    """
    async with open_database(url) as engine:
        yield Ledger(engine, url)
