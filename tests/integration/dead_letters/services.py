"""A service whose handler's dead letters commands look at; the queue comes by the environment."""

from __future__ import annotations

import os

from pydantic import BaseModel

from mqkit import Queue, Retry, Service
from mqkit.store import Store, Transaction

NAME = os.environ.get("TEST_NAME", "test")


class Order(BaseModel):
    """What comes."""

    n: int


service = Service(NAME, retry=Retry.never(), masks=["iban"])


@service.handler(Queue(NAME))
async def take(order: Order) -> None:
    """Do nothing."""


stored = Service(NAME, retry=Retry.never(), store=Store())


@stored.handler(Queue(NAME))
async def write(order: Order, transaction: Transaction) -> None:
    """Do nothing, once."""
