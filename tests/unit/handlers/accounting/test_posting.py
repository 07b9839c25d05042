"""Entries posted in a transaction: each of the bank's ids once, in either database."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import pytest
from sqlalchemy.exc import DBAPIError, StatementError

from handlers.accounting.database import WRITING, open_database
from handlers.accounting.errors import ConflictError, RacedError
from handlers.accounting.reading import open_ledger
from handlers.events import Origin
from tests.unit.handlers.entries import entry, post, writing


async def test_an_entry_is_posted_once(database: str) -> None:
    """The second time does nothing and says so, wherever it stands; one posting is there."""
    async with writing(database) as connection:
        assert await post(connection, entry(1, "700.10")) is True
        assert await post(connection, entry(1, "700.10")) is False
    async with writing(database) as connection:
        assert await post(connection, entry(1, "700.10"), Origin("other.csv", 9)) is False
    async with open_ledger(database) as ledger:
        assert await ledger.balance(7) == Decimal("700.10")
        totals = await ledger.totals()
        assert (totals.debits, totals.credits, totals.balanced) == (
            Decimal("700.10"),
            Decimal("700.10"),
            True,
        )


async def test_another_content_under_the_same_id_is_a_conflict(database: str) -> None:
    """It is refused with the difference, and nothing changes."""
    async with writing(database) as connection:
        await post(connection, entry(1, "1.00"))
        with pytest.raises(ConflictError, match=r"amount is 1\.00 in the ledger and 2\.00 here"):
            await post(connection, entry(1, "2.00"))
    async with open_ledger(database) as ledger:
        assert await ledger.balance(7) == Decimal("1.00")


async def test_transactions_at_the_same_time_post_an_entry_once(database: str) -> None:
    """Whoever comes second waits for the first one's commit, and does nothing after it."""

    async def posted(number: int) -> bool:
        try:
            async with writing(database) as connection:
                return await post(connection, entry(number, "0.10"))
        except RacedError:
            return await posted(number)

    answers = await asyncio.gather(*(posted(n) for n in range(10) for _ in range(3)))
    assert (answers.count(True), answers.count(False)) == (10, 20)
    async with open_ledger(database) as ledger:
        assert await ledger.balance(7) == Decimal("1.00")


async def test_what_is_not_committed_is_not_posted(database: str) -> None:
    """A transaction that is rolled back leaves nothing of an entry, and it can be posted later."""
    async with open_database(database) as engine, engine.connect() as connection:
        await connection.execution_options(**WRITING)
        await post(connection, entry(1))
        await connection.rollback()
    async with open_ledger(database) as ledger:
        assert await ledger.contents([1]) == {}
    async with writing(database) as connection:
        assert await post(connection, entry(1)) is True


async def test_sums_are_exact_for_the_largest_amounts(database: str) -> None:
    """Not a digit is lost on the way into the database, in its sums, or back."""
    async with writing(database) as connection:
        for number in range(30):
            await post(connection, entry(number, "9999999999999.99"))
    async with open_ledger(database) as ledger:
        assert await ledger.balance(7) == 30 * Decimal("9999999999999.99")
        assert (await ledger.contents([3]))[3]["amount"] == Decimal("9999999999999.99")
        assert (await ledger.totals()).balanced


async def test_a_third_digit_is_refused_and_not_rounded(database: str) -> None:
    """Also by PostgreSQL, whose NUMERIC would round it."""
    wrong = entry(1).model_copy(update={"amount": Decimal("0.001")})
    with pytest.raises((StatementError, DBAPIError), match="more than 2 digits"):
        async with writing(database) as connection:
            await post(connection, wrong)
