"""The customers, as a service of their own: they hear how their orders end, and want money back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from decimal import Decimal

from tenacity import retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

from handlers.demo.plan import Plan
from handlers.messages import (
    BILLING,
    LEDGER,
    MONITORING,
    ORDERS,
    REFUNDS,
    RISK,
    MonthClosed,
    OrderExecuted,
    OrderRefused,
    RefundExecuted,
    RefundRefused,
)
from mqkit import Publisher, PublishError, Queue, Retry, Service

Sums = dict[str, Decimal]


class Customers:
    """Sends what is planned, and keeps what comes of it."""

    def __init__(self, plan: Plan) -> None:
        self._planned = {planned.order.order_id: planned for planned in plan.orders}
        self.ends: dict[str, OrderExecuted | OrderRefused] = {}
        self.refund_ends: dict[str, RefundExecuted | RefundRefused] = {}
        self.months: list[MonthClosed] = []
        self._heard = asyncio.Event()
        self.service = Service(
            "customers",
            publishes=[ORDERS, RISK, LEDGER, REFUNDS, BILLING, MONITORING],
            retry=Retry(
                stop=stop_after_attempt(10),
                wait=wait_exponential_jitter(multiplier=0.5, max=10),
                retry=retry_if_exception_type(PublishError),
            ),
        )
        orders = [ORDERS.key(f"order.{end}") for end in ("executed", "refused")]
        refunds = [REFUNDS.key(f"refund.{end}") for end in ("executed", "refused")]
        self.service.handler(Queue("customers.orders"), bind=orders, prefetch=300)(self.on_end)
        self.service.handler(Queue("customers.refunds"), bind=refunds)(self.on_refund_end)
        months = BILLING.key("billing.month-closed")
        self.service.handler(Queue("customers.months"), bind=[months])(self.on_month)

    async def on_end(self, end: OrderExecuted | OrderRefused, publisher: Publisher) -> None:
        """Ask for the refunds that are planned, all at once, as soon as the order is executed."""
        self.ends[end.order_id] = end
        self._heard.set()
        planned = self._planned.get(end.order_id)
        if planned is None or isinstance(end, OrderRefused):
            return
        await asyncio.gather(
            *(
                publisher.publish(REFUNDS, "refund.request", refund, message_id=refund.refund_id)
                for refund in planned.refunds
            )
        )

    async def heard(self, *, within: float) -> None:
        """Wait until an order ends, or until the timeout is over."""
        self._heard.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._heard.wait(), within)

    async def on_refund_end(self, end: RefundExecuted | RefundRefused) -> None:
        """Note how a refund ended."""
        self.refund_ends[end.refund_id] = end

    async def on_month(self, month: MonthClosed) -> None:
        """Note that a month is closed."""
        self.months.append(month)

    def paid(self) -> Sums:
        """Add up the amounts of the executed orders that customers were told of."""
        return _sums(end for end in self.ends.values() if isinstance(end, OrderExecuted))

    def paid_back(self) -> Sums:
        """Add up the amounts of the executed refunds that customers were told of."""
        return _sums(end for end in self.refund_ends.values() if isinstance(end, RefundExecuted))


def _sums(ends: Iterable[OrderExecuted | RefundExecuted]) -> Sums:
    sums: Sums = {}
    for end in ends:
        sums[end.currency] = sums.get(end.currency, Decimal("0.00")) + end.amount
    return sums
