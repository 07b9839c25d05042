"""Places the standing orders of a bank's file: each good row becomes a payment order."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from handlers.bank_format import ORDER_FIELDS, RowError, StandingOrder, parse_order, row_error
from handlers.messages import ORDERS, Currency, Partner, PlaceOrder
from handlers.replay.statement_file import read_rows
from mqkit import Outgoing, Publisher

KIND = "a file of standing orders"


@dataclass(slots=True)
class Placed:
    """What became of the rows of a file, counted."""

    placed: int = 0
    bad: int = 0
    """Rows that are no orders."""
    failed: int = 0
    """Orders that could not be published."""

    @property
    def all_placed(self) -> bool:
        """Whether each row is an order that was published."""
        return not self.bad and not self.failed


def payment_order(standing: StandingOrder) -> PlaceOrder:
    """Make the payment order that a standing order is: in the bank's currency, by its number.

    :raises RowError: it cannot be paid, for a name in it is too long
    """
    try:
        return PlaceOrder(
            order_id=f"standing-{standing.order_id}",
            account_id=standing.account_id,
            partner=Partner(bank=standing.bank_to, account=standing.account_to),
            amount=standing.amount,
            currency=Currency.CZK,
            purpose=standing.k_symbol,
        )
    except ValidationError as error:
        raise row_error(error) from None


def read_orders(path: Path, tell: Callable[[str], object]) -> Iterator[PlaceOrder | None]:
    """Yield the order of each row, or None for one that is none, after `tell` was told why.

    :raises StatementError: it cannot be read, or is no such file
    """
    for row in read_rows(path, hashlib.sha256(), ORDER_FIELDS, KIND):
        try:
            yield payment_order(parse_order(row.data))
        except RowError as error:
            tell(f"{path.name}, line {row.line}: {error}")
            yield None


async def place_orders(path: Path, publisher: Publisher, tell: Callable[[str], object]) -> Placed:
    """Publish the orders of a file; what is wrong with a row stops no other one.

    The same file again places nothing twice: an order's id is the bank's number of it.

    :param tell: is told of each row that is no order, and of each order that was not published
    :raises StatementError: it cannot be read, or is no such file
    """
    counts = Placed()

    def outgoing() -> Iterator[Outgoing]:
        for order in read_orders(path, tell):
            if order is None:
                counts.bad += 1
            else:
                message_id = f"order-{order.order_id}"
                yield Outgoing(ORDERS, "order.place", order, message_id=message_id)

    async for result in publisher.publish_many(outgoing()):
        if result.error is None:
            counts.placed += 1
        else:
            counts.failed += 1
            tell(str(result.error))
    return counts
