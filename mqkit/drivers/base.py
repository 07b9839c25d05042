"""What mqkit asks of an AMQP client: one connection, its channels, and what the broker may say.

A driver translates; it decides nothing. It does not recover, retry, count or settle: that is
`connection`, `publisher` and `settle`, once for all drivers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from mqkit.message import Message, Properties
from mqkit.settings import BrokerUrl, Host


@dataclass(frozen=True, slots=True)
class Closed:
    """Why a connection or channel closed.

    `code` is the broker's AMQP reply code, 0 where it sent none (the stream was lost, or this
    side closed it); `text` is for a person and holds no secret.
    """

    code: int
    text: str

    @property
    def by_broker(self) -> bool:
        """True if the broker closed it in words, rather than by vanishing."""
        return self.code not in (0, 200)


@dataclass(frozen=True, slots=True)
class QueueState:
    """What `queue.declare-ok` tells: ready messages and consumers."""

    name: str
    messages: int
    consumers: int


@dataclass(frozen=True, slots=True)
class Incoming:
    """A `basic.deliver` or `basic.get-ok` as the broker sent it."""

    tag: int
    redelivered: bool
    exchange: str
    routing_key: str
    properties: Properties
    body: bytes


@dataclass(frozen=True, slots=True)
class Returned:
    """A `basic.return`: the broker could not route a mandatory message."""

    code: int
    text: str
    exchange: str
    routing_key: str
    properties: Properties


class DriverChannel(Protocol):
    """A channel. Once closed it stays closed, and its delivery tags reach nothing.

    The awaitable methods raise `ChannelClosedError` with the broker's code if the channel
    closes before the answer; the plain ones raise it if the channel is closed already.
    """

    @property
    def is_open(self) -> bool: ...

    @property
    def closed(self) -> asyncio.Future[Closed]:
        """Done when the channel is closed, for whatever reason. Do not cancel it."""
        ...

    async def declare_exchange(
        self,
        name: str,
        type: str,  # noqa: A002 - the specification's name
        *,
        durable: bool = True,
        auto_delete: bool = False,
        internal: bool = False,
        arguments: Mapping[str, Any] | None = None,
        passive: bool = False,
    ) -> None: ...

    async def declare_queue(
        self,
        name: str,
        *,
        durable: bool = True,
        exclusive: bool = False,
        auto_delete: bool = False,
        arguments: Mapping[str, Any] | None = None,
        passive: bool = False,
    ) -> QueueState: ...

    async def bind_queue(
        self,
        queue: str,
        exchange: str,
        routing_key: str,
        arguments: Mapping[str, Any] | None = None,
    ) -> None: ...

    async def bind_exchange(
        self,
        destination: str,
        source: str,
        routing_key: str,
        arguments: Mapping[str, Any] | None = None,
    ) -> None: ...

    async def confirm_select(
        self,
        on_confirm: Callable[[int, bool, bool], None],
        on_return: Callable[[Returned], None],
    ) -> None:
        """Confirm mode: `on_confirm(tag, multiple, acked)` for each `basic.ack` or `basic.nack`.

        The broker sends a return before the confirm of the same message.
        """
        ...

    def publish(self, message: Message) -> int:
        """Hand a message to the transport; its number on this channel, counted from 1.

        :raises InvalidMessageError: a header or property cannot be encoded; nothing was written
        """
        ...

    async def qos(self, prefetch: int) -> None: ...

    async def consume(
        self,
        queue: str,
        on_delivery: Callable[[Incoming], None],
        on_cancel: Callable[[], None],
        *,
        exclusive: bool = False,
        arguments: Mapping[str, Any] | None = None,
    ) -> str:
        """Start a consumer and return its tag; `on_cancel` is the broker's own `basic.cancel`."""
        ...

    async def cancel(self, consumer_tag: str) -> None:
        """Stop a consumer. What the broker had sent before still goes to `on_delivery`."""
        ...

    async def get(self, queue: str) -> Incoming | None:
        """One message (`basic.get`), or None from an empty queue; it must be acked or nacked."""
        ...

    def ack(self, tag: int, multiple: bool = False) -> None: ...

    def nack(self, tag: int, *, requeue: bool) -> None: ...

    async def close(self) -> None: ...


class DriverConnection(Protocol):
    """An open connection. It does not recover: once closed it stays closed."""

    @property
    def server(self) -> str:
        """The broker's product and version, for people: 'RabbitMQ 4.0.5'."""
        ...

    @property
    def closed(self) -> asyncio.Future[Closed]:
        """Done when the connection is closed, for whatever reason. Do not cancel it."""
        ...

    async def channel(self) -> DriverChannel: ...

    async def close(self) -> None: ...


class Driver(Protocol):
    """An AMQP client library."""

    @property
    def name(self) -> str: ...

    async def connect(
        self,
        url: BrokerUrl,
        host: Host,
        *,
        name: str,
        on_blocked: Callable[[str | None], None],
    ) -> DriverConnection:
        """Open one connection to one host.

        `on_blocked` gets the broker's reason when it blocks publishers, and None when it stops.

        :raises AuthenticationError: the credentials were refused
        :raises VirtualHostError: the virtual host was refused
        :raises ConnectError: anything else, a timeout (`url.connect_timeout`) included
        """
        ...
