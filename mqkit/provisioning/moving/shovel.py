"""Moves messages out of a queue: each is confirmed where it goes before it is acknowledged."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from mqkit.drivers.base import Acked, DriverChannel, Incoming, OpenChannel, Returned, Verdict
from mqkit.errors import BrokerError, ChannelClosedError, InvalidMessageError, TopologyError
from mqkit.message import Message
from mqkit.publishing.confirms import ConfirmChannel

PREFETCH = 1000
"""Messages on their way at a time."""

TOP_PRIORITY = 2**31 - 1
"""No consumer of a service's has a higher one, so that the broker prefers the shovel.

A quorum queue with a single active consumer hands over to it, from RabbitMQ 4.0 on, once the one
before has settled what it holds
(https://www.rabbitmq.com/docs/consumers#single-active-consumer)."""

Make = Callable[[Incoming], Awaitable[Message]]
"""Makes the message that is published in the place of one that came."""

Fit = Callable[[Message, InvalidMessageError], Message]
"""Returns a message with less in its headers, where they are too large with what was added."""


class Shovel:
    """Consumes a queue, and publishes what comes in its order, until it is stopped."""

    def __init__(
        self,
        queue: str,
        open_channel: OpenChannel,
        make: Make,
        fit: Fit,
        *,
        exclusive: bool = False,
    ) -> None:
        """Move nothing yet.

        :param exclusive: refuse to begin where anybody else consumes the queue (403)
        """
        self.queue = queue
        self._open = open_channel
        self._make = make
        self._fit = fit
        self._exclusive = exclusive
        self._source: DriverChannel | None = None
        self._confirms: ConfirmChannel | None = None
        self._came: asyncio.Queue[Incoming] = asyncio.Queue()
        self._written: deque[tuple[Incoming, asyncio.Future[Verdict]]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._failed: BaseException | None = None
        self.moved = 0
        self.last = 0.0
        """When the latest message came, on the loop's clock."""

    @property
    def in_hand(self) -> int:
        """Messages that came and are not acknowledged yet."""
        return self._came.qsize() + len(self._written) + self._making

    _making = 0

    def check(self) -> None:
        """Return if it is at work.

        :raises BrokerError: it failed; what it had in hand is in its queue again
        """
        if self._failed is not None:
            raise self._failed
        if self._source is not None and not self._source.is_open:
            raise self._source.closed.result().error()

    async def start(self, arguments: Mapping[str, Any] | None = None) -> None:
        """Begin to move.

        :raises ChannelClosedError: the broker refused it
        """
        self._source = source = await self._open()
        await source.qos(PREFETCH)
        self._confirms = await ConfirmChannel.open(await self._open())
        self._task = asyncio.create_task(self._run(), name=f"mqkit move {self.queue}")
        priority = {"x-priority": TOP_PRIORITY}
        await source.consume(
            self.queue,
            self._take,
            lambda: None,
            exclusive=self._exclusive,
            arguments={**priority, **(arguments or {})},
        )

    async def stop(self) -> None:
        """Move no more; what came and is not moved goes back to its queue, in its order."""
        if self._source is not None:
            await self._source.close(in_order=True)
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        if self._confirms is not None:
            await self._confirms.close()

    def _take(self, incoming: Incoming) -> None:
        self.last = asyncio.get_running_loop().time()
        self._came.put_nowait(incoming)

    async def _run(self) -> None:
        try:
            while True:
                incoming = await self._came.get()
                self._making = 1
                message = await self._make(incoming)
                verdict = self._write(message)
                self._written.append((incoming, verdict))
                self._making = 0
                verdict.add_done_callback(self._settle)
        except BrokerError as error:
            self._failed = error
        except InvalidMessageError as error:
            self._failed = TopologyError(f"queue {self.queue}: a message cannot be moved: {error}")

    def _write(self, message: Message) -> asyncio.Future[Verdict]:
        assert self._confirms is not None, "it was started"
        while True:
            try:
                return self._confirms.write(message)
            except InvalidMessageError as error:
                message = self._fit(message, error)

    def _settle(self, _: object) -> None:
        """Acknowledge those at the head that are confirmed, all by one ack."""
        last = None
        while self._written and self._written[0][1].done():
            incoming, verdict = self._written[0]
            if (problem := _problem(verdict.result())) is not None:
                # None after it is acknowledged: they come again, in their order.
                self._failed = self._failed or TopologyError(f"queue {self.queue}: {problem}")
                break
            self._written.popleft()
            last = incoming.tag
            self.moved += 1
        if last is not None and self._source is not None and self._source.is_open:
            self._source.ack(last, multiple=True)


def _problem(verdict: Verdict) -> str | None:
    if isinstance(verdict, Acked):
        return None
    if isinstance(verdict, Returned):
        return f"a message that is moved was returned: {verdict.text}; start again"
    return "the broker did not confirm a message that is moved; start again"


async def quietly_closed(shovel: Shovel) -> None:
    """Stop a shovel whose channels may be gone."""
    try:
        await shovel.stop()
    except ChannelClosedError:
        return
