"""When a publisher may be used: on one event loop, and until it is closed."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, Self, TypedDict

from mqkit import drivers
from mqkit.broker.connection import Connection
from mqkit.broker.lazy import LazyConnection
from mqkit.checks import checked
from mqkit.checks.checked import Seconds
from mqkit.clock import Clock
from mqkit.drivers.base import Driver
from mqkit.errors import ConfigurationError, PublisherClosedError
from mqkit.hooks.tracing import MessageTracing
from mqkit.limits import Limits
from mqkit.message import Message
from mqkit.publishing.exchanges import ExchangeCheck
from mqkit.publishing.pipeline import OnConfirmed, OnEnded
from mqkit.publishing.verdicts import publish_error
from mqkit.settings import BrokerUrl
from mqkit.system.machine import Machine

DEFAULT_NAME = "mqkit.publisher"
"""What the connection is called in the broker's list, where nobody says."""

CLOSE_TIMEOUT = 3.0
"""Seconds that `close` waits for what is in flight."""


class Options(TypedDict, total=False):
    """The options of a publisher, whoever opens its connection; see `Publisher`."""

    app_id: str | None
    timeout: Seconds
    window: int
    limits: Limits
    on_confirmed: OnConfirmed | None
    on_ended: OnEnded | None
    """Is told how each publish ended; not for a publisher with a URL."""
    check_exchange: ExchangeCheck | None
    """Refuses an `Exchange` that may not be published to; not for a publisher with a URL."""
    tracing: MessageTracing | None
    clock: Clock
    """Gives messages their timestamp, and says when what is published later is due."""
    machine: Machine
    """Gives the random bytes of message ids."""


class Lifetime:
    """Knows whether a publisher is open, and the event loop that it belongs to."""

    def __init__(self, connection: Connection, own: LazyConnection | None, about: str) -> None:
        """Belong to no loop yet.

        :param own: what is opened and closed with the publisher; None if that is not its own
        :param about: which publisher it is, for a person
        """
        self.connection = connection
        self.about = about
        self._own = own
        self.usable_on: asyncio.AbstractEventLoop | None = None
        """The event loop on which `check` refuses nothing, so that it need not be called there."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_closed = False

    @classmethod
    def with_url(
        cls, url: str | BrokerUrl, name: str | None, driver: Driver | str | None, app_id: str | None
    ) -> Self:
        """Make the life of a publisher that has a connection of its own; it is not opened yet.

        :raises BrokerUrlError: the URL is malformed
        :raises ConfigurationError: the name or the driver is none
        """
        broker = url if isinstance(url, BrokerUrl) else BrokerUrl.parse(url)
        if name is not None:
            checked.name(name, "Publisher(name=...)")
        name = name or app_id or DEFAULT_NAME
        own = LazyConnection(broker, name=name, driver=drivers.given(driver, "Publisher"))
        return cls(own, own, f"{str(broker)!r}, name={name!r}")

    @classmethod
    def with_connection(cls, connection: Connection) -> Self:
        """Make the life of a publisher whose connection somebody else opens and closes."""
        return cls(connection, None, f"on connection {connection.name!r}")

    def check(self, message: Message) -> None:
        """Refuse to publish a message, unless it is open and used on its own event loop.

        :raises PublisherClosedError: it is closed
        :raises ConfigurationError: it is used on another event loop
        """
        self._check_loop()
        if self._is_closed:
            raise publish_error(PublisherClosedError, message, "the publisher is closed")
        self.usable_on = self._loop

    async def open(self, seconds: float) -> None:
        """Connect within so many seconds; raises as `Publisher.open`."""
        self._check_loop()
        if self._own is None:
            raise ConfigurationError(
                f"the publisher {self.about} is a service's own, which opens it and closes it"
            )
        if self._is_closed:
            raise ConfigurationError(
                "this Publisher was closed, and is not opened again; make another one: "
                "Publisher(url)"
            )
        await self._own.open(seconds)

    def end(self) -> None:
        """Let nothing more begin.

        :raises ConfigurationError: it is used on another event loop
        """
        self._check_loop()
        self._is_closed = True
        self.usable_on = None

    async def disconnect(self) -> None:
        """Close the connection, where it is the publisher's own."""
        if self._own is not None:
            await self._own.close()

    def _check_loop(self) -> None:
        running = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = running
        elif self._loop is not running:
            raise ConfigurationError(
                f"the publisher {self.about} belongs to the event loop that it was first used on, "
                "and is used on another one: make a Publisher for each loop, or use a "
                "BlockingPublisher, which takes calls from any thread"
            )


async def wait_for_all(endings: Iterable[Coroutine[Any, Any, None]], seconds: float) -> None:
    """Wait until all of them have ended, or so many seconds have passed."""
    tasks = [asyncio.ensure_future(ending) for ending in endings]
    try:
        await asyncio.wait(tasks, timeout=seconds)
    finally:
        for task in tasks:
            task.cancel()
