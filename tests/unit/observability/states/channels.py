"""A connection whose broker does as a test says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

from mqkit.broker.connection import Connection
from mqkit.drivers.base import Closed, DriverChannel, Incoming, QueueState
from mqkit.message import Message, Properties


class Channel:
    """Notes what is published, and closes as the broker would."""

    def __init__(self, broker: FakeConnection) -> None:
        self._broker = broker
        self.closed: asyncio.Future[Closed] = asyncio.get_running_loop().create_future()
        self.deliver: Callable[[Incoming], None] | None = None
        self.cancelled: Callable[[], None] | None = None

    @property
    def is_open(self) -> bool:
        """Whether it is open."""
        return not self.closed.done()

    def close_by(self, code: int, text: str = "it says so") -> None:
        """Close it, as the broker does."""
        self.closed.set_result(Closed(code, text))

    async def close(self) -> None:
        """Close it."""
        if self.is_open:
            self.close_by(0)

    async def declare_exchange(self, name: str, type: str, *, passive: bool = False) -> None:  # noqa: A002
        """Refuse it where the test says so."""
        self._broker.declared.append((name, type, passive))
        if (code := self._broker.refuses) is not None:
            self.close_by(code)
            raise self.closed.result().error()

    async def declare_queue(self, name: str, **_: Any) -> QueueState:
        """Name it."""
        return QueueState(name or "amq.gen-1", 0, 0)

    async def bind_queue(self, *_: object) -> None:
        """Do nothing."""

    async def consume(
        self,
        queue: str,
        on_delivery: Callable[[Incoming], None],
        on_cancel: Callable[[], None],
        *,
        no_ack: bool,
    ) -> str:
        """Deliver to it from now on."""
        assert no_ack
        self.deliver, self.cancelled = on_delivery, on_cancel
        return "tag"

    def publish(self, message: Message) -> int:
        """Note it."""
        if not self.is_open:
            raise self.closed.result().error()
        self._broker.published.append(message)
        return 1


class FakeConnection:
    """What is used of a connection."""

    server = "RabbitMQ 4.3.6"

    def __init__(self) -> None:
        self.blocked: str | None = None
        self.refuses: int | None = None
        self.declared: list[tuple[str, str, bool]] = []
        self.published: list[Message] = []
        self.channels: list[Channel] = []

    async def channel(self) -> DriverChannel:
        """Open a channel."""
        self.channels.append(Channel(self))
        return cast(DriverChannel, self.channels[-1])

    @property
    def as_connection(self) -> Connection:
        """Itself, as what it stands for."""
        return cast(Connection, self)


def incoming(body: bytes) -> Incoming:
    """A message as it comes."""
    return Incoming(1, False, "mqkit.states.v1", "", Properties(), body)
