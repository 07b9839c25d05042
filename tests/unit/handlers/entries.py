"""Entries of a bank, as short as a test wants them, and a transaction to post them in."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from datetime import date

from sqlalchemy.ext.asyncio import AsyncConnection

from handlers.accounting.database import WRITING, open_database
from handlers.events import Direction, EntryRecorded


def entry(number: int, amount: str = "10.00", account: int = 7, **changes: object) -> EntryRecorded:
    """One credit."""
    return EntryRecorded.model_validate(
        {
            "transaction_id": number,
            "account_id": account,
            "date": date(1993, 1, 1),
            "direction": Direction.CREDIT,
            "operation": "VKLAD",
            "amount": amount,
            "balance_after": amount,
            **changes,
        }
    )


@contextlib.asynccontextmanager
async def writing(url: str) -> AsyncIterator[AsyncConnection]:
    """A transaction on the ledger's database, committed at the end."""
    async with open_database(url) as engine, engine.connect() as connection:
        await connection.execution_options(**WRITING)
        await connection.begin()
        yield connection
        await connection.commit()
