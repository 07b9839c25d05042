"""A service that fails in the ways that services do, and whose errors quote secrets."""

from __future__ import annotations

import json
import logging
import os
import re

from pydantic import BaseModel
from tenacity import stop_after_attempt, wait_fixed

from mqkit import Delivery, Exchange, Queue, Reject, Retry, Service

NAME = os.environ.get("MQKIT_TEST_QUEUE", "unset")

log = logging.getLogger("shop.ledger")

payments = Exchange(f"{NAME}.payments", type="topic")

service = Service(
    "ledger",
    retry=Retry(stop=stop_after_attempt(2), wait=wait_fixed(0.2)),
    masks=["customer", re.compile(r"ACC-[0-9]+")],
)


class BankError(Exception):
    """The bank did not take it."""


class Order(BaseModel):
    """What is asked for, and what goes wrong with it."""

    what: str
    secret: str = ""


@service.handler(Queue(f"{NAME}.post"), bind=[payments.key("order.#")])
async def post(order: Order, delivery: Delivery) -> None:
    """Post an order, or fail."""
    log.info("posting %s for customer=%s", order.what, order.secret)
    match order.what:
        case "rejected":
            raise Reject(f"account ACC-4711 is closed, said token={order.secret}")
        case "bank":
            charge(order)
        case "key":
            _ = json.loads(delivery.body)["account"]
        case "quoted":
            raise ValueError(f"cannot read {order.model_dump()!r}")
        case "header":
            raise PermissionError(f"403 for Authorization: Bearer {order.secret}")
        case "card":
            raise ValueError(f"card {order.secret} is declined")
        case "logged":
            try:
                _ = 1 / 0
            except ZeroDivisionError:
                log.exception("no rate, password=%s", order.secret)


def charge(order: Order) -> None:
    """Ask a bank that does not answer."""
    try:
        raise TimeoutError(  # noqa: TRY301 - as a client library of a bank would
            f"https://shop:{order.secret}@bank.example/charge timed out"
        )
    except TimeoutError as error:
        raise BankError("the bank does not answer") from error
