"""What moves are done with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from mqkit.drivers.base import Incoming, OpenChannel
from mqkit.errors import InvalidMessageError
from mqkit.management import ManagementApi
from mqkit.message import Message
from mqkit.registration.handler import Handler
from mqkit.topology import Queue


class Messages(Protocol):
    """Makes the messages that are moved: consuming knows how, which is beside this package."""

    def copy(self, incoming: Incoming, queue: Queue, exchange: str, routing_key: str) -> Message:
        """Make the message that takes the place of one of a queue's."""
        ...

    def fit(self, message: Message, error: InvalidMessageError) -> Message:
        """Return a message with less in it, after it could not be written."""
        ...

    async def partition(self, incoming: Incoming, handler: Handler) -> str | None:
        """Return the partition of a message; None where it has no key."""
        ...


@dataclass(frozen=True, slots=True)
class Tools:
    """A connection, the management API where there is one, and how a person is told."""

    open_channel: OpenChannel
    api: ManagementApi | None
    messages: Messages
    tell: Callable[[str], None]
    wait: float
    """Seconds to wait for services to let go of a queue."""
