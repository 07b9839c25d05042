"""What a handler of batches may ask for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel

from mqkit import Delivery, HandlerError, Publisher, Queue, Retry, Service
from mqkit.store import Transaction


class Order(BaseModel):
    """A body."""

    number: int


async def good(orders: list[Order], deliveries: list[Delivery], publisher: Publisher) -> None:
    pass


async def of_one(order: Order) -> None:
    pass


async def with_a_delivery(orders: list[Order], delivery: Delivery) -> None:
    pass


async def with_a_transaction(orders: list[Order], transaction: Transaction) -> None:
    pass


async def of_two(orders: list[Order], others: list[int]) -> None:
    pass


async def of_none(deliveries: list[Delivery]) -> None:
    pass


@pytest.mark.parametrize(
    ("function", "options", "words"),
    [
        (of_one, {}, r"list\[Order\]"),
        (with_a_delivery, {}, "takes list.Delivery."),
        (with_a_transaction, {}, "for one message"),
        (of_two, {}, "orders: .*others"),
        (of_none, {}, "not none"),
        (good, {"size": 0}, "size is a whole number"),
        (good, {"size": "3"}, "size is a whole number"),
        (good, {"within": 0}, "within is more than 0 s"),
        (good, {"prefetch": 3}, "no batch of 10"),
        (good, {"concurrency": 50}, "concurrency is 1 to"),
        (good, {"queue": Queue("q", partitions=2)}, "order_by"),
    ],
)
def test_a_batch_that_cannot_work_is_refused(
    function: Callable[..., Any], options: dict[str, Any], words: str
) -> None:
    """At registration, and the error names the handler and what is wrong."""
    service = Service("s", retry=Retry.never())
    given: dict[str, Any] = {"queue": Queue("q"), "size": 10, "within": 1.0, "prefetch": 20}
    given |= options
    with pytest.raises(HandlerError, match=words):
        service.batch(**given)(function)


def test_a_batch_is_prefetched_twice_over() -> None:
    """While one is handled the next one comes, unless a prefetch is said."""
    service = Service("s", retry=Retry.never())
    service.batch(Queue("q"), size=100, within=1, concurrency=2)(good)
    assert service.handlers[0].prefetch == 400
