"""The refunds service: pays an order back, in parts or all of it, and never more than was paid.

It learns of `order.executed` what was paid. A refund first reserves its amount, and then has the
ledger pay it; where the ledger does not, the amount is free again for another refund.
"""

from __future__ import annotations

from tenacity import retry_if_exception_type, stop_after_attempt, wait_exponential

from handlers.databases import configured, keep_tables
from handlers.messages import (
    LEDGER,
    ORDERS,
    REFUNDS,
    OrderExecuted,
    PayBack,
    PayBackAnswered,
    RefundExecuted,
    RefundRefused,
    RequestRefund,
)
from handlers.records import refunds
from handlers.records.refunds import Refund, ReusedIdError, State, UnknownOrderError
from mqkit import Delivery, Queue, Reject, Retry, Service
from mqkit.errors import StatementError
from mqkit.store import Store, Transaction

ATTEMPTS = 8
"""How often an order is looked for which is not known as paid: for some ten seconds, since its
`order.executed` may be on its way."""

store = Store(configured("refunds"))
service = Service(
    "refunds",
    store=store,
    publishes=[
        LEDGER.carries("ledger.command.refund", PayBack),
        REFUNDS.carries("refund.executed", RefundExecuted),
        REFUNDS.carries("refund.refused", RefundRefused),
    ],
    retry=Retry(
        stop=stop_after_attempt(ATTEMPTS),
        wait=wait_exponential(multiplier=0.5, max=2),
        retry=retry_if_exception_type((StatementError, UnknownOrderError)),
    ),
)
keep_tables(service, store, refunds.metadata)


@service.handler(Queue("refunds.orders"), bind=[ORDERS.key("order.executed")])
async def note_paid(order: OrderExecuted, transaction: Transaction) -> None:
    """Note what was paid for an order.

    :raises Reject: it is known with another amount or account
    """
    paid = (order.order_id, order.account_id, order.amount, order.currency)
    try:
        await refunds.note_paid(transaction.connection, *paid)
    except ReusedIdError as error:
        raise Reject(str(error)) from error


@service.handler(Queue("refunds.requests"), bind=[REFUNDS.key("refund.request")])
async def request(request: RequestRefund, delivery: Delivery, transaction: Transaction) -> None:
    """Reserve a refund's amount and have the ledger pay it, or refuse it.

    Under an id that is known it does nothing: its end was published before, or will be.

    :raises UnknownOrderError: the order is not known as paid; it may be with a later attempt
    :raises Reject: the id is known with another content
    """
    asked = Refund(request.refund_id, request.order_id, request.amount, request.currency)
    waits = delivery.attempt < ATTEMPTS
    try:
        refund = await refunds.reserve(transaction.connection, asked, waits=waits)
    except ReusedIdError as error:
        raise Reject(str(error)) from error
    if refund is None:
        return
    if refund.state is State.REFUSED:
        await publish_end(refund, transaction)
    elif refund.account_id is not None:
        pay = PayBack(**request.model_dump(), account_id=refund.account_id)
        account = str(refund.account_id)
        await transaction.publish(LEDGER, "ledger.command.refund", pay, key=account)


@service.handler(Queue("refunds.answers"), bind=[LEDGER.key("ledger.answered.refund")])
async def settle(answer: PayBackAnswered, transaction: Transaction) -> None:
    """End a refund as the ledger answered; an answer that comes again does nothing."""
    refund = await refunds.settle(
        transaction.connection, answer.refund_id, paid=answer.paid, reason=answer.reason
    )
    if refund is not None:
        await publish_end(refund, transaction)


async def publish_end(refund: Refund, transaction: Transaction) -> None:
    """Publish a refund's one end, to whoever listens."""
    asked = {
        "refund_id": refund.refund_id,
        "order_id": refund.order_id,
        "account_id": refund.account_id,
        "amount": refund.amount,
        "currency": refund.currency,
    }
    end: RefundExecuted | RefundRefused
    if refund.state is State.EXECUTED:
        end = RefundExecuted.model_validate(asked)
    else:
        end = RefundRefused.model_validate({**asked, "reason": refund.reason})
    await transaction.publish(
        REFUNDS, f"refund.{refund.state}", end, key=refund.order_id, mandatory=False
    )
