"""Gives back what is held by who leaves a queue, so that the next one gets it in its order."""

from __future__ import annotations

import re
from collections.abc import Callable

from mqkit.consuming.handover.priorities import PRIORITIES
from mqkit.drivers.base import DriverChannel

FIRST, LAST = PRIORITIES, -1
"""The priorities of consumers that go before, and behind, those of all processes."""

_FREE_SINCE = (4, 3)
_VERSION = re.compile(r"RabbitMQ (\d+)\.(\d+)")

GiveBack = Callable[[DriverChannel, int], None]


class Leaving:
    """Gives back what came by the channels by which one queue is consumed."""

    def __init__(self, queue: str, give_back: GiveBack, *, moves: bool) -> None:
        """Leave nothing yet.

        :param give_back: nacks what is unsettled of a channel, up to a delivery tag
        :param moves: whether consumers of a higher priority get the queue
        """
        self._queue = queue
        self._give_back = give_back
        self._moves = moves

    async def give_back(
        self, channel: DriverChannel, server: str, *, prefetch: int, last_tag: Callable[[], int]
    ) -> None:
        """Nack all that came by a channel, before it is closed, where RabbitMQ asks for it.

        By the close the broker requeues all at once, what is still on its way included. But
        RabbitMQ 4.3.6 keeps a single active consumer that leaves with messages while it makes room
        for one of a higher priority: the queue gives them to nobody else when its turn comes again.
        So it gives them back before it leaves, by a nack, which counts towards no delivery limit
        there; before 4.3 it does, and none is kept.

        A nack alone would be overtaken: what was on its way meanwhile would come to the next one
        before it. So another consumer is put before all others, which makes this one the one that
        makes room: the queue sends it nothing more. The nack is its last, and the place moves on to
        the other one, by the closing of whose channel all of it is requeued in its order.

        :param server: the broker's product and version
        :param prefetch: of the channel's consumer; 0: it has none
        :param last_tag: returns the tag of the last delivery that came by it; 0: none
        :raises BrokerError: the channel is closed
        """
        if not self._moves or not nacks_are_free(server) or not prefetch:
            return
        if not last_tag():
            await self._wait_for_what_is_on_its_way(channel, prefetch)
            if not last_tag():
                return  # it may be another process that has the queue
        await self._consume(channel, FIRST)
        await self._wait_for_what_is_on_its_way(channel, prefetch)
        self._give_back(channel, last_tag())

    async def _wait_for_what_is_on_its_way(self, channel: DriverChannel, prefetch: int) -> None:
        """Wait until what the queue has sent by now has come.

        A queue carries out commands in groups, and answers them before it sends what they let it
        send; so to the answer of the one before this, some may be missing. One more command is
        answered after all of that, and `qos` by the channel after it has passed all on. The
        consumer that it begins has the lowest priority, and nobody has asked for less.
        """
        await self._consume(channel, LAST)
        await channel.qos(prefetch)

    async def _consume(self, channel: DriverChannel, priority: int) -> None:
        arguments = {"x-priority": priority}
        await channel.consume(self._queue, lambda _: None, lambda: None, arguments=arguments)


def nacks_are_free(server: str) -> bool:
    """Return whether a nack does not count towards a delivery limit: from RabbitMQ 4.3 on.

    :param server: the broker's product and version
    """
    found = _VERSION.match(server)
    return found is not None and (int(found[1]), int(found[2])) >= _FREE_SINCE
