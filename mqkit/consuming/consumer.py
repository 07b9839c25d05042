"""Consumes the queue of one handler: takes each delivery and runs it to its end.

The hot path is `_run`: a delivery is dispatched to an outcome, and the outcome is settled.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Mapping
from typing import Any

from mqkit.broker.connection import Connection
from mqkit.clock import Clock, utc_now
from mqkit.consuming.batching import Batcher
from mqkit.consuming.dispatcher import Dispatcher
from mqkit.consuming.headers import drop_unbelievable
from mqkit.consuming.lanes import Lanes
from mqkit.consuming.pauses import Pausing
from mqkit.consuming.settler import Settler
from mqkit.consuming.subscription import Attachment, came_back
from mqkit.consuming.told import UNDER_WAY
from mqkit.consuming.waits import Waits
from mqkit.consuming.workers import Runners
from mqkit.drivers.base import DriverChannel, Incoming
from mqkit.errors import HandlerPausedError
from mqkit.logging.error_texts import log_error
from mqkit.logging.shown import shown
from mqkit.message import (
    Delivery,
    attempt_number,
    elapsed_seconds,
    first_published_to,
    time_to_live,
)
from mqkit.outcome import DeadLetter, DeathReason, Outcome, RetryAfter
from mqkit.pause import ConsumerState, Pause, Status
from mqkit.registration.handler import Handler
from mqkit.registration.transactions import TransactionalStore

logger = logging.getLogger(__name__)

Dispatch = Callable[[Delivery], Awaitable[Outcome]]

Turn = tuple[Delivery, Hashable]
"""A delivery that may run, and its lane."""

LAST_RESORT_WAITS = (1.0, 2.0, 4.0, 8.0)
"""Seconds after each attempt to dead-letter a message that could not be settled otherwise."""

CANCEL_TIMEOUT = 3.0
"""Seconds to wait for the broker's cancel-ok when the service stops."""


class Consumer:
    """The consumer of one handler.

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
        store: TransactionalStore | None = None,
        pauses: tuple[Pause, ...] = (),
        clock: Clock = utc_now,
        queue: str | None = None,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        """Consume nothing yet.

        :param declared_on: as in `Attachment`; so are `queue` and `arguments`
        :param pauses: when to stop consuming for a while
        :param clock: tells since when
        """
        self.handler = handler
        self.queue = queue or handler.queue.name
        """The name of the queue that it consumes."""
        self._waits = Waits(handler, self.queue, self)
        self._attachment = Attachment(
            connection,
            handler,
            receive=self._receive,
            on_lost=self._cancel_lost,
            declared_on=declared_on,
            queue=queue,
            arguments=arguments,
            on_closed=self._waits.closed,
        )
        self._batcher = Batcher(handler, dispatcher) if handler.batch is not None else None
        dispatch = dispatcher.dispatch if self._batcher is None else self._batcher.dispatch
        self._pausing = Pausing(handler, pauses, dispatch, intake=self, clock=clock)
        self._dispatch: Dispatch = self._pausing.dispatch if pauses else dispatch
        self._wait_for_thread = dispatcher.invoker.wait_for_thread
        self._settler = settler
        self._settle = settler.settle
        self._store = store
        # Messages of a batch are all under way together, and wait for each other.
        self._lanes: Lanes[Delivery] = Lanes(
            handler.concurrency if self._batcher is None else handler.prefetch
        )
        self._admitting = True
        self._stopping = False
        self._cancelled = False
        self._runners: Runners[Turn] = Runners(self._take, self._waiting, self._run)
        self._putting_back: dict[asyncio.Task[None], Delivery] = {}
        self._waiting_out: asyncio.Task[None] | None = None

    @property
    def _floor(self) -> int:
        """Messages that can run at the same time."""
        size = 1 if self.handler.batch is None else self.handler.batch[0]
        return min(self.handler.prefetch, self.handler.concurrency * size)

    @property
    def in_flight(self) -> int:
        """Deliveries whose handler runs, or whose outcome is being settled."""
        return len(self._runners.current) + len(self._putting_back)

    @property
    def state(self) -> ConsumerState:
        """What it does now."""
        if self._stopping:
            return ConsumerState(Status.STOPPED)
        if (paused := self._pausing.state) is not None:
            return paused
        attached = self._attachment.is_attached
        return ConsumerState(Status.CONSUMING if attached else Status.DETACHED)

    def delivery_of(self, task: asyncio.Task[Any]) -> Delivery | None:
        """What the task handles now."""
        turn = self._runners.current.get(task)
        return None if turn is None else turn[0]

    async def run(self) -> None:
        """Consume until cancelled or stopped; attaches again whenever its channel closes."""
        if self._stopping:
            return
        attached = asyncio.create_task(self._attachment.run())
        self._waiting_out = asyncio.create_task(self._pausing.run())
        both = (attached, self._waiting_out, asyncio.create_task(self._waits.run()))
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_EXCEPTION)
            for task in both:
                if task.done() and not task.cancelled():
                    task.result()
        finally:
            self._runners.close()  # first: whoever cancels this may do so again in the wait
            for task in both:
                task.cancel()
            await asyncio.wait(both)

    def _cancel_lost(self, channel: DriverChannel) -> None:
        """Forget what has not started, and cancel runs of this channel where that is asked for."""
        self._lanes.take_waiting()
        if self.handler.cancel_when_lost:
            for task, delivery in self._in_flight():
                if delivery.channel is channel and not delivery.settled:
                    task.cancel()

    async def stop(self) -> None:
        """Take no more deliveries, and give back those whose handler has not started."""
        self._stopping = True
        if self._waiting_out is not None:
            self._waiting_out.cancel()  # nothing is admitted any more
        self._attachment.stop()
        self.shut()
        try:
            async with asyncio.timeout(CANCEL_TIMEOUT):
                await self._attachment.idle()
        except TimeoutError:
            logger.info("%s: not cancelled: no answer", self.queue)
        # Only now: a consumer that still takes would get them again, and before RabbitMQ 4.3
        # each delivery brings a message nearer to its limit.
        self._cancelled = True
        for delivery in self._lanes.take_waiting():
            self._settler.requeue(delivery)

    def shut(self) -> None:
        """Start no more runs, and ask the broker for no more messages."""
        self._admitting = False
        self._attachment.want(0)
        if self._batcher is not None and self._stopping:
            self._batcher.stop()

    def admit(self, prefetch: int) -> None:
        """Start runs again, with so many messages ahead of their acks."""
        self._admitting = True
        self._attachment.want(prefetch)
        self._runners.look()

    async def give_back(self) -> None:
        """Wait until no more messages come, and give back those that were not started."""
        await self._attachment.idle()
        self._give_back_waiting()

    def held(self) -> tuple[list[Delivery], list[Delivery]]:
        """What waits, and what runs; of a batch all waits that runs, for its messages or others."""
        waiting = self._lanes.waiting()
        running = [delivery for delivery, _ in self._runners.current.values()]
        can_wait = self._batcher is not None and self._attachment.most > self._floor
        return (waiting or running if can_wait else waiting), running

    def longest_line(self) -> tuple[Hashable, int]:
        """The message id for whose run most others wait, and how many."""
        return self._lanes.longest_line()

    async def hold_less(self) -> None:
        """Give back what waits, and hold no more from now on than can run."""
        if self._stopping:
            return
        await self._attachment.hold_less(self._floor)
        self._give_back_waiting()
        self._attachment.go_on()

    def _give_back_waiting(self) -> None:
        for delivery in self._lanes.take_waiting():
            if delivery.lost or not came_back(delivery.headers):
                self._settler.requeue(delivery)
            else:
                self._beside(delivery, self._put_back(delivery))

    def _beside(self, delivery: Delivery, settling: Coroutine[Any, Any, None]) -> None:
        """Settle a delivery whose handler does not run, in a task of its own."""
        task = asyncio.create_task(settling)
        self._putting_back[task] = delivery
        task.add_done_callback(self._putting_back.pop)

    async def _put_back(self, delivery: Delivery) -> None:
        """Give a message back that may not be given back often any more: as a copy.

        Before RabbitMQ 4.3 a queue counts every nack towards its delivery limit, and a dependency
        that is down now and then would make it dead-letter what was never handled.
        """
        error = HandlerPausedError(f"handler {self.handler.name} paused before it ran")
        elapsed = elapsed_seconds(delivery.headers)
        try:
            await self._settle(delivery, RetryAfter(0.0, error, elapsed, counted=False))
        except (asyncio.CancelledError, GeneratorExit):
            raise
        except BaseException as failure:  # noqa: BLE001 - nothing may leave a message unsettled
            await self._settle_somehow(delivery, failure)

    def _in_flight(self) -> list[tuple[asyncio.Task[None], Delivery]]:
        running = ((task, delivery) for task, (delivery, _) in self._runners.current.items())
        return [*running, *self._putting_back.items()]

    async def finished(self) -> None:
        """Wait until every delivery in flight is settled: its ack written, and not to be lost."""
        while self._putting_back:
            await asyncio.wait(self._putting_back)
        await self._runners.drained()
        self._settler.write_acks()  # the channel may be closed right after
        # With fewer messages at a time the broker never has as many acks to carry out.
        if self.handler.queue.type == "quorum" and self.handler.prefetch >= UNDER_WAY:
            await self._settler.carried_out()

    async def abandon(self) -> int:
        """Give back what is still in flight, cancel its handlers, and say how many there were."""
        in_flight = self._in_flight()
        # Those of a channel that is gone, too: the broker has given them back.
        unsettled = [delivery for _, delivery in in_flight if not delivery.settled]
        for delivery in unsettled:
            self._give_up(delivery)
        for task, _ in in_flight:
            task.cancel()
        return len(unsettled)

    def _give_up(self, delivery: Delivery) -> None:
        self._settler.requeue(delivery)

    def _receive(self, channel: DriverChannel, incoming: Incoming) -> None:
        """Take a delivery. The driver calls this: nothing may rise from it and end the channel."""
        try:
            self._accept(channel, incoming)
        except BaseException as error:  # noqa: BLE001 - nothing may leave a message unsettled
            delivery = Delivery(
                body=incoming.body,
                properties=incoming.properties,
                exchange=incoming.exchange,
                routing_key=incoming.routing_key,
                queue=self.handler.queue.name,
                tag=incoming.tag,
                channel=channel,
            )
            self._beside(delivery, self._settle_somehow(delivery, error))

    def _accept(self, channel: DriverChannel, incoming: Incoming) -> None:
        drop_unbelievable(incoming, self.queue)
        headers = incoming.properties.headers
        exchange, routing_key = incoming.exchange, incoming.routing_key
        attempt = 1
        if headers:
            exchange, routing_key = first_published_to(headers, exchange, routing_key)
            attempt = attempt_number(headers)
        delivery = Delivery(
            body=incoming.body,
            properties=incoming.properties,
            exchange=exchange,
            routing_key=routing_key,
            queue=self.handler.queue.name,
            attempt=attempt,
            redelivered=incoming.redelivered,
            tag=incoming.tag,
            channel=channel,
        )
        if self._cancelled:
            self._settler.requeue(delivery)
            return
        if (seconds := time_to_live(incoming.properties)) is not None:
            delivery.expires = time.monotonic() + seconds
        if self._admitting and self._store is not None:
            self._store.received(self.handler.name, delivery)
        self._lanes.add(delivery, self._lane(delivery))
        self._runners.look()

    def _lane(self, delivery: Delivery) -> Hashable:
        """What is handled by one run at a time.

        After a lost channel a message comes again while its first run still goes on.
        """
        return delivery.message_id

    def _take(self) -> Turn | None:
        """A delivery that may run now."""
        while self._admitting and (turn := self._lanes.next()) is not None:
            delivery, lane = turn
            if not delivery.lost:
                return turn
            self._lanes.done(lane)
        return None

    def _waiting(self) -> int:
        return self._lanes.startable if self._admitting else 0

    async def _run(self, turn: Turn) -> None:
        """Handle a delivery, and settle it."""
        delivery, lane = turn
        try:
            if self._store is not None:
                self._store.processing(self.handler.name, delivery)
            outcome = await self._dispatch(delivery)
            await self._settle(delivery, outcome)
            if not self.handler.is_async and self._batcher is None:
                await self._wait_for_thread(delivery)
        except (asyncio.CancelledError, GeneratorExit):
            raise
        except BaseException as error:  # noqa: BLE001 - nothing may leave a message unsettled
            await self._settle_somehow(delivery, error)
        finally:
            self._lanes.done(lane)

    async def _settle_somehow(self, delivery: Delivery, error: BaseException) -> None:
        """End a delivery whose outcome could not be decided on, or not be carried out.

        It is never given back at once: from RabbitMQ 4.3 on nothing would count how often it comes,
        and it would come for ever. A dead letter is tried several times, and then the broker is
        left to write one.
        """
        outcome = DeadLetter(DeathReason.UNSETTLED, error)
        for wait in LAST_RESORT_WAITS:
            log_error(
                logger,
                logging.CRITICAL,
                "%s: message %s could not be settled; it is dead-lettered",
                self.handler.name,
                shown(delivery.message_id),
                error=error,
            )
            try:
                await self._settle(delivery, outcome)
            except (asyncio.CancelledError, GeneratorExit):
                raise
            except BaseException as failure:  # noqa: BLE001 - tried again, or left to the broker
                error = failure
            if delivery.settled or delivery.lost:
                return
            await asyncio.sleep(wait)
        # What the broker does with a refused message is known of mqkit's own declarations alone.
        queue = self.handler.queue
        is_kept = queue.declare and "x-dead-letter-exchange" in queue.declared_arguments()
        self._settler.refuse(delivery, error, requeue=not is_kept)
