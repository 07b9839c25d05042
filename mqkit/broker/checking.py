"""A channel that declares nothing: what is to be declared is looked for, and must be there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from mqkit.amqp.arguments import EXPIRES
from mqkit.drivers.base import DriverChannel, QueueState


def checking(channel: DriverChannel, own: set[str]) -> DriverChannel:
    """Return the channel with declarations that only look, and bindings that do nothing.

    An exclusive queue, and one that the broker deletes while nobody consumes it, nobody else can
    have declared: these are, and are bound.

    :param own: the names of such queues, of one connection
    """
    return cast(DriverChannel, _CheckingChannel(channel, own))


class _CheckingChannel:
    """Hands on all but declarations and bindings."""

    def __init__(self, channel: DriverChannel, own: set[str]) -> None:
        self._channel = channel
        self._own = own
        # What is called for each message.
        self.publish = channel.publish
        self.ack = channel.ack

    def __getattr__(self, name: str) -> Any:
        return getattr(self._channel, name)

    async def declare_exchange(self, name: str, type: str, **_: Any) -> None:  # noqa: A002 - its name
        await self._channel.declare_exchange(name, type, passive=True)

    async def declare_queue(
        self,
        name: str,
        *,
        durable: bool = True,
        exclusive: bool = False,
        auto_delete: bool = False,
        arguments: Mapping[str, Any] | None = None,
        passive: bool = False,
    ) -> QueueState:
        is_own = exclusive or auto_delete or EXPIRES in (arguments or {})
        if is_own and not passive:
            self._own.add(name)
        return await self._channel.declare_queue(
            name,
            durable=durable,
            exclusive=exclusive,
            auto_delete=auto_delete,
            arguments=arguments,
            passive=passive or not is_own,
        )

    async def bind_queue(
        self,
        queue: str,
        exchange: str,
        routing_key: str,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        if queue in self._own:
            await self._channel.bind_queue(queue, exchange, routing_key, arguments)

    async def bind_exchange(self, *_: Any) -> None:
        """Do nothing."""
