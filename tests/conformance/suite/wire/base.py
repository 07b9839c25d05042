"""What a client library brings to the suite: a `Wire` (a connection) and a `Raw` (a channel)."""

from __future__ import annotations

import abc
import asyncio
from collections.abc import Mapping
from typing import Any, Protocol

from tests.conformance.suite.values import Closed, Confirm, Delivery, Properties, Returned


class Listener(Protocol):
    """What the broker sends on its own, on one channel."""

    def on_delivery(self, delivery: Delivery) -> None:
        """A message came for a consumer."""

    def on_cancel(self, tag: str) -> None:
        """The broker cancelled a consumer."""

    def on_return(self, returned: Returned) -> None:
        """A mandatory message could not be routed."""

    def on_confirm(self, confirm: Confirm) -> None:
        """The broker answered for one message, or for all up to it."""

    def on_closed(self, closed: Closed) -> None:
        """The channel is closed, or its connection is."""


class Raw(abc.ABC):
    """One channel of a client library. What the broker sends on its own goes to `listener`.

    Every method raises `ClosedError` with the broker's code where the channel is closed.
    """

    listener: Listener

    @abc.abstractmethod
    async def call(self, method: str, **fields: Any) -> Any:
        """Send a method (`queue_declare`) and return its answer, with AMQP's field names."""

    @abc.abstractmethod
    async def send(self, method: str, **fields: Any) -> None:
        """Send a method that has no answer (`basic_ack`)."""

    @abc.abstractmethod
    async def publish(
        self, exchange: str, routing_key: str, body: bytes, properties: Properties, mandatory: bool
    ) -> None:
        """Send `basic.publish` with its content."""

    @abc.abstractmethod
    async def get(self, queue: str, no_ack: bool) -> Delivery | None:
        """Do `basic.get`."""

    @abc.abstractmethod
    async def consume(
        self, queue: str, tag: str, no_ack: bool, exclusive: bool, arguments: dict[str, Any]
    ) -> None:
        """Do `basic.consume`."""

    @abc.abstractmethod
    async def cancel(self, tag: str) -> None:
        """Do `basic.cancel`; what arrives before its answer still goes to the listener."""

    @abc.abstractmethod
    async def qos(self, count: int, global_: bool) -> None:
        """Do `basic.qos`."""

    @abc.abstractmethod
    async def confirm_select(self) -> None:
        """Do `confirm.select`."""

    @abc.abstractmethod
    async def close(self) -> None:
        """Do `channel.close`; nothing where it is closed already."""


class Wire(abc.ABC):
    """One connection of a client library; `closed` is done when it is closed, however."""

    closed: asyncio.Future[Closed]
    server_properties: Mapping[str, Any]

    @abc.abstractmethod
    async def raw(self) -> Raw:
        """Open a channel; its `listener` is set before anything else is done with it."""

    @abc.abstractmethod
    async def close(self) -> None:
        """Close the connection; nothing where it is closed already."""
