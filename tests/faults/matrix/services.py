"""The services that rows run in their own process; `processes` has those of others."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from pydantic import BaseModel

from mqkit import Delivery, Queue, Retry, Service
from mqkit.topology import Source
from tests.faults.matrix.journal import Journal


class Payment(BaseModel):
    """A message of the matrix; the secrets that come with it are nobody's business."""

    key: str
    seconds: float = 0.0


def applying(
    journal: Journal,
    queue: Queue | str,
    *,
    bind: Iterable[Source] = (),
    concurrency: int = 20,
    prefetch: int = 100,
    name: str = "matrix",
) -> Service:
    """A service that applies each key once, after the seconds that the message says."""
    service = Service(name, retry=Retry.never())
    queue = Queue(queue) if isinstance(queue, str) else queue

    @service.handler(queue, bind=bind, concurrency=concurrency, prefetch=prefetch)
    async def apply(payment: Payment, delivery: Delivery) -> None:
        with journal.handling(
            payment.key, message_id=delivery.message_id, redelivered=delivery.redelivered
        ):
            await asyncio.sleep(payment.seconds)
            journal.apply_once(payment.key)

    return service
