"""The notifications service: what it writes, and its handler called directly."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from handlers.messages import (
    Currency,
    OrderExecuted,
    OrderRefused,
    Partner,
    RefundExecuted,
    RefundRefused,
)
from handlers.notifications import End, about, notify, text
from handlers.records.notifications import Notification
from mqkit import Reject

MONEY: dict[str, Any] = {"amount": Decimal("9.9"), "currency": Currency.CZK}

ENDS: list[tuple[End, str, str]] = [
    (
        OrderExecuted(
            order_id="7", account_id=576, partner=Partner(bank="QR", account="13"), **MONEY
        ),
        "order-7",
        "Your order 7 is done: 9.90 CZK went to account 13 at bank QR.",
    ),
    (
        OrderRefused(order_id="7", account_id=576, reason="no money", **MONEY),
        "order-7",
        "Your order 7 of 9.90 CZK is refused: no money.",
    ),
    (
        RefundExecuted(refund_id="r", order_id="7", account_id=576, **MONEY),
        "refund-r",
        "9.90 CZK of your order 7 are back on your account.",
    ),
    (
        RefundRefused(refund_id="r", order_id="7", account_id=576, reason="paid back", **MONEY),
        "refund-r",
        "The refund of 9.90 CZK of your order 7 is refused: paid back.",
    ),
]


class Letters:
    """A sender that keeps what it sent."""

    def __init__(self) -> None:
        self.sent: dict[str, Notification] = {}

    def send(self, notification: Notification) -> Notification:
        return self.sent.setdefault(notification.about, notification)


@pytest.mark.parametrize(("end", "key", "words"), ENDS, ids=lambda each: type(each).__name__)
def test_an_end_is_told_in_words(end: End, key: str, words: str) -> None:
    """What the customer reads has the amount with two digits, and the reason of a refusal."""
    letters = Letters()
    notify(end, letters)
    assert letters.sent == {key: Notification(key, 576, words)}
    assert (about(end), text(end)) == (key, words)


def test_an_end_that_comes_twice_is_told_once() -> None:
    """The second time sends nothing, and is no failure."""
    letters = Letters()
    notify(ENDS[0][0], letters)
    notify(ENDS[0][0], letters)
    assert len(letters.sent) == 1


def test_another_end_of_the_same_order_is_rejected() -> None:
    """A customer is not told that his order is done, and then that it is not."""
    letters = Letters()
    notify(ENDS[0][0], letters)
    with pytest.raises(Reject, match=r"^account 576 was told otherwise about order-7$"):
        notify(ENDS[1][0], letters)


def test_nobody_is_told_of_an_order_that_nobody_knows() -> None:
    """A refund that names no known order has no account, and no customer."""
    letters = Letters()
    notify(RefundRefused(refund_id="r", order_id="7", reason="no such order", **MONEY), letters)
    assert letters.sent == {}
