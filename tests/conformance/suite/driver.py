"""Collects what a driver tells of deliveries, publishes and closes, for a case to look at."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any, Self

from mqkit.drivers.base import Closed, DriverChannel, DriverConnection, Incoming, Returned
from mqkit.errors import ChannelClosedError
from mqkit.message import Message, Properties
from tests.conformance.suite.consumer import ANSWER
from tests.conformance.suite.values import Confirm


class Inbox:
    """A consumer of a driver: what was delivered to it, and how often it was cancelled."""

    def __init__(self, channel: DriverChannel, queue: str) -> None:
        self.channel = channel
        self.queue = queue
        self.tag = ""
        self.cancels = 0
        self.deliveries: asyncio.Queue[Incoming] = asyncio.Queue()
        self.cancelled = asyncio.Event()

    @classmethod
    async def consume(
        cls,
        channel: DriverChannel,
        queue: str,
        *,
        no_ack: bool = False,
        exclusive: bool = False,
        arguments: Mapping[str, Any] | None = None,
    ) -> Self:
        """Start the consumer."""
        inbox = cls(channel, queue)
        inbox.tag = await channel.consume(
            queue,
            inbox.deliveries.put_nowait,
            inbox.on_cancel,
            no_ack=no_ack,
            exclusive=exclusive,
            arguments=arguments,
        )
        return inbox

    def on_cancel(self) -> None:
        """Count a cancel by the broker."""
        self.cancels += 1
        self.cancelled.set()

    async def next(self) -> Incoming:
        """Wait for the next delivery."""
        async with asyncio.timeout(ANSWER):
            return await self.deliveries.get()

    async def take(self, count: int) -> list[Incoming]:
        """Wait for the next `count` deliveries."""
        return [await self.next() for _ in range(count)]

    async def bodies(self, count: int) -> list[bytes]:
        """Wait for the next `count` deliveries, and return their bodies."""
        return [incoming.body for incoming in await self.take(count)]

    async def nothing_more(self) -> None:
        """Claim that the broker has nothing more to deliver to it now; see `Env.nothing_more`."""
        for _ in range(2):
            await self.channel.declare_queue(self.queue, passive=True)
        left = self.deliveries.qsize()
        assert left == 0, f"{left} more came, first {self.deliveries.get_nowait()}"


class Publishes:
    """A driver's channel in confirm mode, and what it told of publishes, in its order."""

    def __init__(self, channel: DriverChannel) -> None:
        self.channel = channel
        self.told: list[Confirm | Returned] = []
        self._news = asyncio.Event()

    @classmethod
    async def on(cls, channel: DriverChannel) -> Self:
        """Put the channel into confirm mode."""
        publishes = cls(channel)
        await channel.confirm_select(publishes._on_confirm, publishes._on_return)
        return publishes

    @property
    def confirms(self) -> list[Confirm]:
        """The confirms, as they came."""
        return [each for each in self.told if isinstance(each, Confirm)]

    @property
    def returns(self) -> list[Returned]:
        """The returns, as they came."""
        return [each for each in self.told if isinstance(each, Returned)]

    async def confirmed(self, number: int) -> bool:
        """Wait for the confirm of a publish: True for an ack, False for a nack."""
        async with asyncio.timeout(ANSWER):
            while True:
                for confirm in self.confirms:
                    if confirm.tag == number or (confirm.multiple and confirm.tag > number):
                        return confirm.acked
                self._news.clear()
                await self._news.wait()

    async def publish(
        self, queue: str, body: bytes = b"", properties: Properties | None = None
    ) -> bool:
        """Publish to a queue by its name, and wait for the confirm: True for an ack."""
        message = Message("", queue, body, properties or Properties())
        return await self.confirmed(self.channel.publish(message))

    def _on_confirm(self, tag: int, multiple: bool, acked: bool) -> None:
        self.told.append(Confirm(tag, multiple, acked))
        self._news.set()

    def _on_return(self, returned: Returned) -> None:
        self.told.append(returned)


async def closed_with(what: DriverChannel | DriverConnection, code: int, text: str = "") -> Closed:
    """Claim that it closes with this code and some words; 0 is for none of the broker's."""
    async with asyncio.timeout(ANSWER):
        closed = await asyncio.shield(what.closed)
    assert closed.code == code, f"closed with {closed.code}, not {code}: {closed.text}"
    assert text in closed.text, f"{text!r} is not in {closed.text!r}"
    assert closed.text, "it does not say why"
    assert closed.by_broker == (code != 0), f"by_broker is {closed.by_broker}"
    return closed


async def got(channel: DriverChannel, queue: str) -> Incoming:
    """Get a message of the queue, which must be there at once."""
    incoming = await channel.get(queue)
    assert incoming is not None, f"{queue} is empty"
    return incoming


@contextlib.asynccontextmanager
async def expect_error(code: int, text: str = "") -> AsyncIterator[None]:
    """Claim that the block fails with `ChannelClosedError` and this code, words included.

    :raises AssertionError: it does not
    """
    try:
        async with asyncio.timeout(ANSWER):
            yield
    except ChannelClosedError as error:
        assert error.code == code, f"failed with {error.code}, not {code}: {error.text}"  # noqa: PT017
        assert text in error.text, f"{text!r} is not in {error.text!r}"  # noqa: PT017
    else:
        raise AssertionError(f"it was answered: it was to fail with {code}")
