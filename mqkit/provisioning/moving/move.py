"""Moves the messages of one queue aside, declares it anew, and moves them back."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from mqkit.broker.declare import ACCESS_REFUSED
from mqkit.broker.delays import bind, entry
from mqkit.drivers.base import DriverChannel, Incoming
from mqkit.errors import ChannelClosedError, TopologyError
from mqkit.message import Message
from mqkit.provisioning.look import PRECONDITION_FAILED, declare_as
from mqkit.provisioning.moving.quiet import Quiet
from mqkit.provisioning.moving.scaffold import Bound, Scaffold, find
from mqkit.provisioning.moving.shovel import TOP_PRIORITY, Make, Shovel, quietly_closed
from mqkit.provisioning.moving.splitters import old_splitters
from mqkit.provisioning.moving.tools import Tools
from mqkit.registration.handler import Handler
from mqkit.topology import Queue

LOOK = 0.1
"""Seconds between two looks."""

IN_FLIGHT = 1.0
"""Seconds that what an exchange has routed may take to its queue."""

SWAPS = 50
"""Attempts to declare a queue before a running service has declared it as it was."""


@dataclass(frozen=True, slots=True)
class Moved:
    """A queue that is moved: how it is wanted, and what there is of it."""

    queue: Queue
    sources: tuple[Bound, ...]
    handler: Handler | None = None
    """The one that keeps an order of its messages, where there is one with partitions."""
    old: tuple[str, ...] = ()
    """The partitions that the broker has."""
    redeclared: tuple[Queue, ...] = ()
    """Of the queue and its partitions, those that are on the broker otherwise."""
    classic: frozenset[str] = frozenset()
    """Those of them that are classic on the broker, as far as that is known."""

    @property
    def partitions(self) -> tuple[Queue, ...]:
        return self.queue.partition_queues()


class Move:
    """Moves one queue; where it was begun before, it goes on."""

    def __init__(self, moved: Moved, tools: Tools) -> None:
        self._it = moved
        self._queue = moved.queue
        self._tools = tools
        self._open = tools.open_channel
        self._scaffold = Scaffold(moved.queue, moved.sources, tools.open_channel)
        self._tell = tools.tell
        self._told = ""

    async def run(self) -> None:
        """Do all of it.

        :raises TopologyError: the broker refused something, or a service did not let go in time
        :raises ChannelClosedError: the connection was lost; run it again
        """
        name = self._queue.name
        if await self._scaffold.put_up():
            self._tell(f"{name}: going on with a move that was begun")
        else:
            self._tell(f"{name}: what is published is held from here on")
        if not await self._is_emptied():
            await self._empty_and_swap()
            await self._scaffold.note_emptied()
        await self._declare_partitions()
        await self._return()
        await self._take_down()
        self._tell(f"{name}: moved")

    async def _is_emptied(self) -> bool:
        """Tell whether a move that was killed had come so far."""
        if await self._scaffold.is_emptied():
            return True
        # Between its deletion and its declaration, or right after: a move begins with another one.
        return not self._it.old and await self._declare(self._queue)

    async def _empty_and_swap(self) -> None:
        for _ in range(SWAPS):
            await self._empty()
            if all([await self._swap(queue) for queue in self._it.redeclared]):
                return

    # --- until nobody has anything of it -------------------------------------------------------

    async def _empty(self) -> None:
        for each in self._it.old:
            await self._empty_orphan(each)
        names = (self._queue.name, *self._it.old)
        quiet = Quiet(self._open, self._tools.api)
        shovel = await self._shovel(self._queue.name, self._aside)
        channel = await self._open()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._tools.wait
        seen = 0
        try:
            while True:
                await self._scaffold.divert(channel)
                await asyncio.sleep(LOOK)
                shovel.check()
                if shovel.in_hand or shovel.moved != seen:
                    seen = shovel.moved
                    quiet.disturb()
                    deadline = loop.time() + self._tools.wait
                    continue
                own = (self._queue.name,)
                waits = await quiet.look(names, own) or await self._old_services()
                if not waits:
                    break
                self._waiting(waits)
                if loop.time() > deadline:
                    raise TopologyError(
                        f"queue {self._queue.name}: waited {self._tools.wait:g} s for {waits}; "
                        "what is published is held meanwhile; see to that, and run it again"
                    )
        finally:
            await quietly_closed(shovel)
        await channel.close()
        if shovel.moved:
            self._tell(f"{self._queue.name}: {shovel.moved} messages moved aside")

    async def _empty_orphan(self, name: str) -> None:
        """Move aside what is in a partition that nobody consumes, before what is in the queue.

        Its messages are older than those of their keys that are in the queue.
        """
        state = await find(self._open, name)
        if state is None or state.consumers or not state.messages:
            return
        shovel = await self._shovel(name, self._aside)
        await self._until_empty(shovel, late=0.0)
        self._tell(f"{name}: {shovel.moved} messages moved aside")

    async def _shovel(self, name: str, make: Make) -> Shovel:
        """Begin to move out of a queue: alone, if nobody else consumes it."""
        for exclusive in (True, False):
            shovel = Shovel(
                name,
                self._open,
                make,
                self._tools.messages.fit,
                exclusive=exclusive,
            )
            try:
                await shovel.start()
            except ChannelClosedError as error:
                await quietly_closed(shovel)
                if not exclusive or error.code != ACCESS_REFUSED:
                    raise
            else:
                return shovel
        raise AssertionError("the last attempt returns or raises")

    async def _aside(self, incoming: Incoming) -> Message:
        return self._copy(incoming, self._scaffold.names.moved, "")

    def _copy(self, incoming: Incoming, exchange: str, routing_key: str) -> Message:
        return self._tools.messages.copy(incoming, self._queue, exchange, routing_key)

    async def _old_services(self) -> str:
        """Say who still splits messages over the partitions that there were; '' for nobody."""
        if not self._it.old:
            return ""
        return await old_splitters(self._tools.api, self._queue)

    def _waiting(self, what: str) -> None:
        if what not in (self._told, "a second look"):
            self._told = what
            self._tell(f"{self._queue.name}: waiting for {what}")

    # --- declared anew -------------------------------------------------------------------------

    async def _swap(self, queue: Queue) -> bool:
        """Delete a queue that is empty, and declare it as it is wanted; False: it is not empty.

        A service that runs with the former declaration declares it again as soon as it is told that
        its queue is gone. It has more to say before that than is said here; where it was quicker
        all the same, what it has declared is deleted again.
        """
        for _ in range(SWAPS):
            channel = await self._open()
            await self._scaffold.divert(channel)
            try:
                # Quorum queues do not know it, and would close the connection.
                lost = await channel.delete_queue(
                    queue.name, if_empty=queue.name in self._it.classic
                )
                await declare_as(channel, queue)
            except ChannelClosedError as error:
                if error.code != PRECONDITION_FAILED:
                    raise
                if "not empty" in error.text:
                    return False
                continue
            await channel.close()
            if lost:
                self._tell(
                    f"{queue.name}: {lost} messages came straight to it in the instant in which it "
                    "was deleted, and are gone unless they are held as well"
                )
            self._tell(f"{queue.name}: declared anew")
            return True
        raise TopologyError(
            f"queue {queue.name}: a service declares it as it was, each time that it is deleted; "
            "stop that service, and run it again"
        )

    async def _declare(self, queue: Queue) -> bool:
        channel = await self._open()
        try:
            await declare_as(channel, queue)
        except ChannelClosedError as error:
            if error.code != PRECONDITION_FAILED:
                raise
            return False
        await channel.close()
        return True

    async def _declare_partitions(self) -> None:
        channel = await self._open()
        for each in self._it.partitions:
            await declare_as(channel, each)
            await bind(channel, each.name)
        await channel.close()

    # --- back again ----------------------------------------------------------------------------

    async def _return(self) -> None:
        """Move back what was kept, and let what comes after it follow.

        With partitions each message goes to that of its key. Meanwhile nobody splits what is in the
        queue: this has its single active consumer, so that nothing passes what is held yet.
        """
        names = self._scaffold.names
        make = self._to_partition if self._it.partitions else self._back
        barrier = await self._barrier() if self._it.partitions else None
        await self._scaffold.open_way_back()
        await self._until_empty(await self._shovel(names.moved, make), late=0.0)
        shovel = await self._shovel(names.held, make)
        try:
            await self._until_nearly_idle(shovel)
            channel = await self._open()
            await self._scaffold.lead_back(channel)
            await self._scaffold.bind_directly(channel)
            await channel.close()
            await self._until_empty(shovel)
        finally:
            await quietly_closed(shovel)
        self._tell(f"{self._queue.name}: {shovel.moved} messages that were held are back")
        if barrier is not None:
            await barrier.close(in_order=True)

    async def _back(self, incoming: Incoming) -> Message:
        if self._queue.keeps_dead_letters:
            return self._copy(incoming, "", self._queue.name)
        return self._copy(incoming, self._scaffold.names.back, "")

    async def _to_partition(self, incoming: Incoming) -> Message:
        assert self._it.handler is not None, "a queue with partitions has one"
        name = await self._tools.messages.partition(incoming, self._it.handler)
        if name is None:  # it is dead-lettered where the messages are split
            return await self._back(incoming)
        return self._copy(incoming, *entry(0.0, name))

    async def _barrier(self) -> DriverChannel:
        """Become the single active consumer of the queue, and acknowledge nothing."""
        if self._queue.type == "classic":
            await self._until_unconsumed()
        channel = await self._open()
        await channel.qos(1)
        await channel.consume(
            self._queue.name,
            lambda _: None,
            lambda: None,
            arguments={"x-priority": TOP_PRIORITY},
        )
        return channel

    async def _until_unconsumed(self) -> None:
        """Wait until nobody consumes a classic queue, which has no regard for priorities."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._tools.wait
        while (state := await find(self._open, self._queue.name)) and state.consumers:
            self._waiting(f"{state.consumers} consumers of a classic queue: stop the service")
            if loop.time() > deadline:
                raise TopologyError(
                    f"queue {self._queue.name}: it is consumed yet; stop the service, and run it "
                    "again"
                )
            await asyncio.sleep(LOOK)

    async def _until_nearly_idle(self, shovel: Shovel) -> None:
        """Wait until a shovel has caught up with what comes, or cannot: so little is out of place.

        What is led to the queue again is there before the last of what was held.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + CATCH_UP
        while loop.time() < until:
            await asyncio.sleep(0.01)
            shovel.check()
            state = await find(self._open, shovel.queue)
            if state is None or (state.messages + shovel.in_hand) < NEARLY:
                return

    async def _until_empty(self, shovel: Shovel, *, late: float = IN_FLIGHT) -> None:
        """Wait until a queue that nothing comes to is empty, and stop its shovel."""
        try:
            quiet = Quiet(self._open, None)
            loop = asyncio.get_running_loop()
            began = loop.time()
            while True:
                await asyncio.sleep(LOOK)
                shovel.check()
                if shovel.in_hand or loop.time() - max(began, shovel.last) < late:
                    quiet.disturb()
                elif not await quiet.look((shovel.queue,), (shovel.queue,)):
                    return
        finally:
            await quietly_closed(shovel)

    async def _take_down(self) -> None:
        channel = await self._open()
        await self._scaffold.close_detour(channel)
        await self._scaffold.take_down(channel)
        await channel.close()


NEARLY = 20
"""Messages that are held yet when those that come are led to the queue again."""

CATCH_UP = 30.0
"""Seconds to catch up with what comes."""
