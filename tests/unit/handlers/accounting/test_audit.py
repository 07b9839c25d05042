"""What does not add up is found, and named."""

from __future__ import annotations

from decimal import Decimal

import pytest
from sqlalchemy import Executable

from handlers.accounting.audit import problems
from handlers.accounting.rules import Kind
from handlers.accounting.schema import accounts, holds, sides
from tests.unit.handlers.accounting.test_carrying_out import command
from tests.unit.handlers.entries import NOW, carry_out, writing

CENT = Decimal("0.01")


@pytest.mark.parametrize(
    ("tampering", "said"),
    [
        (
            sides.update().where(sides.c.account == "bank:cash").values(amount=-20 - CENT),
            "the postings of deposit-x sum to -0.01 CZK",
        ),
        (
            accounts.update().values(balance=accounts.c.balance + CENT),
            "balance of customer:7 is 15.01 CZK, and the sum is 15.00",
        ),
        (
            accounts.update().values(held=accounts.c.held + CENT),
            "held of 7 is 5.01 CZK, and the sum is 5.00",
        ),
        (accounts.delete(), "balance of customer:7 is None CZK, and the sum is 15.00"),
        (
            holds.update().where(holds.c.order_id == "x").values(refunded=Decimal("4.00")),
            "refunded of x is 4.00 CZK, and the sum is 5.00",
        ),
        (
            holds.update().where(holds.c.order_id == "x").values(amount=CENT, refunded=CENT),
            "5.00 CZK of order x are refunded, more than was paid",
        ),
        (
            holds.delete().where(holds.c.order_id == "x"),
            "5.00 CZK of order x are refunded, more than was paid",
        ),
    ],
)
async def test_what_was_tampered_with_is_found(
    database: str, tampering: Executable, said: str
) -> None:
    """Postings, balances, holds and refunds are each compared with what they come of."""
    async with writing(database) as connection:
        for each in (
            command(Kind.DEPOSIT, amount="20.00"),
            command(Kind.HOLD, amount="10.00"),
            command(Kind.HOLD, "y", amount="5.00"),
            command(Kind.EXECUTE),
            command(Kind.REFUND, amount="5.00"),
        ):
            assert (await carry_out(connection, each, NOW)).decision.done
        assert [each async for each in problems(connection)] == []
        await connection.execute(tampering)
        assert said in [each async for each in problems(connection)]
