"""A driver around a driver, that tells what is delivered, published, confirmed and settled.

It is what a broker would tell of mqkit, whatever mqkit thinks that it did.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from mqkit.broker.declare import NOT_FOUND
from mqkit.broker.moving import MOVES
from mqkit.drivers.base import Closed, Driver, DriverChannel, DriverConnection, Incoming, Returned
from mqkit.message import HeaderValue, Message, Properties
from mqkit.settings import BrokerUrl, Host
from tests.faults.fuzz.messages import number_of


class Listener(Protocol):
    """Who is told; the numbers are those of messages of the fuzz."""

    def delivered(self, number: int) -> bool:
        """Whether mqkit is to get it; else it stays unsettled, and loops no more."""
        ...

    def confirmed(self, number: int, exchange: str, routing_key: str) -> None: ...

    def acked(self, number: int) -> None: ...

    def nacked(self, number: int) -> None: ...

    def refused(self, number: int) -> None: ...

    def breaks(self, number: int) -> bool:
        """Whether the driver fails to write a copy of this message."""
        ...

    def connected(self) -> None: ...

    def closed(self, what: str) -> None: ...


def number(properties: Properties) -> int | None:
    """The number of the message that has these properties."""
    found: tuple[Any, ...] = (properties.correlation_id, properties.type, properties.app_id)
    return number_of(*found)


class Tap:
    """A driver that tells of what another one does."""

    def __init__(self, driver: Driver, listener: Listener) -> None:
        self._driver = driver
        self._listener = listener

    @property
    def name(self) -> str:
        return self._driver.name

    async def connect(
        self, url: BrokerUrl, host: Host, *, name: str, on_blocked: Callable[[str | None], None]
    ) -> DriverConnection:
        connection = await self._driver.connect(url, host, name=name, on_blocked=on_blocked)
        self._listener.connected()
        return TapConnection(connection, self._listener)


class TapConnection:
    """A connection; all that is not told of is the other's."""

    def __init__(self, connection: DriverConnection, listener: Listener) -> None:
        self._connection = connection
        self._listener = listener
        connection.closed.add_done_callback(self._on_closed)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    @property
    def server(self) -> str:
        return self._connection.server

    @property
    def closed(self) -> asyncio.Future[Closed]:
        return self._connection.closed

    async def channel(self) -> DriverChannel:
        return TapChannel(await self._connection.channel(), self._listener)

    async def close(self) -> None:
        await self._connection.close()

    def _on_closed(self, closed: asyncio.Future[Closed]) -> None:
        if not closed.cancelled() and closed.result().code not in (0, 200):
            self._listener.closed(f"the broker closed the connection: {closed.result().text}")


class TapChannel:
    """A channel; all that is not told of is the other's."""

    def __init__(self, channel: DriverChannel, listener: Listener) -> None:
        self._channel = channel
        self._listener = listener
        self._unsettled: dict[int, int | None] = {}
        self._published: dict[int, Message] = {}
        self._returned: set[int] = set()
        channel.closed.add_done_callback(self._on_closed)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._channel, name)

    async def consume(
        self,
        queue: str,
        on_delivery: Callable[[Incoming], None],
        on_cancel: Callable[[], None],
        **options: Any,
    ) -> str:
        def take(incoming: Incoming) -> None:
            known = number(incoming.properties)
            self._unsettled[incoming.tag] = known
            if known is None or self._listener.delivered(known):
                on_delivery(incoming)

        return await self._channel.consume(queue, take, on_cancel, **options)

    def ack(self, tag: int, multiple: bool = False) -> None:
        self._channel.ack(tag, multiple)
        for known in self._settled(tag, multiple=multiple):
            self._listener.acked(known)

    def nack(self, tag: int, *, requeue: bool, multiple: bool = False) -> None:
        self._channel.nack(tag, requeue=requeue, multiple=multiple)
        for known in self._settled(tag, multiple=multiple):
            self._listener.nacked(known)

    def reject(self, tag: int, *, requeue: bool) -> None:
        self._channel.reject(tag, requeue=requeue)
        for known in self._settled(tag, multiple=False):
            (self._listener.nacked if requeue else self._listener.refused)(known)

    def _settled(self, tag: int, *, multiple: bool) -> list[int]:
        tags = [each for each in self._unsettled if each <= tag] if multiple else [tag]
        found = [self._unsettled.pop(each, None) for each in tags]
        return [each for each in found if each is not None]

    async def confirm_select(
        self,
        on_confirm: Callable[[int, bool, bool], None],
        on_return: Callable[[Returned], None],
    ) -> None:
        def confirm(tag: int, multiple: bool, acked: bool) -> None:
            for each in [n for n in self._published if n == tag or (multiple and n < tag)]:
                message = self._published.pop(each)
                known = number(message.properties)
                if acked and known is not None and each not in self._returned:
                    self._listener.confirmed(known, message.exchange, message.routing_key)
                self._returned.discard(each)
            on_confirm(tag, multiple, acked)

        def give_back(returned: Returned) -> None:
            known = number(returned.properties)
            for each, message in self._published.items():
                if known is not None and number(message.properties) == known:
                    self._returned.add(each)
            on_return(returned)

        await self._channel.confirm_select(confirm, give_back)

    def publish(
        self, message: Message, extra_headers: Mapping[str, HeaderValue] | None = None
    ) -> int:
        known = number(message.properties)
        if known is not None and self._listener.breaks(known):
            raise RuntimeError("the driver fails, as no driver should")
        tag = self._channel.publish(message, extra_headers)
        self._published[tag] = message
        return tag

    def _on_closed(self, closed: asyncio.Future[Closed]) -> None:
        if closed.cancelled() or closed.result().code in (0, 200):
            return
        text = closed.result().text
        # The first service on a virtual host looks for it before it declares it.
        if closed.result().code == NOT_FOUND and MOVES in text:
            return
        self._listener.closed(f"the broker closed a channel: {text}")
