"""Closes the channel of who leaves a queue, so that what it holds goes back in its order."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable

from mqkit.consuming.handover.priorities import PRIORITIES
from mqkit.drivers.base import DriverChannel
from mqkit.errors import BrokerError

logger = logging.getLogger(__name__)

LEAVE_TIMEOUT = 3.0
"""Seconds to wait for the broker's answers before a channel is closed with what it brought."""

FIRST = PRIORITIES
"""The priority of a consumer that goes before those of all processes."""

_FREE_SINCE = (4, 3)
_VERSION = re.compile(r"RabbitMQ (\d+)\.(\d+)")

GiveBack = Callable[[DriverChannel, int], None]


class Leaving:
    """Closes the channels by which one queue is consumed."""

    def __init__(self, queue: str, give_back: GiveBack, *, moves: bool) -> None:
        """Leave nothing yet.

        :param give_back: nacks what is unsettled of a channel, up to a delivery tag
        :param moves: whether consumers of a higher priority get the queue
        """
        self._queue = queue
        self._give_back = give_back
        self._moves = moves

    async def leave(
        self, channel: DriverChannel, server: str, *, prefetch: int, last_tag: Callable[[], int]
    ) -> None:
        """Give back all that came by a channel, in its order, and close that.

        By the close the broker requeues all at once, what is still on its way included. But
        RabbitMQ 4.3.6 keeps a single active consumer that leaves with messages while it makes room
        for one of a higher priority: the queue gives them to nobody else when its turn comes again.
        So it gives them back before it leaves, by a nack, which counts towards no delivery limit
        there; before 4.3 it does, and none is kept.

        :param server: the broker's product and version
        :param prefetch: of the channel's consumer
        :param last_tag: returns the tag of the last delivery that came by it; 0: none
        """
        if self._moves and last_tag() and nacks_are_free(server):
            try:
                async with asyncio.timeout(LEAVE_TIMEOUT):
                    await self._give_back_first(channel, prefetch, last_tag)
            except (BrokerError, TimeoutError) as error:
                logger.debug("%s: left with what is unsettled: %r", self._queue, error)
        await channel.close(in_order=True)

    async def _give_back_first(
        self, channel: DriverChannel, prefetch: int, last_tag: Callable[[], int]
    ) -> None:
        """Nack all that came by a channel, once nothing more comes by it to the consumer.

        A nack alone would be overtaken: what was on its way meanwhile would come to the next one
        before it. So another consumer is put before all others, which makes this one the one that
        makes room: the queue sends it nothing more. The nack is its last, and the place moves on to
        the other one, by the closing of whose channel all of it is requeued in its order.
        """
        await self._consume(channel, FIRST)
        # Answered behind what was on its way to the consumer before.
        await channel.qos(prefetch)
        self._give_back(channel, last_tag())

    async def _consume(self, channel: DriverChannel, priority: int) -> None:
        arguments = {"x-priority": priority}
        await channel.consume(self._queue, lambda _: None, lambda: None, arguments=arguments)


def nacks_are_free(server: str) -> bool:
    """Return whether a nack does not count towards a delivery limit: from RabbitMQ 4.3 on.

    :param server: the broker's product and version
    """
    found = _VERSION.match(server)
    return found is not None and (int(found[1]), int(found[2])) >= _FREE_SINCE
