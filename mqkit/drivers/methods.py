"""What a channel does alike in all drivers: declarations, prefetch, and its list of consumers.

Methods are pika's objects, which both drivers write: the bytes are the same then.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

from pika import amqp_object, spec

from mqkit.clock import monotonic
from mqkit.drivers.base import Closed, DriverChannel, Incoming, QueueState
from mqkit.errors import ChannelClosedError

CLOSING = Closed(0, "it is closing")
"""Why nothing is sent by a channel that is closing, and not closed yet."""


NOT_COUNTED = 0.24
"""Seconds after which 0 messages and 0 consumers may be no count: RabbitMQ answers so of a quorum
queue whose leader has not told it within 0.25 s (`rabbit_quorum_queue:stat`, 4.0 to 4.3)."""

COUNT_TRIES = 5
"""How often such a queue is asked for. A broker that is far away, or slow, answers late itself."""


class MethodChannel(DriverChannel):
    """Declares, binds and keeps a list of consumers, whatever the client library under it."""

    def __init__(
        self, closed: asyncio.Future[Closed], on_delivery: dict[str, Callable[[Incoming], None]]
    ) -> None:
        self._closed = closed
        self._on_delivery = on_delivery
        """By consumer tag; what comes for none of these is nobody's any more."""
        self._on_cancel: dict[str, Callable[[], None]] = {}
        self._consumers = 0

    @property
    def closed(self) -> asyncio.Future[Closed]:
        return self._closed

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
    ) -> None:
        await self._call(
            spec.Exchange.Declare(
                exchange=name,
                type=type,
                passive=passive,
                durable=durable,
                auto_delete=auto_delete,
                internal=internal,
                arguments=dict(arguments or {}),
            ),
            spec.Exchange.DeclareOk,
        )

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
        method = spec.Queue.Declare(
            queue=name,
            passive=passive,
            durable=durable,
            exclusive=exclusive,
            auto_delete=auto_delete,
            arguments=dict(arguments or {}),
        )
        tries = COUNT_TRIES if passive else 1  # what is declared is not counted
        while True:
            began = monotonic()
            ok = await self._call(method, spec.Queue.DeclareOk)
            tries -= 1
            is_counted = ok.message_count or ok.consumer_count or monotonic() - began < NOT_COUNTED
            if is_counted or not tries:
                return QueueState(ok.queue, ok.message_count, ok.consumer_count)

    async def bind_queue(
        self,
        queue: str,
        exchange: str,
        routing_key: str,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        await self._call(
            spec.Queue.Bind(
                queue=queue,
                exchange=exchange,
                routing_key=routing_key,
                arguments=dict(arguments or {}),
            ),
            spec.Queue.BindOk,
        )

    async def bind_exchange(
        self,
        destination: str,
        source: str,
        routing_key: str,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        await self._call(
            spec.Exchange.Bind(
                destination=destination,
                source=source,
                routing_key=routing_key,
                arguments=dict(arguments or {}),
            ),
            spec.Exchange.BindOk,
        )

    async def unbind_queue(
        self,
        queue: str,
        exchange: str,
        routing_key: str,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        await self._call(
            spec.Queue.Unbind(
                queue=queue,
                exchange=exchange,
                routing_key=routing_key,
                arguments=dict(arguments or {}),
            ),
            spec.Queue.UnbindOk,
        )

    async def unbind_exchange(
        self,
        destination: str,
        source: str,
        routing_key: str,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        await self._call(
            spec.Exchange.Unbind(
                destination=destination,
                source=source,
                routing_key=routing_key,
                arguments=dict(arguments or {}),
            ),
            spec.Exchange.UnbindOk,
        )

    async def delete_queue(self, name: str, *, if_empty: bool = False) -> int:
        ok = await self._call(spec.Queue.Delete(queue=name, if_empty=if_empty), spec.Queue.DeleteOk)
        return int(ok.message_count)

    async def delete_exchange(self, name: str) -> None:
        await self._call(spec.Exchange.Delete(exchange=name), spec.Exchange.DeleteOk)

    async def qos(self, prefetch: int) -> None:
        await self._call(spec.Basic.Qos(prefetch_count=prefetch), spec.Basic.QosOk)

    @abstractmethod
    async def _call(self, method: amqp_object.Method, *answers: type[amqp_object.Method]) -> Any:
        """Send a method and return the fields of its answer, which is one of these.

        :raises ChannelClosedError: the channel closes before the answer
        """

    def _add_consumer(
        self, on_delivery: Callable[[Incoming], None], on_cancel: Callable[[], None]
    ) -> str:
        """Keep the callbacks of a consumer under a new consumer tag, and return that.

        The tag is not the broker's, so that a delivery in the same packet as consume-ok finds them.
        """
        self._consumers += 1
        tag = f"mqkit-{self._consumers}"  # consumer tags are of one channel alone
        self._on_delivery[tag], self._on_cancel[tag] = on_delivery, on_cancel
        return tag

    def _remove_consumer(self, tag: str) -> Callable[[], None] | None:
        """Forget a consumer; return its `on_cancel`, if it is not forgotten already."""
        self._on_delivery.pop(tag, None)
        return self._on_cancel.pop(tag, None)

    def _on_broker_cancel(self, tag: str) -> None:
        """Call a consumer's `on_cancel` when the broker cancels it."""
        if (on_cancel := self._remove_consumer(tag)) is not None:
            on_cancel()

    def _closed_error(self) -> ChannelClosedError:
        """Make the error for what is asked of a channel that is not open."""
        return (self._closed.result() if self._closed.done() else CLOSING).error()
