"""Entries of a bank, as short as a test wants them, and a transaction to post them in."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import AsyncIterator
from datetime import date

from sqlalchemy.ext.asyncio import AsyncConnection

from handlers.accounting.books import Outcome
from handlers.accounting.carrying_out import carry_out_all
from handlers.accounting.database import WRITING, open_database
from handlers.accounting.posting import post_all
from handlers.accounting.rules import Command
from handlers.events import NOWHERE, Direction, EntryRecorded, Origin

NOW = dt.datetime(2026, 11, 30, tzinfo=dt.UTC)


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


async def post(connection: AsyncConnection, one: EntryRecorded, origin: Origin = NOWHERE) -> bool:
    """Post one; what is wrong with it is raised."""
    (result,) = await post_all(connection, [(one, origin)])
    if isinstance(result, Exception):
        raise result
    return result


async def carry_out(
    connection: AsyncConnection, command: Command, now: dt.datetime = NOW
) -> Outcome:
    """Carry one out; what is wrong with it is raised."""
    (result,) = await carry_out_all(connection, [command], now)
    if isinstance(result, Exception):
        raise result
    return result


@contextlib.asynccontextmanager
async def writing(url: str) -> AsyncIterator[AsyncConnection]:
    """A transaction on the ledger's database, committed at the end."""
    async with open_database(url) as engine, engine.connect() as connection:
        await connection.execution_options(**WRITING)
        await connection.begin()
        yield connection
        await connection.commit()
