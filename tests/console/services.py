"""A shop whose faults a test chooses, run by `mqkit run` and looked at in the console.

The test writes files into the folder that `MQKIT_TEST_FAULTS` names: `broken` is a bug in `post`,
`down` that the bank does not answer.
"""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import BaseModel
from tenacity import stop_after_attempt, wait_fixed

from mqkit import Exchange, Pause, Queue, Retry, Service
from mqkit.sagas import Saga, continues, starts
from mqkit.store import Store, Transaction

FAULTS = Path(os.environ.get("MQKIT_TEST_FAULTS", os.devnull))

orders = Exchange("orders")

service = Service(
    "shop",
    store=Store(os.environ.get("MQKIT_TEST_DATABASE", "sqlite:///unset.sqlite")),
    retry=Retry(stop=stop_after_attempt(2), wait=wait_fixed(0.1)),
)


class BankDownError(Exception):
    """The bank does not answer."""


def ask_bank() -> None:
    """Return if the bank is there."""
    if (FAULTS / "down").is_file():
        raise BankDownError("the bank does not answer")


class Order(BaseModel):
    """What a customer orders."""

    order_id: str
    amount: str = "12.50"
    card_token: str = "hunter2-hunter2"
    note: str = "<script>document.title = 'pwned'</script>"


class Paid(BaseModel):
    """The bank has taken the money for an order."""

    order_id: str


class State(BaseModel):
    """What is kept of an order."""

    order: Order
    step: str = "asking the bank"


class Purchase(Saga[State], name="purchase"):
    """Takes one order to its end."""

    @starts(
        Queue("shop.place"),
        bind=[orders.key("order.place")],
        by="order_id",
        publishes=["Order"],
    )
    async def placed(self, order: Order) -> None:
        """Ask the bank for the money."""
        self.begin(State(order=order))
        await self.publish(orders, "order.charge", order)

    @continues(Queue("shop.paid"), bind=[orders.key("order.paid")], by="order_id")
    async def paid(self, answer: Paid) -> None:
        """End it."""
        self.state.step = "paid"
        self.complete()


service.saga(Purchase)


@service.handler(
    Queue("shop.charge"),
    bind=[orders.key("order.charge")],
    pause=Pause(on=BankDownError, minimum=1, rate=0.01, probe=ask_bank, every=0.2),
)
async def charge(order: Order, transaction: Transaction) -> None:
    """Have the bank take the money."""
    ask_bank()
    await transaction.publish(orders, "order.paid", Paid(order_id=order.order_id))


@service.handler(Queue("shop.post"), bind=[orders.key("order.post")])
async def post(order: Order, transaction: Transaction) -> None:
    """Send a parcel, if there is no bug."""
    if (FAULTS / "broken").is_file():
        raise ValueError(f"no scales for {order.order_id}, token={order.card_token}")


@service.handler(
    Queue("shop.stock", partitions=4), bind=[orders.key("order.stock")], order_by="order_id"
)
async def stock(order: Order) -> None:
    """Take it out of the stock, in the order of each order."""
