"""AMQP's methods, plainly: what a case holds, the same over every client library."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable, Mapping
from typing import Any, Literal, Unpack

from tests.conformance.suite.consumer import Consumer, first_of
from tests.conformance.suite.values import (
    Closed,
    Confirm,
    Delivery,
    Properties,
    PropertyFields,
    QueueOk,
    Returned,
)
from tests.conformance.suite.wire.base import Raw, Wire

Verdict = Literal["ack", "nack"]
Arguments = Mapping[str, Any] | None
Declared = list[tuple[Literal["exchange", "queue"], str]]


class WireConnection:
    """A connection of the client library under test."""

    def __init__(self, wire: Wire, declared: Declared) -> None:
        self.wire = wire
        self._declared = declared

    @property
    def closed(self) -> asyncio.Future[Closed]:
        """Done when the connection is closed, however."""
        return self.wire.closed

    @property
    def server_properties(self) -> Mapping[str, Any]:
        """What `connection.start` told of the broker."""
        return self.wire.server_properties

    async def channel(self) -> WireChannel:
        """Open a channel."""
        return WireChannel(await self.wire.raw(), self._declared)

    async def close(self) -> None:
        """Do `connection.close`; nothing where it is closed already."""
        await self.wire.close()


class WireChannel:
    """A channel with AMQP's methods. What the broker sent on its own is kept in lists.

    Every awaited method raises `ChannelClosedError` or `ConnectionClosedError` with the
    broker's code where the broker closed one of them instead of answering.
    """

    def __init__(self, raw: Raw, declared: Declared) -> None:
        loop = asyncio.get_running_loop()
        self.closed: asyncio.Future[Closed] = loop.create_future()
        self.returns: list[Returned] = []
        self.confirms: list[Confirm] = []
        self.consumers: dict[str, Consumer] = {}
        self._raw = raw
        self._declared = declared
        self._confirming = False
        self._published = 0
        self._unconfirmed: dict[int, asyncio.Future[Verdict]] = {}
        self._tags = (f"c{number}" for number in itertools.count(1))
        raw.listener = self

    # --- exchanges and queues

    async def exchange_declare(
        self,
        exchange: str,
        type: str = "direct",  # noqa: A002 - the specification's name
        *,
        passive: bool = False,
        durable: bool = True,
        auto_delete: bool = False,
        internal: bool = False,
        arguments: Arguments = None,
    ) -> None:
        """Do `exchange.declare`."""
        if not passive:
            self._declared.append(("exchange", exchange))
        await self._raw.call(
            "exchange_declare",
            exchange=exchange,
            exchange_type=type,
            passive=passive,
            durable=durable,
            auto_delete=auto_delete,
            internal=internal,
            arguments=dict(arguments or {}),
        )

    async def exchange_delete(self, exchange: str, *, if_unused: bool = False) -> None:
        """Do `exchange.delete`."""
        await self._raw.call("exchange_delete", exchange=exchange, if_unused=if_unused)

    async def exchange_bind(
        self, destination: str, source: str, routing_key: str = "", arguments: Arguments = None
    ) -> None:
        """Do `exchange.bind`."""
        await self._raw.call(
            "exchange_bind",
            destination=destination,
            source=source,
            routing_key=routing_key,
            arguments=dict(arguments or {}),
        )

    async def exchange_unbind(
        self, destination: str, source: str, routing_key: str = "", arguments: Arguments = None
    ) -> None:
        """Do `exchange.unbind`."""
        await self._raw.call(
            "exchange_unbind",
            destination=destination,
            source=source,
            routing_key=routing_key,
            arguments=dict(arguments or {}),
        )

    async def queue_declare(
        self,
        queue: str = "",
        *,
        passive: bool = False,
        durable: bool = True,
        exclusive: bool = False,
        auto_delete: bool = False,
        arguments: Arguments = None,
    ) -> QueueOk:
        """Do `queue.declare`."""
        if not passive and queue:
            self._declared.append(("queue", queue))
        ok = await self._raw.call(
            "queue_declare",
            queue=queue,
            passive=passive,
            durable=durable,
            exclusive=exclusive,
            auto_delete=auto_delete,
            arguments=dict(arguments or {}),
        )
        if not queue:
            self._declared.append(("queue", ok.queue))
        return QueueOk(ok.queue, ok.message_count, ok.consumer_count)

    async def queue_delete(
        self, queue: str, *, if_unused: bool = False, if_empty: bool = False
    ) -> int:
        """Do `queue.delete`; returns how many messages went with it."""
        ok = await self._raw.call(
            "queue_delete", queue=queue, if_unused=if_unused, if_empty=if_empty
        )
        return int(ok.message_count)

    async def queue_bind(
        self, queue: str, exchange: str, routing_key: str = "", arguments: Arguments = None
    ) -> None:
        """Do `queue.bind`."""
        await self._raw.call(
            "queue_bind",
            queue=queue,
            exchange=exchange,
            routing_key=routing_key,
            arguments=dict(arguments or {}),
        )

    async def queue_unbind(
        self, queue: str, exchange: str, routing_key: str = "", arguments: Arguments = None
    ) -> None:
        """Do `queue.unbind`."""
        await self._raw.call(
            "queue_unbind",
            queue=queue,
            exchange=exchange,
            routing_key=routing_key,
            arguments=dict(arguments or {}),
        )

    async def queue_purge(self, queue: str) -> int:
        """Do `queue.purge`; returns how many messages went."""
        return int((await self._raw.call("queue_purge", queue=queue)).message_count)

    # --- publishing

    async def confirm_select(self) -> None:
        """Do `confirm.select`; publishes are counted from here."""
        await self._raw.confirm_select()
        self._confirming = True

    async def publish(
        self,
        exchange: str,
        routing_key: str,
        body: bytes = b"",
        *,
        mandatory: bool = False,
        **properties: Unpack[PropertyFields],
    ) -> None:
        """Send a message, and wait for nothing."""
        await self._publish(exchange, routing_key, body, mandatory, properties)

    async def publish_confirmed(
        self,
        exchange: str,
        routing_key: str,
        body: bytes = b"",
        *,
        mandatory: bool = False,
        **properties: Unpack[PropertyFields],
    ) -> Verdict:
        """Send a message and wait for its confirm; selects confirm mode where it is not yet.

        What the broker returned before the confirm is in `returns`.
        """
        if not self._confirming:
            await self.confirm_select()
        await self._publish(exchange, routing_key, body, mandatory, properties)
        return await self._verdict(self._published)

    async def publish_all(
        self,
        exchange: str,
        routing_key: str,
        bodies: Iterable[bytes],
        **properties: Unpack[PropertyFields],
    ) -> list[Verdict]:
        """Send messages one behind the other, then wait for all of their confirms."""
        if not self._confirming:
            await self.confirm_select()
        first = self._published + 1
        for body in bodies:
            await self._publish(exchange, routing_key, body, False, properties)
        return [await self._verdict(tag) for tag in range(first, self._published + 1)]

    async def _publish(
        self, exchange: str, key: str, body: bytes, mandatory: bool, properties: PropertyFields
    ) -> None:
        if self._confirming:
            self._published += 1
            self._unconfirmed[self._published] = asyncio.get_running_loop().create_future()
        await self._raw.publish(exchange, key, body, Properties(**properties), mandatory)

    async def _verdict(self, tag: int) -> Verdict:
        future = self._unconfirmed[tag]
        await first_of(future, self.closed)
        if not future.done():
            raise self.closed.result().error()
        return future.result()

    # --- receiving

    async def get(self, queue: str, *, no_ack: bool = False) -> Delivery | None:
        """Do `basic.get`; None from an empty queue."""
        return await self._raw.get(queue, no_ack)

    async def drain(self, queue: str) -> list[Delivery]:
        """All that is ready in the queue, taken with `no_ack`."""
        found = []
        while (delivery := await self._raw.get(queue, no_ack=True)) is not None:
            found.append(delivery)
        return found

    async def bodies(self, queue: str) -> list[bytes]:
        """The bodies of all that is ready in the queue, taken with `no_ack`."""
        return [delivery.body for delivery in await self.drain(queue)]

    async def consume(
        self,
        queue: str,
        *,
        no_ack: bool = False,
        exclusive: bool = False,
        tag: str = "",
        arguments: Arguments = None,
    ) -> Consumer:
        """Do `basic.consume`."""
        consumer = Consumer(self, queue, tag or next(self._tags))
        self.consumers[consumer.tag] = consumer
        await self._raw.consume(queue, consumer.tag, no_ack, exclusive, dict(arguments or {}))
        return consumer

    async def cancel(self, tag: str) -> None:
        """Do `basic.cancel`."""
        await self._raw.cancel(tag)

    async def ack(self, tag: int, *, multiple: bool = False) -> None:
        """Send `basic.ack`."""
        await self._raw.send("basic_ack", delivery_tag=tag, multiple=multiple)

    async def nack(self, tag: int, *, multiple: bool = False, requeue: bool = True) -> None:
        """Send `basic.nack`."""
        await self._raw.send("basic_nack", delivery_tag=tag, multiple=multiple, requeue=requeue)

    async def reject(self, tag: int, *, requeue: bool = True) -> None:
        """Send `basic.reject`."""
        await self._raw.send("basic_reject", delivery_tag=tag, requeue=requeue)

    async def recover(self, *, requeue: bool = True) -> None:
        """Do `basic.recover`."""
        await self._raw.call("basic_recover", requeue=requeue)

    async def qos(self, count: int, *, global_: bool = False) -> None:
        """Do `basic.qos`."""
        await self._raw.qos(count, global_)

    # --- the channel itself

    async def flow(self, active: bool) -> None:
        """Do `channel.flow`."""
        await self._raw.call("flow", active=active)

    async def tx_select(self) -> None:
        """Do `tx.select`."""
        await self._raw.call("tx_select")

    async def tx_commit(self) -> None:
        """Do `tx.commit`."""
        await self._raw.call("tx_commit")

    async def tx_rollback(self) -> None:
        """Do `tx.rollback`."""
        await self._raw.call("tx_rollback")

    async def round_trip(self) -> None:
        """Wait until the broker has done all that was sent on this channel, changing nothing."""
        await self.exchange_declare("amq.direct", passive=True)

    async def close(self) -> None:
        """Do `channel.close`; nothing where it is closed already."""
        await self._raw.close()

    # --- what the broker sends on its own; called by the Raw

    def on_delivery(self, delivery: Delivery) -> None:
        """A message came for a consumer."""
        self.consumers[delivery.consumer_tag].deliveries.put_nowait(delivery)

    def on_cancel(self, tag: str) -> None:
        """The broker cancelled a consumer."""
        cancelled = self.consumers[tag].cancelled
        if not cancelled.done():
            cancelled.set_result(None)

    def on_return(self, returned: Returned) -> None:
        """A mandatory message could not be routed."""
        self.returns.append(returned)

    def on_confirm(self, confirm: Confirm) -> None:
        """The broker answered for one message, or for all up to it."""
        self.confirms.append(confirm)
        for tag in range(1, confirm.tag + 1) if confirm.multiple else [confirm.tag]:
            future = self._unconfirmed.get(tag)
            if future is not None and not future.done():
                future.set_result("ack" if confirm.acked else "nack")

    def on_closed(self, closed: Closed) -> None:
        """The channel is closed, or its connection is."""
        if not self.closed.done():
            self.closed.set_result(closed)
