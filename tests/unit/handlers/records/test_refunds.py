"""Refunds in a transaction: together never more than was paid, in either database."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from decimal import Decimal
from random import Random

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from handlers.accounting.database import WRITING, open_database
from handlers.databases import create_tables
from handlers.records.refunds import (
    Refund,
    ReusedIdError,
    State,
    UnknownOrderError,
    metadata,
    note_paid,
    orders,
    refunds,
    reserve,
    settle,
)

PAID = Decimal("100.00")


def asked(
    refund_id: str = "r", amount: str = "60.00", order: str = "o", currency: str = "CZK"
) -> Refund:
    return Refund(refund_id, order, Decimal(amount), currency)


@contextlib.asynccontextmanager
async def writing(database: str) -> AsyncIterator[AsyncConnection]:
    """A transaction on the database, with its tables and an order of account 7 that is paid."""
    async with open_database(database) as engine, engine.connect() as connection:
        await connection.execution_options(**WRITING)
        await connection.begin()
        await create_tables(connection, metadata, name="refunds")
        await note_paid(connection, "o", 7, PAID, "CZK")
        yield connection
        await connection.commit()


async def taken(connection: AsyncConnection) -> Decimal | None:
    return await connection.scalar(select(orders.c.taken).where(orders.c.order_id == "o"))


async def test_refunds_of_an_order_are_what_was_paid_at_most(database: str) -> None:
    """What goes beyond is refused, and says what is left; what is left can be had."""
    async with writing(database) as connection:
        first = await reserve(connection, asked("r", "60.00"), waits=True)
        second = await reserve(connection, asked("s", "40.01"), waits=True)
        third = await reserve(connection, asked("t", "40.00"), waits=True)
    assert first == replace(asked("r", "60.00"), account_id=7)
    assert second == replace(
        asked("s", "40.01"),
        state=State.REFUSED,
        reason="of 100.00 paid for order o 40.00 are left to refund",
        account_id=7,
    )
    assert third == replace(asked("t", "40.00"), account_id=7)


async def test_what_the_ledger_does_not_pay_can_be_asked_for_again(database: str) -> None:
    """It is taken back once, however often the answer comes."""
    async with writing(database) as connection:
        await reserve(connection, asked("r", "60.00"), waits=True)
        ended = await settle(connection, "r", paid=False, reason="why")
        assert ended == replace(
            asked("r", "60.00"), state=State.REFUSED, reason="why", account_id=7
        )
        assert await settle(connection, "r", paid=False, reason="why") is None
        assert await settle(connection, "r", paid=True, reason="") is None
        assert await taken(connection) == 0
        whole = await reserve(connection, asked("s", "100.00"), waits=True)
        assert whole is not None
        assert whole.state is State.RESERVED


async def test_a_refund_that_is_asked_for_again_takes_nothing(database: str) -> None:
    """Whatever has become of it meanwhile."""
    async with writing(database) as connection:
        await reserve(connection, asked(), waits=True)
        assert await reserve(connection, asked(), waits=True) is None
        await settle(connection, "r", paid=True, reason="")
        assert await reserve(connection, asked(), waits=True) is None
        assert await taken(connection) == Decimal("60.00")


@pytest.mark.parametrize(
    "other", [{"amount": Decimal(1)}, {"currency": "EUR"}, {"order_id": "p"}], ids=str
)
async def test_another_content_under_a_known_id_is_an_error(
    database: str, other: dict[str, object]
) -> None:
    """It says what differs."""
    (name,) = other
    async with writing(database) as connection:
        await reserve(connection, asked(), waits=True)
        with pytest.raises(ReusedIdError, match=f"refund r is known already: {name} is"):
            await reserve(connection, replace(asked(), **other), waits=True)  # type: ignore[arg-type]
        with pytest.raises(ReusedIdError, match=r"order o is known already: paid is 100\.00"):
            await note_paid(connection, "o", 7, Decimal("100.01"), "CZK")
        assert await taken(connection) == Decimal("60.00")


async def test_an_order_of_another_currency_is_not_paid_back(database: str) -> None:
    """The reason names both."""
    async with writing(database) as connection:
        refused = await reserve(connection, asked(currency="EUR"), waits=True)
        assert refused is not None
        assert refused.reason == "order o was paid in CZK, not EUR"


async def test_an_unknown_order_is_waited_for_and_then_refused(database: str) -> None:
    """That it was waited for leaves nothing behind, so that it may be paid meanwhile."""
    unknown = asked(order="p")
    with pytest.raises(UnknownOrderError, match="order p is not known to be paid"):
        async with writing(database) as connection:
            await reserve(connection, unknown, waits=True)
    async with writing(database) as connection:
        reason = "order p is not known to be paid"
        refused = replace(unknown, state=State.REFUSED, reason=reason)
        assert await reserve(connection, unknown, waits=False) == refused
        assert await reserve(connection, unknown, waits=False) is None


async def three_at_once(database: str, connections: list[AsyncConnection], order: str) -> int:
    """Ask for three refunds of 60 % of a new order at the same time; count those that get it."""

    async def refund(number: int) -> bool:
        connection = connections[number]
        await connection.begin()
        wanted = asked(f"{order}-{number}", "60.00", order)
        refund = await reserve(connection, wanted, waits=True)
        await connection.commit()
        assert refund is not None
        return refund.state is State.RESERVED

    await connections[0].begin()
    await note_paid(connections[0], order, 7, PAID, "CZK")
    await connections[0].commit()
    return (await asyncio.gather(*(refund(number) for number in range(3)))).count(True)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("times", [20, pytest.param(1000, marks=pytest.mark.long)])
async def test_of_three_refunds_of_60_percent_at_once_one_succeeds(
    database: str, times: int
) -> None:
    """Each has a transaction of its own; whoever comes second waits for the first one's commit."""
    async with contextlib.AsyncExitStack() as stack:
        engine = await stack.enter_async_context(open_database(database))
        connections = [await stack.enter_async_context(engine.connect()) for _ in range(3)]
        for connection in connections:
            await connection.execution_options(**WRITING)
        await connections[0].begin()
        await create_tables(connections[0], metadata, name="refunds")
        await connections[0].commit()
        for number in range(times):
            assert await three_at_once(database, connections, f"o{number}") == 1


def test_whatever_comes_in_whatever_order_no_more_than_was_paid_is_taken(database: str) -> None:
    """What is taken of an order is the sum of its refunds that are not refused."""

    async def check(connection: AsyncConnection, seed: int) -> None:
        chance = Random(seed)
        for _ in range(30):
            wanted = asked(f"r{chance.randrange(6)}", f"{chance.choice([20, 30, 60])}.00")
            if chance.random() < 0.5:
                await settle(connection, wanted.refund_id, paid=chance.random() < 0.5, reason="why")
            else:
                with contextlib.suppress(ReusedIdError):
                    await reserve(connection, wanted, waits=False)
            of_order = (refunds.c.order_id == "o") & (refunds.c.state != State.REFUSED)
            total = select(func.sum(refunds.c.amount)).where(of_order)
            found = await taken(connection)
            assert found == (await connection.scalar(total) or 0)
            assert found <= PAID

    async def in_a_transaction(seed: int) -> None:
        async with engine.connect() as connection:
            await connection.execution_options(**WRITING)
            await connection.begin()
            await create_tables(connection, metadata, name="refunds")
            await note_paid(connection, "o", 7, PAID, "CZK")
            await check(connection, seed)
            await connection.rollback()

    # As they are found: to shrink one takes long.
    @settings(max_examples=20, phases=(Phase.explicit, Phase.reuse, Phase.generate))
    @given(st.integers(0, 10**9))
    def hold_for(seed: int) -> None:
        runner.run(in_a_transaction(seed))

    with asyncio.Runner() as runner:
        opened = open_database(database)
        engine = runner.run(opened.__aenter__())
        try:
            hold_for()
        finally:
            runner.run(opened.__aexit__(None, None, None))
