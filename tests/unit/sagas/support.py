"""The saga that the tests run: a payment that asks for a risk, holds an amount and executes it."""

from __future__ import annotations

from decimal import Decimal

from pydantic import BaseModel
from tenacity import stop_after_attempt, wait_none

from mqkit import Exchange, Queue, Retry
from mqkit.sagas import Found, Missing, Saga, compensates, continues, on_timeout, starts

ORDERS = Exchange("orders", type="topic")
RISK = Exchange("risk", type="topic")
LEDGER = Exchange("ledger", type="topic")

PATIENCE = 5.0
RETRY = Retry(stop=stop_after_attempt(3), wait=wait_none())


def queue(name: str) -> Queue:
    """A queue whose messages outlive any number of deaths."""
    return Queue(name, delivery_limit=100_000)


class PlaceOrder(BaseModel):
    """Starts a payment."""

    order_id: str
    amount: Decimal = Decimal("5.10")


class CheckRisk(BaseModel):
    """Asks for a risk."""

    order_id: str


class RiskAnswered(BaseModel):
    """Answers that."""

    order_id: str
    ok: bool = True


class HoldAmount(BaseModel):
    """Asks for a hold."""

    order_id: str
    amount: Decimal


class HoldAnswered(BaseModel):
    """Answers that."""

    order_id: str
    ok: bool = True


class ReleaseHold(BaseModel):
    """Takes a hold back."""

    order_id: str


class OrderEnded(BaseModel):
    """Tells how an order ended."""

    order_id: str
    reason: str | None = None


class PaymentState(BaseModel):
    """What is known of a payment."""

    order_id: str
    amount: Decimal
    risk: bool | None = None
    held: bool | None = None


class Payment(Saga[PaymentState], name="payment", retry=RETRY, publishes=["order.refused"]):
    """Asks for the risk, then holds the amount; gives up where either says no or nothing."""

    @starts(
        queue("orders.place"),
        bind=[ORDERS.key("order.place")],
        by="order_id",
        publishes=[CheckRisk],
    )
    async def placed(self, order: PlaceOrder) -> None:
        """Ask for the risk."""
        self.begin(PaymentState(order_id=order.order_id, amount=order.amount))
        await self.publish(RISK, "risk.check", CheckRisk(order_id=self.id))
        await self.timeout("risk", after=PATIENCE)

    @continues(
        queue("orders.risk"),
        bind=[RISK.key("risk.answered")],
        by="order_id",
        publishes=[HoldAmount],
    )
    async def risk_answered(self, answer: RiskAnswered) -> None:
        """Hold the amount, or give up."""
        if self.state.risk is not None:
            return
        self.state.risk = answer.ok
        self.cancel_timeout("risk")
        if not answer.ok:
            await self.compensate("the risk is too high")
            return
        self.done("hold")
        await self.publish(
            LEDGER, "ledger.hold", HoldAmount(order_id=self.id, amount=self.state.amount)
        )
        await self.timeout("hold", after=PATIENCE)

    @continues(
        queue("orders.hold"),
        bind=[LEDGER.key("hold.answered")],
        by="order_id",
        missing=Missing.RETRY,
        completed=Found.IGNORE,
        publishes=["order.executed"],
    )
    async def hold_answered(self, answer: HoldAnswered) -> None:
        """Execute the order, or give up."""
        self.state.held = answer.ok
        if not answer.ok:
            await self.compensate("no money")
            return
        await self.publish(ORDERS, "order.executed", OrderEnded(order_id=self.id))
        self.complete()

    @on_timeout("risk", queue=queue("saga.payment.timeout.risk"))
    async def risk_silent(self) -> None:
        """Give up."""
        await self.compensate("risk did not answer")

    @on_timeout("hold", queue=queue("saga.payment.timeout.hold"))
    async def hold_silent(self) -> None:
        """Give up."""
        await self.compensate("the ledger did not answer")

    @compensates("hold", queue=queue("saga.payment.compensate.hold"), publishes=[ReleaseHold])
    async def release_hold(self) -> None:
        """Take the hold back."""
        await self.publish(LEDGER, "ledger.release", ReleaseHold(order_id=self.id))

    async def compensated(self) -> None:
        """Refuse the order."""
        await self.publish(
            ORDERS, "order.refused", OrderEnded(order_id=self.id, reason=self.reason)
        )
