"""The ledger in its database: each of the bank's transactions posted once, and durably.

Many callers post at the same time and share commits: the first starts a writer, which commits
together all that waits, as often as there is something. Each caller returns only after the commit
that holds its own entry. One commit an entry would cost one fsync an entry.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Any

from sqlalchemy import case, func, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from handlers.accounting.database import WRITING, open_database, translated
from handlers.accounting.double_entry import CUSTOMER_PREFIX, customer_account, double_entry
from handlers.accounting.errors import ConflictError, LedgerUnavailableError
from handlers.accounting.schema import postings, transactions
from handlers.events import EntryRecorded

MAX_BATCH = 500
"""Entries in one commit."""

TURNS = 5
"""Turns of the event loop between two commits, in which the next entries of the accounts come that
were in the first one: else they miss the second, and every account is in each other commit only."""

LOOKUP_SIZE = 500
"""Ids in one `IN (...)`; SQLite allows 999 parameters in its older builds."""

_CONTENT = tuple(
    column.name
    for column in transactions.c
    if column.name not in ("id", "source_file", "source_line")
)
"""What makes two entries the same; the same one may stand in two files."""


class Posted(StrEnum):
    """What became of an entry."""

    NEW = "posted"
    ALREADY = "already posted"


@dataclass(frozen=True, slots=True)
class Totals:
    """The debits and the credits of the whole ledger, summed."""

    debits: Decimal
    credits: Decimal
    unbalanced: int
    """Transactions whose postings do not sum to zero; 0, or something is very wrong."""

    @property
    def balanced(self) -> bool:
        """Whether debits equal credits, over all and in each transaction."""
        return self.debits == self.credits and self.unbalanced == 0


Content = Mapping[str, Any]


class Ledger:
    """An open ledger; made by `open_ledger`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._waiting: list[tuple[EntryRecorded, asyncio.Future[Posted]]] = []
        self._writer: asyncio.Task[None] | None = None

    async def post(self, entry: EntryRecorded) -> Posted:
        """Post an entry, once; returns when it is on the disk.

        :raises ConflictError: the bank's id is posted already, with another content
        :raises LedgerUnavailableError: not posted, for a reason that may pass
        """
        future: asyncio.Future[Posted] = asyncio.get_running_loop().create_future()
        self._waiting.append((entry, future))
        if self._writer is None:
            self._writer = asyncio.create_task(self._write(), name="ledger-writer")
        return await future

    async def contents(self, ids: Iterable[int]) -> dict[int, Content]:
        """Return what is posted under the bank's ids; an id under which nothing is has no item."""
        async with self._reading() as connection:
            return await _contents(connection, list(ids))

    async def posted_after(self, row: int) -> tuple[int, list[int]]:
        """Return what was committed after a row: the last row of it, and the bank's ids.

        Start with row 0, and go on with the one that was returned.
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
        """Sum the account's balance over all that is posted."""
        query = select(func.sum(postings.c.amount)).where(
            postings.c.account == customer_account(account_id)
        )
        async with self._reading() as connection:
            return (await connection.scalar(query)) or Decimal("0.00")

    async def totals(self) -> Totals:
        """Sum the debits and the credits of the whole ledger."""
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

    async def close(self) -> None:
        """Wait for what is being written."""
        if self._writer is not None:
            await asyncio.wait([self._writer])

    @contextlib.asynccontextmanager
    async def _reading(self) -> AsyncIterator[AsyncConnection]:
        with translated():
            async with self._engine.connect() as connection:
                yield connection

    async def _write(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:MAX_BATCH], self._waiting[MAX_BATCH:]
                # Whoever gave up waiting has no say in it any more: not posted.
                batch = [(entry, future) for entry, future in batch if not future.done()]
                results = await self._commit([entry for entry, _ in batch])
                for (_, future), result in zip(batch, results, strict=True):
                    _resolve(future, result)
                for _ in range(TURNS):
                    await asyncio.sleep(0)
        finally:
            self._writer = None
            for _, future in self._waiting:
                future.cancel()

    async def _commit(self, entries: Sequence[EntryRecorded]) -> list[Posted | Exception]:
        try:
            return await self._post_together(entries)
        except LedgerUnavailableError as error:
            # One each: an exception raised by many tasks gathers all their tracebacks.
            return [LedgerUnavailableError(str(error)) for _ in entries]
        except Exception as error:  # noqa: BLE001 - each caller gets its own entry's error
            if len(entries) == 1:
                return [error]
            # One of them cannot be written; the others must not fail with it.
            return [(await self._commit([entry]))[0] for entry in entries]

    async def _post_together(self, entries: Sequence[EntryRecorded]) -> list[Posted | Exception]:
        with translated():
            async with self._engine.connect() as connection:
                await connection.execution_options(**WRITING)
                known = await _contents(connection, [entry.transaction_id for entry in entries])
                results, new = sort_out(entries, known)
                if new:
                    await connection.execute(transactions.insert(), [_row(entry) for entry in new])
                    await connection.execute(postings.insert(), _posting_rows(new))
                await connection.commit()
        return results


def sort_out(
    entries: Iterable[EntryRecorded], known: Mapping[int, Content]
) -> tuple[list[Posted | Exception], list[EntryRecorded]]:
    """Decide what becomes of each entry, given what is posted; returns that and those to post."""
    seen = dict(known)
    results: list[Posted | Exception] = []
    new: list[EntryRecorded] = []
    for entry in entries:
        there = seen.get(entry.transaction_id)
        if there is None:
            seen[entry.transaction_id] = _row(entry)
            new.append(entry)
            results.append(Posted.NEW)
        else:
            problem = conflict(entry, there)
            results.append(ConflictError(problem) if problem else Posted.ALREADY)
    return results, new


def conflict(entry: EntryRecorded, there: Content) -> str | None:
    """Say how an entry differs from what is posted under its id; None where it does not."""
    here = _row(entry)
    differences = [
        f"{name} is {_shown(there[name])} in the ledger and {_shown(here[name])} here"
        for name in _CONTENT
        if here[name] != there[name]
    ]
    if not differences:
        return None
    return f"transaction {entry.transaction_id} is posted already: {'; '.join(differences)}"


def _shown(value: Any) -> str:
    return f"{value:.2f}" if isinstance(value, Decimal) else str(value)


@contextlib.asynccontextmanager
async def open_ledger(path: Path) -> AsyncIterator[Ledger]:
    """Open the ledger in that SQLite file, which is made where there is none.

    :raises LedgerError: the file cannot be opened, or is something else
    """
    async with open_database(path) as engine:
        ledger = Ledger(engine)
        try:
            yield ledger
        finally:
            await ledger.close()


async def _contents(connection: AsyncConnection, ids: Sequence[int]) -> dict[int, Content]:
    columns = [transactions.c[name] for name in _CONTENT]
    found: dict[int, Content] = {}
    for start in range(0, len(ids), LOOKUP_SIZE):
        some = ids[start : start + LOOKUP_SIZE]
        query = select(*columns).where(transactions.c.bank_transaction_id.in_(some))
        for row in (await connection.execute(query)).mappings():
            found[row["bank_transaction_id"]] = dict(row)
    return found


def _row(entry: EntryRecorded) -> dict[str, Any]:
    row = {name: getattr(entry, name) for name in _ENTRY_COLUMNS}
    return {"bank_transaction_id": entry.transaction_id, **row, "direction": str(entry.direction)}


_ENTRY_COLUMNS = tuple(
    column.name for column in transactions.c if column.name not in ("id", "bank_transaction_id")
)


def _posting_rows(entries: Iterable[EntryRecorded]) -> list[dict[str, Any]]:
    return [
        {
            "bank_transaction_id": entry.transaction_id,
            "account": posting.account,
            "amount": posting.amount,
        }
        for entry in entries
        for posting in double_entry(entry)
    ]


def _resolve(future: asyncio.Future[Posted], result: Posted | Exception) -> None:
    if future.done():
        return
    if isinstance(result, Exception):
        future.set_exception(result)
    else:
        future.set_result(result)
