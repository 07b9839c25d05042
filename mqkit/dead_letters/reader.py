"""Reads a queue without taking anything out of it, and acks what was moved: nobody else here acks.

What is read stays unacknowledged until the channel closes, by which the broker puts it back in its
order. A consumer with a prefetch takes a part of the queue and is cancelled; the next one, on the
same channel, takes the part after that. So the memory that it takes is a part's, and a queue may
have more messages than a prefetch may count (65,535).
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from mqkit.broker.connection import Connection
from mqkit.dead_letters.errors import DeadLettersInUseError
from mqkit.drivers.base import DriverChannel, Incoming
from mqkit.logging.shown import shown

FIRST_PART, LEAST_PART, LARGEST_PART = 200, 20, 2_000
"""Messages that are read at a time: the first time, and at least and at most after that."""

PART_SIZE = 16 * 1024 * 1024
"""Bytes of bodies that are to be in memory together, as far as the part before foretells."""

SILENCE = 5.0
"""Seconds in which a message that the queue has must come."""

APPLIED = 0.5
"""Seconds until a queue has applied acks: RabbitMQ loses some of a channel that closes at once
(https://github.com/rabbitmq/rabbitmq-server/issues/10327)."""


class Reader:
    """Reads one queue from its head, on a channel of its own."""

    def __init__(self, channel: DriverChannel, queue: str) -> None:
        """Read nothing yet."""
        self._channel = channel
        self._queue = queue
        self._acked = False
        self._part = FIRST_PART

    @classmethod
    async def open(cls, connection: Connection, queue: str) -> Self:
        """Open the channel to read on."""
        return cls(await connection.channel(), queue)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Give back all that was read and not acked, in its order."""
        if self._acked:
            await asyncio.sleep(APPLIED)
        await self._channel.close()

    async def ready(self) -> int:
        """Count the messages that are in the queue and were not read."""
        return (await self._channel.declare_queue(self._queue, passive=True)).messages

    async def read(self, most: int) -> list[Incoming]:
        """Read the next messages: so many at most, and a part's at most.

        They are there, or somebody else has taken them.

        :raises DeadLettersInUseError: fewer came
        :raises ChannelClosedError: the broker closed the channel: what was read is back
        """
        wanted = min(most, self._part)
        if wanted <= 0:
            return []
        part: list[Incoming] = []
        changed = asyncio.Event()
        cancelled = False

        def take(incoming: Incoming) -> None:
            part.append(incoming)
            changed.set()

        def cancel() -> None:
            nonlocal cancelled
            cancelled = True
            changed.set()

        await self._channel.qos(wanted)
        tag = await self._channel.consume(self._queue, take, cancel)
        closed = self._channel.closed
        closed.add_done_callback(lambda _: changed.set())
        while len(part) < wanted and not cancelled and not closed.done():
            changed.clear()
            try:
                async with asyncio.timeout(SILENCE):
                    await changed.wait()
            except TimeoutError:
                break
        if not cancelled:
            await self._channel.cancel(tag)
        if len(part) < wanted:
            raise DeadLettersInUseError(
                f"queue {shown(self._queue)}: of {wanted} messages that it has, {len(part)} came; "
                "somebody else reads or deletes them at the same time"
            )
        size = sum(len(each.body) for each in part) // wanted or 1
        self._part = min(max(PART_SIZE // size, LEAST_PART), LARGEST_PART)
        return part

    def check(self) -> None:
        """Check that what was read is still held.

        :raises ChannelClosedError: the channel is closed, and the broker gives it to others
        """
        if not self._channel.is_open:
            raise self._channel.closed.result().error()

    def take_out(self, tag: int) -> None:
        """Take a message out of the queue: it is stored elsewhere, or to be dropped."""
        self._channel.ack(tag)
        self._acked = True
