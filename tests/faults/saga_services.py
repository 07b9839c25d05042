"""The services around a saga that die: the orders, and the risk and the ledger that answer.

How either answers an order is drawn by its id: yes, no, twice, or not at all.
"""

from __future__ import annotations

import os
import zlib

from sqlalchemy import text
from tenacity import stop_after_attempt, wait_fixed

from mqkit import Delivery, Retry, Service
from mqkit.store import Store, Transaction
from tests.unit.sagas import support
from tests.unit.sagas.support import (
    LEDGER,
    ORDERS,
    RISK,
    CheckRisk,
    HoldAmount,
    HoldAnswered,
    OrderEnded,
    Payment,
    ReleaseHold,
    RiskAnswered,
    queue,
)

support.PATIENCE = float(os.environ.get("TEST_PATIENCE", "5"))

RETRIES = Retry(stop=stop_after_attempt(50), wait=wait_fixed(0.1))

TABLES = (
    "CREATE TABLE holds (order_id VARCHAR(80) PRIMARY KEY, state VARCHAR(16))",
    "CREATE TABLE ends (order_id VARCHAR(80), message_id VARCHAR(80), how VARCHAR(16))",
)

HOLD = "INSERT INTO holds VALUES (:id, 'held') ON CONFLICT DO NOTHING"
RELEASE = (
    "INSERT INTO holds VALUES (:id, 'released') "
    "ON CONFLICT (order_id) DO UPDATE SET state = 'released'"
)
"""A release that comes before its hold leaves a row, by which the hold is refused."""

store = Store(os.environ.get("MQKIT_STORE", "sqlite:///unused"))

orders = Service("orders", store=store, retry=RETRIES)
orders.saga(Payment)

world = Service("world", store=store, retry=RETRIES)


def drawn(order_id: str, what: str) -> int:
    """A number from 0 to 9, the same each time."""
    return zlib.crc32(f"{what} {order_id}".encode()) % 10


@world.handler(queue("world.risk"), bind=[RISK.key("risk.check")])
async def check(asked: CheckRisk, transaction: Transaction) -> None:
    """Answer most, and some twice."""
    number = drawn(asked.order_id, "risk")
    for _ in range(0 if number == 0 else 2 if number == 1 else 1):
        answer = RiskAnswered(order_id=asked.order_id, ok=number != 2)
        await transaction.publish(RISK, "risk.answered", answer)


@world.handler(queue("world.hold"), bind=[LEDGER.key("ledger.hold")])
async def hold(asked: HoldAmount, transaction: Transaction) -> None:
    """Hold the amount, and answer most of them."""
    number = drawn(asked.order_id, "hold")
    made = await transaction.execute(text(HOLD), {"id": asked.order_id})
    is_held = made.rowcount == 1 and number != 2
    if not is_held:
        await transaction.execute(text(RELEASE), {"id": asked.order_id})
    for _ in range(0 if number == 0 else 2 if number == 1 else 1):
        answer = HoldAnswered(order_id=asked.order_id, ok=is_held)
        await transaction.publish(LEDGER, "hold.answered", answer)


@world.handler(queue("world.release"), bind=[LEDGER.key("ledger.release")])
async def release(asked: ReleaseHold, transaction: Transaction) -> None:
    """Take the hold back, or refuse the one that is still to come."""
    await transaction.execute(text(RELEASE), {"id": asked.order_id})


ENDS = [ORDERS.key("order.executed"), ORDERS.key("order.refused")]


@world.handler(queue("world.ends"), bind=ENDS)
async def end(ended: OrderEnded, transaction: Transaction, delivery: Delivery) -> None:
    """Note how it ended."""
    how = delivery.routing_key.removeprefix("order.")
    row = {"id": ended.order_id, "message_id": delivery.message_id, "how": how}
    await transaction.execute(text("INSERT INTO ends VALUES (:id, :message_id, :how)"), row)
