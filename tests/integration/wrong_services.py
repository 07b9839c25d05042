"""A service that contradicts itself: two handlers on one queue with different arguments."""

from __future__ import annotations

from mqkit import Queue, Retry, Service

service = Service("wrong", retry=Retry.never())


@service.handler(Queue("q"))
async def one(body: bytes) -> None:
    """The first."""


@service.handler(Queue("q", delivery_limit=5))
async def two(body: bytes) -> None:
    """The second."""
