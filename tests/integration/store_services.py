"""A service with a store, for processes of their own; names and URLs come by the environment."""

from __future__ import annotations

import os
from dataclasses import dataclass

from pydantic import BaseModel
from sqlalchemy import text

from mqkit import Queue, Retry, Service
from mqkit.store import Store, Transaction

NAME = os.environ.get("TEST_NAME", "test")


class Order(BaseModel):
    """What comes."""

    id: str
    amount: int


@dataclass
class Ledger:
    """Made from the transaction of each message."""

    transaction: Transaction

    async def post(self, order: Order) -> None:
        """The handler's own work."""
        await self.transaction.execute(
            text("INSERT INTO postings (order_id, amount) VALUES (:id, :amount)"),
            {"id": order.id, "amount": order.amount},
        )


async def post(order: Order, ledger: Ledger, transaction: Transaction) -> dict[str, int]:
    """Work, and a message of it."""
    await ledger.post(order)
    await transaction.publish(
        "", f"{NAME}.out", order, key=str(order.amount % 3), message_id=f"{order.id}.posted"
    )
    return {"amount": order.amount}


async def note(order: Order, transaction: Transaction) -> None:
    """The message of it, which has an effect of its own."""
    await transaction.execute(text("INSERT INTO notices (order_id) VALUES (:id)"), {"id": order.id})


def make(*, notes: bool) -> Service:
    """The service; without `notes`, what it publishes stays in its queue."""
    made = Service(NAME, retry=Retry.never(), store=Store())
    made.provide(Ledger, Ledger)
    made.handler(Queue(f"{NAME}.orders"), prefetch=50, concurrency=10)(post)
    if notes:
        made.handler(Queue(f"{NAME}.out"), prefetch=50)(note)
    return made


both = make(notes=True)
source = make(notes=False)
