"""The orders service: a saga takes each payment order to its one end, executed or refused.

It asks `risk`, has the `ledger` hold the amount, and then pay it. A step that is refused, or does
not answer in time, ends the order with a reason, and the hold is released. Once the payment was
asked for, the ledger alone knows how it ended: where it is silent, its answer to a release decides.

An answer that comes late, or twice, finds the order at another step, and changes nothing.
"""

from __future__ import annotations

import datetime as dt
import os
from enum import StrEnum
from typing import Any, NewType

from pydantic import BaseModel
from tenacity import retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

from handlers.clock import Clock
from handlers.databases import configured
from handlers.messages import (
    LEDGER,
    ORDERS,
    RISK,
    CheckRisk,
    ExecuteHold,
    ExecutionAnswered,
    HoldAnswered,
    OrderAccepted,
    OrderExecuted,
    OrderRefused,
    PlaceHold,
    PlaceOrder,
    ReleaseAnswered,
    ReleaseHold,
    RiskAnswered,
)
from mqkit import ConfigurationError, Queue, Reject, Retry, Service
from mqkit.errors import StatementError
from mqkit.sagas import Found, Saga, compensates, continues, on_timeout, starts
from mqkit.store import Store

Patience = NewType("Patience", float)
"""Seconds that each step has to answer."""

PATIENCE = Patience(60.0)
LONGEST_PATIENCE = 86_400.0

STEPS = 5
"""Steps that an order may wait for, one after the other, and one for what comes late."""

KEEP = dt.timedelta(days=30)
"""How long the end of an order is known; the ledger knows its business key for ever."""

EXECUTED, REFUSED = "order.executed", "order.refused"


class Step(StrEnum):
    """What an order waits for, or its end."""

    RISK = "checking the risk"
    HOLD = "holding the amount"
    EXECUTION = "executing"
    RELEASE = "asking whether it was executed"
    EXECUTED = "executed"
    REFUSED = "refused"


class PaymentState(BaseModel):
    """What is known of an order."""

    order: PlaceOrder
    step: Step = Step.RISK
    reason: str = ""
    """Why it was refused."""


class Payment(Saga[PaymentState], name="payment", keep=KEEP, publishes=[OrderRefused]):
    """Takes one order to its end."""

    @starts(
        Queue("orders.place"),
        bind=[ORDERS.key("order.place")],
        by="order_id",
        existing=Found.RUN,
        completed=Found.RUN,
        publishes=[OrderAccepted, CheckRisk],
        prefetch=500,
        concurrency=250,
    )
    async def placed(self, order: PlaceOrder, patience: Patience, clock: Clock) -> None:
        """Accept an order and ask `risk`; the same order again does nothing.

        :raises Reject: its id was used for another order
        """
        if not self.is_new:
            if order != self.state.order:
                raise Reject(f"order {self.id} was placed before, with another content")
            return
        self.begin(PaymentState(order=order))
        deadline = clock.now() + dt.timedelta(seconds=STEPS * patience)
        await self.tell("order.accepted", OrderAccepted(**self.told, deadline=deadline))
        await self.publish(RISK, "risk.check", CheckRisk(**self.told, partner=order.partner))
        await self.timeout("risk", after=patience)

    @continues(
        Queue("orders.risk"),
        bind=[RISK.key("risk.answered")],
        by="order_id",
        publishes=[PlaceHold, OrderRefused],
        prefetch=500,
        concurrency=250,
    )
    async def risk_answered(self, answer: RiskAnswered, patience: Patience) -> None:
        """Have the amount held, or refuse the order."""
        if self.state.step is not Step.RISK:
            return
        self.cancel_timeout("risk")
        if not answer.passed:
            await self.refuse(answer.reason or "risk refused it")
            return
        self.state.step = Step.HOLD
        self.done("hold")  # before it is asked for: the answer may never come
        await self.command("hold", PlaceHold(**self.told))
        await self.timeout("hold", after=patience)

    @on_timeout("risk", publishes=[OrderRefused])
    async def risk_silent(self) -> None:
        """Refuse the order: nothing was done for it yet."""
        await self.refuse("risk did not answer in time")

    @continues(
        Queue("orders.hold"),
        bind=[LEDGER.key("ledger.answered.hold")],
        by="order_id",
        publishes=[ExecuteHold, OrderRefused],
        prefetch=500,
        concurrency=250,
    )
    async def hold_answered(self, answer: HoldAnswered, patience: Patience) -> None:
        """Have the order paid, or refuse it."""
        if self.state.step is not Step.HOLD:
            return
        self.cancel_timeout("hold")
        if not answer.held:
            await self.refuse(answer.reason or "the ledger holds nothing for it")
            return
        self.state.step = Step.EXECUTION
        order = self.state.order
        execute = ExecuteHold(order_id=self.id, account_id=order.account_id, partner=order.partner)
        await self.command("execute", execute)
        await self.timeout("execution", after=patience)

    @on_timeout("hold")
    async def hold_silent(self) -> None:
        """Give up: whether the amount is held or will be, the release ends it."""
        await self.compensate("the ledger did not answer in time whether the amount is held")

    @continues(
        Queue("orders.execution"),
        bind=[LEDGER.key("ledger.answered.execute")],
        by="order_id",
        publishes=[OrderExecuted],
        prefetch=500,
        concurrency=250,
    )
    async def execution_answered(self, answer: ExecutionAnswered) -> None:
        """End the order as executed, or give it up and release the hold."""
        if self.state.step not in (Step.EXECUTION, Step.RELEASE):
            return
        if answer.executed:
            await self.execute()
        else:
            await self.compensate(answer.reason or "the ledger did not execute it")

    @on_timeout("execution", publishes=[ReleaseHold])
    async def execution_silent(self) -> None:
        """Ask for a release, whose answer says whether the order was paid before it."""
        self.state.step = Step.RELEASE
        await self.release_hold()

    @continues(
        Queue("orders.release"),
        bind=[LEDGER.key("ledger.answered.release")],
        by="order_id",
        publishes=[OrderExecuted, OrderRefused],
    )
    async def release_answered(self, answer: ReleaseAnswered) -> None:
        """End an order whose execution was not answered in time."""
        if self.state.step is not Step.RELEASE:
            return
        if answer.executed:
            await self.execute()
        else:
            await self.refuse("the ledger did not execute it in time", compensated=True)

    @compensates("hold", publishes=[ReleaseHold])
    async def release_hold(self) -> None:
        """Give back what is held; where nothing is yet, nothing will be."""
        account = self.state.order.account_id
        await self.command("release", ReleaseHold(order_id=self.id, account_id=account))

    async def compensated(self) -> None:
        """Refuse the order whose hold was released."""
        await self.end_refused(self.reason or "", compensated=True)

    async def execute(self) -> None:
        """End the order as executed."""
        self.state.step = Step.EXECUTED
        await self.tell(EXECUTED, OrderExecuted(**self.told, partner=self.state.order.partner))
        self.complete()

    async def refuse(self, reason: str, *, compensated: bool = False) -> None:
        """End the order as refused."""
        await self.end_refused(reason, compensated=compensated)
        self.complete()

    async def end_refused(self, reason: str, *, compensated: bool) -> None:
        """Tell that the order is refused."""
        self.state.step, self.state.reason = Step.REFUSED, reason
        await self.tell(REFUSED, OrderRefused(**self.told, reason=reason, compensated=compensated))

    @property
    def told(self) -> dict[str, Any]:
        """What each message about the order says of it."""
        return self.state.order.model_dump(exclude={"partner", "purpose"})

    async def tell(self, event: str, body: BaseModel) -> None:
        """Publish an event, which nobody needs to listen to."""
        message_id = f"{event}-{self.id}"
        await self.publish(ORDERS, event, body, message_id=message_id, mandatory=False)

    async def command(self, kind: str, command: BaseModel) -> None:
        """Publish a command to the ledger, in the order of the account's."""
        account = str(self.state.order.account_id)
        await self.publish(LEDGER, f"ledger.command.{kind}", command, key=account)


def configured_patience() -> Patience:
    """Return the patience with each step: what `ORDERS_PATIENCE` says, in seconds.

    :raises ConfigurationError: it says no such time
    """
    text = os.environ.get("ORDERS_PATIENCE", str(PATIENCE))
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= LONGEST_PATIENCE:
        raise ConfigurationError(
            f"ORDERS_PATIENCE is seconds, more than 0 and up to {LONGEST_PATIENCE:.0f}, "
            f"not {text!r}"
        )
    return Patience(seconds)


service = Service(
    "orders",
    store=Store(configured("orders")),
    publishes=[
        ORDERS.carries("order.accepted", OrderAccepted),
        ORDERS.carries(EXECUTED, OrderExecuted),
        ORDERS.carries(REFUSED, OrderRefused),
        RISK.carries("risk.check", CheckRisk),
        LEDGER.carries("ledger.command.hold", PlaceHold),
        LEDGER.carries("ledger.command.execute", ExecuteHold),
        LEDGER.carries("ledger.command.release", ReleaseHold),
    ],
    retry=Retry(
        stop=stop_after_attempt(10),
        wait=wait_exponential_jitter(multiplier=0.5, max=60),
        # A database that is away or locked costs no attempt; whatever else fails would fail again.
        retry=retry_if_exception_type(StatementError),
    ),
)
service.provide(Clock, Clock, scope="service")
service.provide(Patience, configured_patience, scope="service")
service.saga(Payment)
