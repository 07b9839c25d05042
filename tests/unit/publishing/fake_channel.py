"""A driver's channel for tests of what is written on it, and of what the broker answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from mqkit.drivers.base import Closed, Incoming, Returned
from mqkit.errors import ChannelClosedError
from mqkit.message import HeaderValue, Message, Properties
from mqkit.topology import Exchange, ExchangeType


class FakeChannel:
    """A driver's channel that does what the test says."""

    def __init__(self) -> None:
        self.closed: asyncio.Future[Closed] = asyncio.get_running_loop().create_future()
        self.published: list[Message] = []
        self.on_confirm: Callable[[int, bool, bool], None] = lambda *_: None
        self.on_return: Callable[[Returned], None] = lambda _: None
        self.on_reply: Callable[[Incoming], None] = lambda _: None
        self.on_cancel: Callable[[], None] = lambda: None
        self.asked_for: list[str] = []
        self.declared: list[Exchange] = []
        self.missing: set[str] = set()
        """Exchanges that are not there until they are declared."""
        self.refusals: dict[str, Closed] = {}
        """Why the broker lets nobody declare an exchange, by its name."""
        self.hides = False
        """Whether it lets nobody ask for those either."""
        self.consumed: list[tuple[str, bool]] = []

    @property
    def is_open(self) -> bool:
        return not self.closed.done()

    async def confirm_select(self, on_confirm: Any, on_return: Any) -> None:
        self.on_confirm, self.on_return = on_confirm, on_return

    async def declare_exchange(
        self,
        name: str,
        type_: ExchangeType,
        *,
        passive: bool = False,
        arguments: Mapping[str, Any] | None = None,
        **flags: bool,
    ) -> None:
        await asyncio.sleep(0)
        if passive:
            self.asked_for.append(name)
            if self.hides and name in self.refusals:
                self.fail(self.refusals[name])
            if name in self.missing:
                self.fail(Closed(404, f"NOT_FOUND - no exchange '{name}' in vhost '/'"))
        elif (refusal := self.refusals.get(name)) is not None:
            self.fail(refusal)
        else:
            self.declared.append(Exchange(name, type_, arguments=arguments or {}, **flags))
            self.missing.discard(name)

    async def declare_queue(self, name: str, **_: object) -> None:
        """Take the declaration; queues are not looked at."""

    async def bind_queue(self, *_: object) -> None:
        """Take the binding."""

    async def bind_exchange(self, *_: object) -> None:
        """Take the binding."""

    def fail(self, why: Closed) -> None:
        """Close over a call, as the broker does."""
        self.end(why)
        raise why.error()

    async def consume(self, queue: str, on_delivery: Any, on_cancel: Any, *, no_ack: bool) -> str:
        self.consumed.append((queue, no_ack))
        self.on_reply, self.on_cancel = on_delivery, on_cancel
        return "tag"

    def publish(
        self, message: Message, extra_headers: Mapping[str, HeaderValue] | None = None
    ) -> int:
        if not self.is_open:
            raise ChannelClosedError(0, "gone")
        headers = {**message.properties.headers, **(extra_headers or {})}
        message = replace(message, properties=replace(message.properties, headers=headers))
        self.published.append(message)
        if message.body == b"?":  # a probe
            asyncio.get_running_loop().call_soon(self.on_confirm, len(self.published), False, True)
        return len(self.published)

    async def close(self) -> None:
        self.end(Closed(0, "closed"))

    def end(self, why: Closed) -> None:
        if not self.closed.done():
            self.closed.set_result(why)

    def confirm(self, number: int, *, acked: bool = True) -> None:
        """Confirm the n-th publish."""
        self.on_confirm(number, False, acked)

    def reply(self, number: int, body: bytes) -> None:
        """Reply to the n-th publish."""
        asked = self.published[number - 1].properties.correlation_id
        self.on_reply(Incoming(1, False, "", "", Properties(correlation_id=asked), body))
