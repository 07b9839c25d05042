"""The detour of a move: what stands beside a queue, and how messages are led past it and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mqkit.amqp.arguments import dead_letter_arguments
from mqkit.broker.declare import NOT_FOUND
from mqkit.broker.moving import MOVES, move_names
from mqkit.drivers.base import Acked, DriverChannel, Incoming, OpenChannel, QueueState
from mqkit.errors import ChannelClosedError, TopologyError
from mqkit.message import Message
from mqkit.publishing.confirms import ConfirmChannel
from mqkit.topology import UNLIMITED_DELIVERIES, Queue


@dataclass(frozen=True, slots=True)
class Bound:
    """What a queue is bound to."""

    exchange: str
    routing_key: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


class Scaffold:
    """Puts up a queue's detour, leads messages past the queue and back to it, takes it down."""

    def __init__(self, queue: Queue, sources: Sequence[Bound], open_channel: OpenChannel) -> None:
        """Put up nothing yet.

        :param sources: all that the queue is bound to, or shall be
        """
        self.queue = queue.name
        self.names = move_names(queue.name)
        self._sources = sources
        self._open = open_channel
        # Its time to live goes on running while it is kept.
        self._arguments = {"x-queue-type": "quorum", "x-delivery-limit": UNLIMITED_DELIVERIES}
        if queue.dead_letters:
            self._arguments |= dead_letter_arguments("quorum", queue.dead_queue)

    async def put_up(self) -> bool:
        """Put it up; tell whether it was there before, so that a move goes on that was begun.

        The held queue comes last: where it is, all is.
        """
        await mark(self._open, self.queue)
        if await find(self._open, self.names.held) is not None:
            await self._declare_moved()
            return True
        channel = await self._open()
        names = self.names
        await channel.declare_exchange(names.held, "fanout")
        await channel.declare_exchange(
            names.detour, "fanout", arguments={"alternate-exchange": names.held}
        )
        await self.lead_back(channel)
        for each in self._sources:
            await channel.bind_exchange(
                names.detour, each.exchange, each.routing_key, each.arguments
            )
        await channel.close()
        await self._declare_moved()
        channel = await self._open()
        await channel.declare_queue(names.held, arguments=self._arguments)
        await channel.bind_queue(names.held, names.held, "")
        await channel.close()
        return False

    async def _declare_moved(self) -> None:
        channel = await self._open()
        await channel.declare_queue(self.names.moved, arguments=self._arguments)
        await channel.declare_exchange(self.names.moved, "fanout")
        await channel.bind_queue(self.names.moved, self.names.moved, "")
        await channel.close()

    async def is_emptied(self) -> bool:
        """Tell whether a move that was begun has emptied its queues and declared them anew."""
        channel = await self._open()
        try:
            await channel.declare_exchange(self.names.emptied, "fanout", passive=True)
        except ChannelClosedError as error:
            if error.code != NOT_FOUND:
                raise
            return False
        await channel.close()
        return True

    async def note_emptied(self) -> None:
        """Keep, on the broker, that the queues are emptied and declared anew."""
        channel = await self._open()
        await channel.declare_exchange(self.names.emptied, "fanout")
        await channel.close()

    async def lead_back(self, channel: DriverChannel) -> None:
        """Let messages of the detour reach the queue, from this instant on."""
        await channel.bind_queue(self.queue, self.names.detour, "")

    async def open_way_back(self) -> None:
        """Let what was kept be published to the queue, past the detour."""
        channel = await self._open()
        await channel.declare_exchange(self.names.back, "fanout")
        await channel.bind_queue(self.queue, self.names.back, "")
        await channel.close()

    async def divert(self, channel: DriverChannel) -> None:
        """Let all that comes be held, and nothing reach the queue by an exchange.

        Services bind their queues again at their start and every minute; so this is done again and
        again for as long as nothing may come.
        """
        for each in self._sources:
            await channel.unbind_queue(self.queue, each.exchange, each.routing_key, each.arguments)
        await channel.unbind_queue(self.queue, self.names.detour, "")

    async def bind_directly(self, channel: DriverChannel) -> None:
        """Bind the queue to its exchanges again, beside the detour: nothing comes twice by that."""
        for each in self._sources:
            await channel.bind_queue(self.queue, each.exchange, each.routing_key, each.arguments)

    async def close_detour(self, channel: DriverChannel) -> None:
        """Let nothing come by the detour any more."""
        for each in self._sources:
            await channel.unbind_exchange(
                self.names.detour, each.exchange, each.routing_key, each.arguments
            )

    async def take_down(self, channel: DriverChannel) -> None:
        """Take it away; the held queue last, which says that there is a move."""
        names = self.names
        await channel.delete_exchange(names.emptied)
        await channel.delete_exchange(names.back)
        await channel.delete_exchange(names.detour)
        await channel.delete_exchange(names.moved)
        await channel.delete_queue(names.moved)
        await channel.delete_exchange(names.held)
        await channel.delete_queue(names.held)
        await unmark(self._open, self.queue)


async def mark(open_channel: OpenChannel, queue: str) -> None:
    """Let services know that a queue is moved."""
    channel = await open_channel()
    names = [each.body.decode() for each in await _marks(channel)]
    await channel.close()
    if queue in names:
        return
    confirms = await ConfirmChannel.open(await open_channel())
    verdict = await confirms.write(Message("", MOVES, queue.encode()))
    await confirms.close()
    if not isinstance(verdict, Acked):
        raise TopologyError(f"queue {queue}: the broker did not confirm that its move begins")


async def unmark(open_channel: OpenChannel, queue: str) -> None:
    """Let services know that a queue is moved no more."""
    channel = await open_channel()
    for each in await _marks(channel):
        if each.body == queue.encode():
            channel.ack(each.tag)
    await channel.close()


async def _marks(channel: DriverChannel) -> list[Incoming]:
    found = []
    while (each := await channel.get(MOVES)) is not None:
        found.append(each)
    return found


async def find(open_channel: OpenChannel, queue: str) -> QueueState | None:
    """Return a queue's ready messages and consumers, or None where it is not there.

    :raises ChannelClosedError: the broker refused it otherwise, or the connection was lost
    """
    channel = await open_channel()
    try:
        state = await channel.declare_queue(queue, passive=True)
    except ChannelClosedError as error:
        if error.code != NOT_FOUND:
            raise
        return None
    await channel.close()
    return state
