"""Binds the queues of a service again every minute, since AMQP does not tell of a lost binding.

Who deletes an exchange and puts it back leaves every queue unbound, and its consumer consuming
nothing. To bind what is bound changes nothing on the broker.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Mapping, Sequence

from mqkit.broker.declare import declare
from mqkit.broker.delays import bind, bound_channel
from mqkit.broker.moving import held_queues
from mqkit.drivers.base import OpenChannel
from mqkit.errors import BrokerError, ChannelClosedError, TopologyError
from mqkit.registration.handler import Handler

logger = logging.getLogger(__name__)

EVERY = 60.0
"""Seconds between two rounds, give or take a quarter, so that services spread out."""


class Upkeep:
    """Keeps the queues of some handlers bound, to their exchanges and to the delay ladder."""

    def __init__(self, handlers: Sequence[Handler], open_channel: OpenChannel) -> None:
        """Bind nothing yet.

        :param open_channel: of the connection that consumes: an exclusive queue is that one's alone
        """
        self._handlers = handlers
        self._open_channel = open_channel
        self._problems: dict[str, str] = {}

    @property
    def problems(self) -> Mapping[str, str]:
        """Why a queue could not be bound again, by the queue's name."""
        return self._problems

    async def run(self) -> None:
        """Bind again, round by round, until cancelled."""
        while True:
            await asyncio.sleep(EVERY * random.uniform(0.75, 1.25))
            for handler in self._handlers:
                try:
                    await self._look_after(handler)
                except TopologyError as error:
                    self._note(handler, str(error))
                except BrokerError as error:
                    # The connection is gone: whoever consumes binds anew on the next one.
                    logger.debug(
                        "%s: not bound again, for the connection is gone: %s",
                        handler.queue.name,
                        error,
                    )
                else:
                    self._problems.pop(handler.queue.name, None)

    def _note(self, handler: Handler, problem: str) -> None:
        if self._problems.get(handler.queue.name) != problem:
            logger.error("%s: it may get no messages: %s", handler.queue.name, problem)
        self._problems[handler.queue.name] = problem

    async def _look_after(self, handler: Handler) -> None:
        queues = [each.name for each in handler.queue.with_partitions()]
        # One that is being moved gets its bindings back when it is.
        held = await held_queues(self._open_channel, queues)
        channel = await self._open_channel()
        try:
            for binding in handler.topology().bindings:
                if binding.queue in held:
                    continue
                source = binding.source
                await channel.bind_queue(
                    binding.queue, source.exchange.name, source.routing_key, source.arguments
                )
            for queue in queues:
                if queue not in held:
                    await bind(channel, queue)
        except ChannelClosedError as error:
            if not error.code:
                raise
            # An exchange is missing, or a queue; the one error says what cannot be put back.
            await declare(self._open_channel, handler.topology())
            channel = await bound_channel(self._open_channel, queues)
            logger.warning(
                "%s: declared and bound again, for something was missing: %s",
                handler.queue.name,
                error.text,
            )
        await channel.close()
