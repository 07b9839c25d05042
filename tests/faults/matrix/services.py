"""The services that rows run in their own process; `processes` has those of others."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterable
from typing import Literal

from pydantic import BaseModel
from tenacity import stop_after_attempt, wait_fixed

from mqkit import Delivery, Queue, Retry, Service
from mqkit.drivers import NAMES
from mqkit.topology import Source
from tests.faults.matrix.journal import Journal

DRIVERS = NAMES
"""The drivers, for rows that take each in turn."""


class Payment(BaseModel):
    """A message of the matrix, with what its handler is to do."""

    key: str
    card: str = ""
    seconds: float = 0.0
    """What the handler takes."""
    first_only: bool = False
    """It takes them at the first delivery only."""
    poison: Literal["", "raises", "kills"] = ""


def applying(
    journal: Journal,
    queue: Queue | str,
    *,
    bind: Iterable[Source] = (),
    concurrency: int = 20,
    prefetch: int = 100,
    gate: asyncio.Event | None = None,
    attempts: int = 1,
    name: str = "matrix",
) -> Service:
    """A service that applies each key once, after the seconds that the message says.

    With a gate, each run waits until it is open.
    """
    service = Service(name, retry=Retry(stop=stop_after_attempt(attempts), wait=wait_fixed(0.1)))
    queue = Queue(queue) if isinstance(queue, str) else queue

    @service.handler(queue, bind=bind, concurrency=concurrency, prefetch=prefetch)
    async def apply(payment: Payment, delivery: Delivery) -> None:
        with journal.handling(
            payment.key, message_id=delivery.message_id, redelivered=delivery.redelivered
        ):
            if payment.poison == "kills":
                os.kill(os.getpid(), signal.SIGKILL)
            if payment.poison == "raises":
                raise ValueError(f"card {payment.card} is refused")
            if gate is not None:
                await gate.wait()
            if not (payment.first_only and delivery.redelivered):
                await asyncio.sleep(payment.seconds)
            journal.apply_once(payment.key)

    return service
