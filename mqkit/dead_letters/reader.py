"""Reads a queue without taking anything out of it, and acks what was moved: nobody else here acks.

What is read stays unacknowledged until the channel closes, by which the broker puts it back. A
quorum queue puts what comes back behind what came back before. So whoever reads a part of it, and
gives that back, has changed the order; who reads all of it has not (measured on RabbitMQ 4.0.9 and
4.3.6; https://github.com/rabbitmq/rabbitmq-server/issues/6804). Here all of it is read, always. And
one consumer's prefetch is for all of it: RabbitMQ then hands it over at once, before the first
message is on its way, so that a process which is killed while it reads gives all of it back, too.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

from mqkit.dead_letters.errors import DeadLettersInUseError
from mqkit.drivers.base import DriverChannel, Incoming
from mqkit.errors import BrokerError, MqkitError
from mqkit.logging.shown import shown

PREFETCH = 65_535
"""The most messages that a consumer may hold (AMQP 0-9-1, "basic.qos"); more take another one."""

SILENCE = 5.0
"""Seconds in which another message must come, as long as the queue has some."""

APPLIED = 0.5
"""Seconds until a queue has applied acks: RabbitMQ loses some of a channel that closes at once
(https://github.com/rabbitmq/rabbitmq-server/issues/10327)."""

COUNTED = 5.0
"""Seconds in which the broker must count what was given back: 0.1 on a busy machine (4.3.6)."""

COUNT_AGAIN = 0.02

Count = Callable[[], Awaitable[int]]
"""Counts the messages of a queue."""

Take = Callable[[Incoming, bool], None]
"""Is given each message as it comes, and whether it arrived after the reading began."""


class Reader:
    """Reads one queue on a channel of its own, for the block; arrivals are read as they come."""

    def __init__(
        self,
        channel: DriverChannel,
        queue: str,
        take: Take,
        first: int | None = None,
        *,
        count: Count | None = None,
    ) -> None:
        """Read nothing yet.

        :param first: messages that are no arrivals, and that are there or about to come back from
            an earlier reading; None is all that are there now
        :param count: counts what is in the queue, once this channel is closed
        """
        self._channel = channel
        self._queue = queue
        self._take = take
        self.first = first or 0
        self._knows_first = first is not None
        self._came = 0
        self._consumers = 0
        self._acked = 0
        self._count = count
        self._changed = asyncio.Event()
        self._error: BaseException | None = None

    async def __aenter__(self) -> Self:
        """Read all that is there.

        :raises DeadLettersInUseError: some of it did not come: somebody else has it, or deleted it
        :raises ChannelClosedError: the broker closed the channel: what was read is back
        """
        try:
            self._channel.closed.add_done_callback(lambda _: self._changed.set())
            await self._channel.qos(PREFETCH)
            # An earlier reading gave those back a moment ago: the broker may not count them yet.
            await self._read(max(await self.ready(), self.first))
            if not self._knows_first:
                await self._read_all()
                self.first, self._knows_first = self._came, True
        except BaseException:
            await self._channel.close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Give back all that was read and not taken out."""
        if self._acked:
            await asyncio.sleep(APPLIED)
        await self._channel.close()
        if kind is None and self._count is not None:
            await self._counted(self._count, self._came - self._acked)

    async def _counted(self, count: Count, given_back: int) -> None:
        """Wait until the broker counts what was given back, or the next reading would not see it.

        Where somebody else takes it, that is not waited for to the end.
        """
        with contextlib.suppress(TimeoutError, MqkitError):  # all was read already
            async with asyncio.timeout(COUNTED):
                while await count() < given_back:  # noqa: ASYNC110 - the broker tells nobody
                    await asyncio.sleep(COUNT_AGAIN)

    async def ready(self) -> int:
        """Count the messages that are in the queue and were not read.

        :raises BrokerError: the queue cannot be counted: its leader does not answer
        """
        state = await self._channel.declare_queue(self._queue, passive=True)
        if self._consumers and not state.consumers:
            # It has those of this reading: so this is no count, as `NOT_COUNTED` says.
            raise BrokerError(
                f"RabbitMQ cannot count queue {shown(self._queue)} now: its leader does not answer "
                "in time; try again once the broker has less to do, or the queue a leader"
            )
        return state.messages

    def check(self) -> None:
        """Check that what was read is still held.

        :raises ChannelClosedError: the channel is closed, and the broker gives it to others
        :raises DeadLettersInUseError: the broker cancelled the consumer: the queue was deleted, say
        """
        if self._channel.closed.done():
            raise self._channel.closed.result().error()
        if self._error is not None:
            raise self._error

    def take_out(self, tag: int) -> None:
        """Take a message out of the queue: it is stored elsewhere, or to be dropped."""
        self._channel.ack(tag)
        self._acked += 1

    async def _read_all(self) -> None:
        """Read until the queue has nothing more.

        A quorum queue counts what came back once that is in its log. The consumer is in there by
        now, behind it: so all is counted or on its way. And a channel answers a count before it
        sends what the queue handed to it meanwhile, which comes before the answer after that.
        """
        ready = None
        while ready != 0:
            came = self._came
            ready = await self.ready()
            await self._channel.qos(PREFETCH)
            await self._read(max(came + ready, self._came))

    async def _read(self, count: int) -> None:
        """Read until `count` messages have come; consumers are there for one more, an arrival."""
        while (held := self._consumers * PREFETCH) <= count:
            await self._until(held)
            await self._channel.consume(self._queue, self._on_delivery, self._on_cancel)
            self._consumers += 1
        await self._until(count)

    async def _until(self, count: int) -> None:
        """Wait until so many have come."""
        while self._came < count:
            self.check()
            before = self._came
            self._changed.clear()
            try:
                async with asyncio.timeout(SILENCE):
                    await self._changed.wait()
            except TimeoutError:
                if self._came == before:
                    raise self._incomplete(count) from None
        self.check()

    def _on_delivery(self, incoming: Incoming) -> None:
        self._came += 1
        try:
            self._take(incoming, self._knows_first and self._came > self.first)
        except Exception as error:  # noqa: BLE001 - raised where it is waited for, not in a driver
            self._error = error
        self._changed.set()

    def _on_cancel(self) -> None:
        self._error = DeadLettersInUseError(
            f"queue {shown(self._queue)} is not readable any more: the broker ended its consumer, "
            "as it does when a queue is deleted, or its messages were held for too long"
        )
        self._changed.set()

    def _incomplete(self, count: int) -> DeadLettersInUseError:
        return DeadLettersInUseError(
            f"queue {shown(self._queue)}: of {count} messages that it has, {self._came} came; "
            "somebody else reads or deletes them at the same time"
        )
