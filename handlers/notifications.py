"""The notifications service: tells each customer, once, how an order or a refund of his ended.

Its handler is a `def`, as what sends letters or mails is often a library without `async`. It runs
in a thread, and so does its transaction.
"""

from __future__ import annotations

from typing import Protocol

from tenacity import retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

from handlers.databases import configured, keep_tables
from handlers.messages import (
    ORDERS,
    REFUNDS,
    OrderExecuted,
    OrderRefused,
    RefundExecuted,
    RefundRefused,
)
from handlers.records import notifications as records
from handlers.records.notifications import Notification
from mqkit import Queue, Reject, Retry, Service
from mqkit.errors import StatementError
from mqkit.store import Store, SyncTransaction

End = OrderExecuted | OrderRefused | RefundExecuted | RefundRefused
"""How an order or a refund ends; the fields of a body tell which one it is."""


class Sender(Protocol):
    """Sends notifications to customers."""

    def send(self, notification: Notification) -> Notification:
        """Send it, unless one about the same was sent before; returns the one that was sent."""
        ...


class TableSender:
    """Puts notifications into the service's own table, in the transaction of their message.

    Whoever sends mails instead does so outside of the transaction, and may have to do it twice: he
    gives `notification.about` to his provider as the key under which it sends once.
    """

    def __init__(self, transaction: SyncTransaction) -> None:
        self._transaction = transaction

    def send(self, notification: Notification) -> Notification:
        """Keep it, unless there is one about the same."""
        return records.keep(self._transaction.connection, notification)


store = Store(configured("notifications"))
service = Service(
    "notifications",
    store=store,
    retry=Retry(
        stop=stop_after_attempt(10),
        wait=wait_exponential_jitter(multiplier=0.5, max=60),
        retry=retry_if_exception_type(StatementError),
    ),
)
keep_tables(service, store, records.metadata)
service.provide(Sender, TableSender)  # for each message, as its transaction is


@service.handler(
    Queue("notifications.ends"),
    bind=[
        ORDERS.key("order.executed"),
        ORDERS.key("order.refused"),
        REFUNDS.key("refund.executed"),
        REFUNDS.key("refund.refused"),
    ],
)
def notify(end: End, sender: Sender) -> None:
    """Tell the customer how his order or refund ended.

    :raises Reject: he was told that it ended otherwise
    """
    if end.account_id is None:
        return  # the refund of an order that nobody knows: there is no customer to tell
    notification = Notification(about(end), end.account_id, text(end))
    sent = sender.send(notification)
    if sent != notification:
        raise Reject(f"account {sent.account_id} was told otherwise about {sent.about}")


def about(end: End) -> str:
    """Return the key of what has ended: of each order, and each refund, there is one end."""
    if isinstance(end, OrderExecuted | OrderRefused):
        return f"order-{end.order_id}"
    return f"refund-{end.refund_id}"


def text(end: End) -> str:
    """Write what the customer reads."""
    money = f"{end.amount:.2f} {end.currency}"
    match end:
        case OrderExecuted():
            to = f"account {end.partner.account} at bank {end.partner.bank}"
            return f"Your order {end.order_id} is done: {money} went to {to}."
        case OrderRefused():
            return f"Your order {end.order_id} of {money} is refused: {end.reason}."
        case RefundExecuted():
            return f"{money} of your order {end.order_id} are back on your account."
        case RefundRefused():
            return f"The refund of {money} of your order {end.order_id} is refused: {end.reason}."
