"""Keeps a queue consumed: on a channel that is replaced when it dies, with one consumer on it.

How much the broker may send is set by `set_prefetch`; `run` is the only one to start and to cancel
the consumer, so that no two of these ever overlap.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    retry_if_not_exception_type,
    wait_random_exponential,
)

from mqkit.broker.connection import Connection
from mqkit.broker.declare import declare
from mqkit.broker.delays import bound_channel
from mqkit.consuming.handover.leaving import GiveBack, Leaving
from mqkit.drivers.base import DriverChannel, Incoming
from mqkit.errors import BrokerError, ChannelClosedError, ConnectError
from mqkit.logging.shown import shown
from mqkit.message import HeaderValue
from mqkit.registration.handler import Handler

logger = logging.getLogger(__name__)

CAUTIOUS_PREFETCH = 1
"""Messages held at a time until the head of the queue is known to be harmless.

A worker that dies returns all that it had prefetched, and each counts as one more delivery. With
a full prefetch, the neighbours of a message that kills its worker would reach the delivery
limit together with it. What was returned stands at the head of the queue, so a worker that takes
it one by one loses none but the poison.

The limit in force may be less than the declared one: a policy's counts where it is lower, and AMQP
does not show it. So a process that has just begun takes all that came back alone, and neighbours
are returned once. One that lives on after it lost its channel has shown that what it held does not
kill it, and takes alone what came back twice.
"""

DELIVERY_COUNT = "x-delivery-count"
"""Set by quorum queues on what was delivered before
(https://www.rabbitmq.com/docs/quorum-queues#poison-message-handling)."""

ATTACH_WAIT_MAX = 3.0
"""Seconds; no wait between two attempts to start consuming is longer."""

LEAVE_TIMEOUT = 3.0
"""Seconds to wait for the broker's answers before a channel is closed with what it brought."""

Receive = Callable[[DriverChannel, Incoming], None]


class Subscription:
    """Keeps one consumer on the broker, on a channel of its own.

    `receive` gets each delivery with its channel. `on_lost` gets each channel that has closed,
    before the next one is opened.
    """

    def __init__(
        self,
        connection: Connection,
        handler: Handler,
        *,
        receive: Receive,
        on_lost: Callable[[DriverChannel], None],
        declared_on: int = 0,
        queue: str | None = None,
        arguments: Mapping[str, Any] | None = None,
        on_closed: Callable[[str], None] = lambda _: None,
        give_back: GiveBack,
    ) -> None:
        """Consume nothing yet; then the handler's prefetch.

        :param declared_on: the generation of the connection on which the handler's queues were
            declared just now, so that the first attempt to consume need not do it again
        :param queue: the one to consume, where it is not the handler's own
        :param arguments: for the consumer
        :param on_closed: gets the broker's words on each channel that has closed
        :param give_back: nacks what is unsettled of a channel, up to a delivery tag
        """
        self._connection = connection
        self._handler = handler
        self._queue = queue or handler.queue.name
        self._is_single = handler.queue.is_single
        self._arguments = arguments
        self._receive = receive
        self._on_lost = on_lost
        self._on_closed = on_closed
        self._leaving = Leaving(self._queue, give_back, moves=bool(arguments))
        self._declared_on = declared_on
        self._stopping = False
        self._channel: DriverChannel | None = None
        self._tag: str | None = None
        self.last_tag = 0
        """The tag of the last delivery that the channel brought; 0: none."""
        self.last_came_back = False
        """Whether the last delivery that the channel brought had been delivered before. While it
        has brought none, it may be about to."""
        self.attached = 0.0
        """When the channel began to be consumed on, by the loop's clock."""
        self._taking = 0
        self._wanted = handler.prefetch
        self._most = handler.prefetch
        self._changed = asyncio.Event()
        self._adjusting = asyncio.Lock()
        self._idle = asyncio.Event()
        self._idle.set()
        self._cautious = False
        self._suspects = False
        self._is_fresh = False
        self._lives_on = False
        self._is_held_back = False

    @property
    def is_attached(self) -> bool:
        """Whether it has a channel to consume on."""
        return self._channel is not None

    @property
    def taking(self) -> int:
        """Messages that the broker may send ahead of their acks now; 0: nothing is consumed."""
        return self._taking

    @property
    def most(self) -> int:
        """Messages that the broker may send ahead of their acks at most."""
        return self._most

    def set_prefetch(self, prefetch: int) -> None:
        """Let the broker send so many messages ahead of their acks, soon; 0 is to consume none."""
        self._wanted = prefetch
        self._changed.set()

    async def hold_less(self, prefetch: int) -> None:
        """Stop consuming for a while, and consume with a lower prefetch from then on."""
        self._most = min(self._most, prefetch)
        if self._channel is not None and self._is_single:
            await self._leave(self._channel)
            return
        self._is_held_back = True
        self._changed.set()
        await self.idle()

    def go_on(self) -> None:
        """Consume again, after `hold_less`."""
        self._is_held_back = False
        self._changed.set()

    def stop(self) -> None:
        """Consume no more, and do not attach again."""
        self._stopping = True
        self.set_prefetch(0)

    async def close(self) -> None:
        """Stop, and give back what is not settled: all at once, in its order."""
        self._stopping = True
        if self._channel is not None:
            await self._leave(self._channel)

    async def _leave(self, channel: DriverChannel) -> None:
        """Give back all that came by a channel, in its order, and close that.

        It waits for a consumer that is just being started, which may be sent messages already.
        """
        server, last = self._connection.server, lambda: self.last_tag
        try:
            async with asyncio.timeout(LEAVE_TIMEOUT), self._adjusting:
                prefetch = self._taking
                await self._leaving.give_back(channel, server, prefetch=prefetch, last_tag=last)
        except (BrokerError, TimeoutError) as error:
            logger.debug("%s: left with what is unsettled: %r", self._queue, error)
        await channel.close(in_order=True)

    async def idle(self) -> None:
        """Wait until nothing is consumed: the broker has said so, or the channel is gone."""
        await self._idle.wait()

    async def declare(self) -> None:
        """Put the handler's exchanges, queues and bindings on the broker.

        :raises TopologyError: the broker refused something
        """
        await declare(self._connection.channel, self._handler.topology())

    async def run(self) -> None:
        """Consume until stopped; attaches again whenever the channel closes.

        :raises ConnectError: the connection is closed for good
        """
        while not self._stopping:
            channel = await self._attach()
            if channel is None:  # stopping
                return
            try:
                await self._follow(channel)
            except ChannelClosedError as error:
                logger.debug("%s: %s", self._queue, error)
            why = await asyncio.shield(channel.closed)
            self._detach()
            self._lives_on = True
            self._on_lost(channel)
            self._on_closed(why.text)
            if not self._stopping:
                # Of a lost connection one line tells, for all of its queues.
                level = logging.WARNING if self._connection.is_up else logging.DEBUG
                logger.log(level, "%s: stopped consuming: %s", self._queue, shown(why.text))

    async def _attach(self) -> DriverChannel | None:
        def log_failure(state: RetryCallState) -> None:
            logger.error(
                "%s: not consuming: %s; trying again in %.1f s",
                self._queue,
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

    async def _attach_once(self) -> DriverChannel | None:
        declared_on, self._declared_on = self._declared_on, 0
        if declared_on != self._connection.generation:
            await self.declare()
        # On this channel, not on the publisher's connection: during an alarm that one is silent.
        channel = await bound_channel(self._connection.channel, self._fed_by_ladder())
        if self._stopping:  # `close` has come before, and nobody would give back what this is sent
            await channel.close()
            return None
        self._cautious = self._suspects or (
            self._handler.queue.type == "quorum"
            and self._handler.prefetch > CAUTIOUS_PREFETCH
            and not self._is_single
        )
        self._is_fresh = True
        self._channel, self.last_tag, self.last_came_back = channel, 0, True
        self.attached = asyncio.get_running_loop().time()
        try:
            await self._adjust(channel)
        except BrokerError:
            self._detach()
            raise
        if self._wanted:
            logger.info(
                "%s: consuming (prefetch %d, concurrency %d)",
                self._queue,
                self._handler.prefetch,
                self._handler.concurrency,
            )
        else:
            logger.info("%s: attached, and not consuming", self._queue)
        return channel

    def _fed_by_ladder(self) -> tuple[str, ...]:
        queue = self._handler.queue
        if self._queue == queue.name:
            return tuple(each.name for each in queue.with_partitions())
        return (self._queue,)

    def _detach(self) -> None:
        self._channel, self._tag, self._taking = None, None, 0
        self.last_came_back = False
        self._idle.set()

    async def _follow(self, channel: DriverChannel) -> None:
        """Keep the consumer at the prefetch that is asked for, for as long as the channel lives."""
        channel.closed.add_done_callback(lambda _: self._changed.set())
        while channel.is_open:
            if self._taking != self._prefetch():
                await self._adjust(channel)
            else:
                self._changed.clear()
                await self._changed.wait()

    def _prefetch(self) -> int:
        if self._is_held_back:
            return 0
        most = CAUTIOUS_PREFETCH if self._cautious else self._most
        return min(self._wanted, most)

    async def _adjust(self, channel: DriverChannel) -> None:
        """Replace the consumer: a prefetch holds for new consumers of a channel only."""
        async with self._adjusting:
            if self._tag is not None:
                await channel.cancel(self._tag)
            self._tag, self._taking = None, 0
            prefetch = self._prefetch()  # only now: it may have changed meanwhile
            if not prefetch:
                self._idle.set()
                return
            self._idle.clear()
            await channel.qos(prefetch)
            await self._consume(channel)
            self._taking = prefetch

    async def _consume(self, channel: DriverChannel) -> None:
        def on_delivery(incoming: Incoming) -> None:
            self.last_tag, self.last_came_back = incoming.tag, incoming.redelivered
            if closing or (self._is_single and self._has_to_change(incoming)):
                if not closing:
                    closing.append(asyncio.ensure_future(self._leave(channel)))
                return
            self._look_at(incoming)
            self._receive(channel, incoming)

        def on_cancel() -> None:
            # Its deliveries must be lost before new ones come: a fresh channel, not a new
            # consumer on this one. 4.3 also waits for a cancel-ok that pika does not send.
            closing.append(asyncio.ensure_future(channel.close()))

        closing: list[Awaitable[None]] = []
        self._tag = await channel.consume(
            self._queue, on_delivery, on_cancel, arguments=self._arguments
        )

    def _has_to_change(self, head: Incoming) -> bool:
        """Whether a single active consumer has to attach anew, to hold fewer messages, or more.

        It may not be replaced on its channel as others are: what it holds would stay here, while
        another process got what comes after it. So nothing is started, and all goes back in its
        order. Nor does it begin cautiously: that would cost every message at the head a delivery.
        """
        is_first, self._is_fresh = self._is_fresh, False
        often = is_suspect(self._handler, head.properties.headers)
        if self._cautious:
            self._suspects = often
            # Not with one that came back: it would go behind others that did.
            return not (often or head.redelivered)
        if is_first and often and self._handler.prefetch > CAUTIOUS_PREFETCH:
            self._suspects = True
            return True
        return False

    def _look_at(self, incoming: Incoming) -> None:
        """Go on with the full prefetch if the head of the queue is harmless."""
        if not self._cautious:
            return
        headers = incoming.properties.headers
        limit = self._handler.queue.delivery_limit
        times = came_back(headers)
        if times >= (max(1, limit // 2) if self._lives_on else 1):
            logger.log(
                logging.INFO if times < limit // 2 else logging.WARNING,
                "%s: message %s was delivered %s times without an ack; it is handled alone",
                self._queue,
                shown(incoming.properties.message_id),
                times,
            )
            return
        if self._is_single:  # which changes no consumer on its channel
            return
        self._cautious = False
        self._changed.set()


def is_suspect(handler: Handler, headers: Mapping[str, HeaderValue]) -> bool:
    """Tell whether a message has few deliveries left of those that its queue is declared with.

    Few is a quarter of them, or five where a quarter is less; at most half. Such a message is
    handled alone, and a lost connection then puts the one that is held behind the rest: so not
    sooner. Nor later: before RabbitMQ 4.3, each process that is killed by one message takes a
    delivery from all that it held before it handles them alone.
    """
    limit = handler.queue.delivery_limit
    return came_back(headers) >= max(1, limit // 2, limit - max(5, limit // 4))


def came_back(headers: Mapping[str, HeaderValue]) -> int:
    """Count how often a message was delivered without an ack, as its queue says."""
    count = headers.get(DELIVERY_COUNT)
    return count if isinstance(count, int) else 0
