"""Consumes the queue of one handler: attaches, runs each delivery to its end, comes back.

The hot path is `_handle`: a delivery is dispatched to an outcome, and the outcome is settled.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    retry_if_not_exception_type,
    wait_random_exponential,
)

from mqkit.connection import Connection
from mqkit.declare import declare
from mqkit.delay import bind
from mqkit.dispatch import Dispatcher
from mqkit.drivers.base import DriverChannel, Incoming
from mqkit.effects import EffectStore
from mqkit.errors import BrokerError, ChannelClosedError, ConnectError
from mqkit.message import Delivery, attempt_number, first_published_to
from mqkit.service import Handler
from mqkit.settle import Settler

logger = logging.getLogger(__name__)

CAUTIOUS_PREFETCH = 1
"""Messages held at a time until the head of the queue is known to be harmless.

A worker that dies returns all that it had prefetched, and each counts as one more delivery. With
a full prefetch, the neighbours of a message that kills its worker would reach the delivery
limit together with it. What was returned stands at the head of the queue, so a worker that takes
it one by one loses none but the poison.
"""

DELIVERY_COUNT = "x-delivery-count"
"""Set by quorum queues on what was delivered before
(https://www.rabbitmq.com/docs/quorum-queues#poison-message-handling)."""

ATTACH_WAIT_MAX = 3.0
"""Seconds; no wait between two attempts to start consuming is longer."""

CANCEL_TIMEOUT = 3.0
"""Seconds to wait for the broker's cancel-ok when the service stops."""


class Consumer:
    """The consumer of one handler, on a channel of its own that is replaced when it dies.

    A delivery belongs to the channel that it came by. When that closes, what has not started
    is dropped (the broker redelivers it), and what runs ends as `Lost`.
    """

    def __init__(
        self,
        connection: Connection,
        handler: Handler,
        dispatcher: Dispatcher,
        settler: Settler,
        *,
        declared_on: int = 0,
        store: EffectStore | None = None,
    ) -> None:
        """Consume nothing yet.

        :param declared_on: the generation of the connection on which the handler's queues were
            declared just now, so that the first attempt to consume need not do it again
        """
        self.handler = handler
        self._connection = connection
        self._declared_on = declared_on
        self._dispatch = dispatcher.dispatch
        self._settler = settler
        self._settle = settler.settle
        self._store = store
        self._slots = asyncio.Semaphore(handler.concurrency)
        self._channel: DriverChannel | None = None
        self._tag: str | None = None
        self._stopping = False
        self._cancelled = False
        self._unstarted: list[Delivery] = []
        self._cautious = False
        self._widening: asyncio.Task[None] | None = None
        self._tasks: dict[asyncio.Task[None], Delivery] = {}
        self._latest: dict[str, asyncio.Task[None]] = {}
        self._started: set[Delivery] = set()

    @property
    def in_flight(self) -> int:
        """Deliveries whose handler runs, or whose outcome is being settled."""
        return len(self._started)

    async def run(self) -> None:
        """Consume until cancelled or stopped; attaches again whenever its channel closes."""
        while not self._stopping:
            channel = await self._attach()
            if channel is None:  # stopping
                return
            why = await asyncio.shield(channel.closed)
            self._channel = None
            self._cancel_lost()
            if not self._stopping:
                logger.warning("%s: stopped consuming: %s", self.handler.queue.name, why.text)

    def _cancel_lost(self) -> None:
        """Cancel the runs whose message somebody else will get, where the handler asked for it."""
        if self.handler.cancel_when_lost:
            for task, delivery in self._tasks.items():
                if delivery.lost and not delivery.settled:
                    task.cancel()

    async def declare(self) -> None:
        """Put the handler's exchanges, queues and bindings on the broker.

        :raises TopologyError: the broker refused something
        """
        await declare(self._connection.channel, self.handler.topology())

    async def stop(self) -> None:
        """Take no more deliveries, and give back those whose handler has not started."""
        self._stopping = True
        for task, delivery in self._tasks.items():
            if delivery not in self._started:
                task.cancel()
                self._unstarted.append(delivery)
        try:
            async with asyncio.timeout(CANCEL_TIMEOUT):
                await self._cancel()
        except (ChannelClosedError, TimeoutError) as error:
            logger.info("%s: not cancelled: %s", self.handler.queue.name, str(error) or "no answer")
        # Only now: a consumer that still takes would get them again, and before RabbitMQ 4.3
        # each delivery brings a message nearer to its limit.
        self._cancelled = True
        for delivery in self._unstarted:
            self._settler.requeue(delivery)

    async def _cancel(self) -> None:
        if self._widening is not None:
            await asyncio.wait([self._widening])
        if self._channel is not None and self._channel.is_open and self._tag is not None:
            await self._channel.cancel(self._tag)

    async def finished(self) -> None:
        """Wait until every delivery in flight is settled."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def abandon(self) -> int:
        """Give back what is still in flight, cancel its handlers, and say how many there were."""
        unsettled = [d for d in self._tasks.values() if not (d.settled or d.lost)]
        for delivery in unsettled:
            self._settler.requeue(delivery)
        for task in self._tasks:
            task.cancel()
        return len(unsettled)

    async def _attach(self) -> DriverChannel | None:
        def log_failure(state: RetryCallState) -> None:
            logger.error(
                "%s: not consuming: %s; trying again in %.1f s",
                self.handler.queue.name,
                state.outcome.exception() if state.outcome else None,
                state.upcoming_sleep,
            )

        attempts = AsyncRetrying(
            wait=wait_random_exponential(multiplier=0.2, max=ATTACH_WAIT_MAX),
            # A ConnectError means that the connection is closed for good.
            retry=retry_if_exception_type(BrokerError) & retry_if_not_exception_type(ConnectError),
            stop=lambda _: self._stopping,
            before_sleep=log_failure,
            retry_error_callback=lambda _: None,
        )
        return await attempts(self._attach_once)

    async def _attach_once(self) -> DriverChannel:
        declared_on, self._declared_on = self._declared_on, 0
        if declared_on != self._connection.generation:
            await self.declare()
        channel = await self._connection.channel()
        # On this channel, not on the publisher's connection: during an alarm that one is silent.
        await bind(channel, self.handler.queue.name)
        self._channel, self._tag = channel, None
        self._cautious = (
            self.handler.queue.type == "quorum" and self.handler.prefetch > CAUTIOUS_PREFETCH
        )
        await self._consume(channel)
        logger.info(
            "%s: consuming (prefetch %d, concurrency %d)",
            self.handler.queue.name,
            self.handler.prefetch,
            self.handler.concurrency,
        )
        return channel

    async def _consume(self, channel: DriverChannel) -> None:
        def on_delivery(incoming: Incoming) -> None:
            self._receive(channel, incoming)

        def on_cancel() -> None:
            # Its deliveries must be lost before new ones come: a fresh channel, not a new
            # consumer on this one. 4.3 also waits for a cancel-ok that pika does not send.
            closing.append(asyncio.ensure_future(channel.close()))

        closing: list[Awaitable[None]] = []
        await channel.qos(CAUTIOUS_PREFETCH if self._cautious else self.handler.prefetch)
        self._tag = await channel.consume(self.handler.queue.name, on_delivery, on_cancel)

    async def _widen(self, channel: DriverChannel) -> None:
        """Go on with the full prefetch, which holds for new consumers of the channel only."""
        try:
            if self._tag is not None:
                await channel.cancel(self._tag)
            self._tag = None
            if not self._stopping:
                await self._consume(channel)
        except ChannelClosedError as error:
            logger.debug("%s: %s", self.handler.queue.name, error)  # `run` attaches anew

    def _is_suspicious(self, delivery: Delivery) -> bool:
        """Whether it came back often enough to be what kills its workers."""
        count = delivery.headers.get(DELIVERY_COUNT)
        limit = self.handler.queue.delivery_limit
        if not isinstance(count, int) or count < max(1, limit // 2):
            return False
        logger.warning(
            "%s: message %s was delivered %d times without an ack; it is handled alone",
            self.handler.queue.name,
            delivery.message_id,
            count,
        )
        return True

    def _receive(self, channel: DriverChannel, incoming: Incoming) -> None:
        headers = incoming.properties.headers
        exchange, routing_key = first_published_to(headers, incoming.exchange, incoming.routing_key)
        delivery = Delivery(
            body=incoming.body,
            properties=incoming.properties,
            exchange=exchange,
            routing_key=routing_key,
            queue=self.handler.queue.name,
            attempt=attempt_number(headers),
            redelivered=incoming.redelivered,
            tag=incoming.tag,
            channel=channel,
        )
        if self._cancelled:
            self._settler.requeue(delivery)
            return
        if self._stopping:
            self._unstarted.append(delivery)
            return
        if self._cautious and not self._is_suspicious(delivery):
            self._cautious = False
            self._widening = asyncio.create_task(self._widen(channel))
        if self._store is not None:
            self._store.received(self.handler.name, delivery)
        earlier = self._latest.get(delivery.message_id) if delivery.message_id else None
        task = asyncio.create_task(self._handle(delivery, earlier))
        if delivery.message_id:
            self._latest[delivery.message_id] = task
        self._tasks[task] = delivery
        task.add_done_callback(self._on_task_done)

    async def _handle(self, delivery: Delivery, earlier: asyncio.Task[None] | None) -> None:
        if earlier is not None:
            # After a lost channel a message comes again while its first run still goes on.
            await asyncio.wait([earlier])
        async with self._slots:
            if delivery.lost or delivery.settled:
                return
            self._started.add(delivery)
            if self._store is not None:
                self._store.processing(self.handler.name, delivery)
            try:
                outcome = await self._dispatch(delivery)
                await self._settle(delivery, outcome)
            finally:
                self._started.discard(delivery)

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        delivery = self._tasks.pop(task)
        if delivery.message_id and self._latest.get(delivery.message_id) is task:
            del self._latest[delivery.message_id]
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.critical(
                "%s: message %s was not settled; it goes back to its queue",
                self.handler.name,
                delivery.message_id,
                exc_info=error,
            )
            self._settler.requeue(delivery)
