"""A consumer of a raw client, as a case uses it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from tests.conformance.suite.values import Delivery

if TYPE_CHECKING:
    from tests.conformance.suite.channel import WireChannel

ANSWER = 5.0
"""Seconds to wait for what the broker should send at once."""


async def first_of(*futures: asyncio.Future[Any], within: float | None = None) -> None:
    """Wait until one of them is done, or so many seconds; none is cancelled."""
    await asyncio.wait(futures, timeout=within, return_when=asyncio.FIRST_COMPLETED)


class Consumer:
    """A consumer: what is delivered to it, and whether the broker cancelled it."""

    def __init__(self, channel: WireChannel, queue: str, tag: str) -> None:
        self.channel = channel
        self.queue = queue
        self.tag = tag
        self.deliveries: asyncio.Queue[Delivery] = asyncio.Queue()
        self.cancelled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the broker has sent `basic.cancel` for it."""

    async def next(self, within: float = ANSWER) -> Delivery:
        """Wait for the next delivery.

        :raises ClosedError: the channel closed instead
        :raises AssertionError: nothing came within so many seconds
        """
        if not self.deliveries.empty():
            return self.deliveries.get_nowait()
        waiting = asyncio.ensure_future(self.deliveries.get())
        try:
            await first_of(waiting, self.channel.closed, within=within)
            if waiting.done():
                return waiting.result()
        finally:
            waiting.cancel()
        if self.channel.closed.done():
            raise self.channel.closed.result().error()
        raise AssertionError(f"nothing was delivered to {self.tag} within {within:g} s")

    async def take(self, count: int) -> list[Delivery]:
        """Wait for the next `count` deliveries."""
        return [await self.next() for _ in range(count)]

    async def cancel(self) -> None:
        """Do `basic.cancel`."""
        await self.channel.cancel(self.tag)
