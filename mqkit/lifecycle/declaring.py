"""Declares what a service needs, and says what it consumes."""

from __future__ import annotations

import logging

from mqkit.broker.connection import Connection
from mqkit.broker.declare import CONNECTION_FORCED, declare
from mqkit.broker.delays import check_permissions
from mqkit.errors import ChannelClosedError
from mqkit.registration.handler import Handler
from mqkit.registration.service import Service

logger = logging.getLogger(__name__)


async def declare_needed(service: Service, connection: Connection) -> None:
    """Declare what is needed; once more from the start where the connection is lost meanwhile.

    That is opened again, as at any other time, and what is there already is left as it is.
    """
    while True:
        try:
            await declare(connection.channel, service.topology)
            await check_permissions(connection.channel, consumed(service.handlers[0]))
        except ChannelClosedError as error:
            if error.code not in (0, CONNECTION_FORCED):
                raise
            logger.info("%s: declaring once more: %s", service.name, error)
        else:
            return


def consumed(handler: Handler) -> tuple[str, ...]:
    """Return the names of the queues that a handler consumes."""
    return tuple(each.name for each in handler.queue.with_partitions())
