"""Starts, pauses, drains and stops the consumer of a queue."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Hashable, Sequence
from typing import Any

from mqkit.consuming.acks import ANSWERED
from mqkit.consuming.failures import LastResort
from mqkit.consuming.headers import elapsed_seconds
from mqkit.consuming.pausing.controller import PauseController
from mqkit.consuming.pausing.waits import Waits
from mqkit.consuming.processor import Processor
from mqkit.consuming.settler import Settler
from mqkit.consuming.subscription import Subscription, came_back
from mqkit.errors import HandlerPausedError
from mqkit.message import Delivery
from mqkit.middleware import ConsumerReading
from mqkit.outcome import RetryAfter
from mqkit.pause import ConsumerState, Status
from mqkit.registration.handler import Handler

logger = logging.getLogger(__name__)

CANCEL_TIMEOUT = 3.0
"""Seconds to wait for the broker's cancel-ok when the service stops."""

LOOK = 0.02
"""Seconds between two looks, at a stop, at whether all has come that came back to the queue."""


class Consumer:
    """Consumes one queue: hands its deliveries to the processor until it is paused or stopped.

    A delivery belongs to the channel that it came by. When that closes, what has not started
    is dropped (the broker redelivers it), and what runs ends as `Lost`.
    """

    def __init__(
        self,
        handler: Handler,
        queue: str,
        *,
        subscription: Subscription,
        processor: Processor,
        settler: Settler,
        last_resort: LastResort,
        pauses: PauseController,
        waits: Waits,
        release: Sequence[Callable[[], None]],
    ) -> None:
        """Consume nothing yet.

        :param release: lets go, for a stop, of what is held: batches that are not full, and
            messages that wait for a retry in their place
        """
        self.handler = handler
        self.queue = queue
        """The name of the queue that it consumes."""
        self._subscription = subscription
        self._processor = processor
        self._workers = processor.workers
        self._settler = settler
        self._last_resort = last_resort
        self._pauses = pauses
        self._waits = waits
        self._release = release
        self._stopping = False
        self._resuming: asyncio.Task[None] | None = None
        pauses.attach(self)

    @property
    def _can_run(self) -> int:
        """Return how many messages can run at the same time."""
        size = 1 if self.handler.batch is None else self.handler.batch[0]
        return min(self.handler.prefetch, self.handler.concurrency * size)

    @property
    def in_flight(self) -> int:
        """Deliveries whose handler runs, or whose outcome is being settled."""
        return self._workers.count

    @property
    def state(self) -> ConsumerState:
        """What it does now."""
        if self._stopping:
            return ConsumerState(Status.STOPPED)
        if (paused := self._pauses.state) is not None:
            return paused
        attached = self._subscription.is_attached
        return ConsumerState(Status.CONSUMING if attached else Status.DETACHED)

    @property
    def reading(self) -> ConsumerReading:
        """How it is, for who watches the service."""
        return ConsumerReading(
            handler=self.handler.name,
            queue=self.handler.queue.name,
            consumed=self.queue,
            state=self.state,
            in_flight=self.in_flight,
            pauses=self._pauses.pauses,
            settled_ago=self._settler.close_delay.ago,
            is_partition=self.queue != self.handler.queue.name
            or self.handler.queue.partitions == 1,
        )

    def delivery_of(self, task: asyncio.Task[Any]) -> Delivery | None:
        """Return what the task handles now."""
        return self._workers.current.get(task)

    async def run(self) -> None:
        """Consume until cancelled or stopped; attaches again whenever its channel closes."""
        if self._stopping:
            return
        attached = asyncio.create_task(self._subscription.run())
        self._resuming = asyncio.create_task(self._pauses.run())
        both = (attached, self._resuming, asyncio.create_task(self._waits.run(self)))
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_EXCEPTION)
            for task in both:
                if task.done() and not task.cancelled():
                    task.result()
        finally:
            self._workers.close()  # first: whoever cancels this may do so again in the wait
            for task in both:
                task.cancel()
            await asyncio.wait(both)

    async def stop(self) -> None:
        """Take no more deliveries, and give back those whose handler has not started."""
        self._begin_stop()
        self._subscription.stop()
        try:
            async with asyncio.timeout(CANCEL_TIMEOUT):
                await self._subscription.idle()
        except TimeoutError:
            logger.info("%s: the broker did not confirm that the consumer is cancelled", self.queue)
        # Only now: a consumer that still takes would get them again, and before RabbitMQ 4.3
        # each delivery brings a message nearer to its limit.
        self._processor.stop()

    def _begin_stop(self) -> None:
        self._stopping = True
        if self._resuming is not None:
            self._resuming.cancel()  # no pause is to end any more
        self.pause()
        for let_go in self._release:
            let_go()

    async def finished(self, patience: float) -> None:  # noqa: ARG002 - see `KeepingConsumer`
        """Wait until every delivery in flight is settled: its ack written, and not to be lost.

        :param patience: seconds in which more may be handled, where the order asks for it
        """
        await self._workers.finished()
        await self._acked()

    async def _acked(self) -> None:
        """Write the acks that are due, and wait until they survive the end of their channel."""
        self._settler.flush()
        if self.handler.queue.type == "quorum":
            await asyncio.sleep(self._settler.close_delay.seconds(self.handler.prefetch))

    async def abandon(self) -> int:
        """Give back what is still in flight, cancel its handlers, and say how many there were."""
        in_flight = self._workers.in_flight()
        # Those of a channel that is gone, too: the broker has given them back.
        unsettled = [delivery for _, delivery in in_flight if not delivery.settled]
        for delivery in unsettled:
            self._settler.give_back(delivery)
        for run, _ in in_flight:
            run.cancel()
        return len(unsettled)

    def pause(self) -> None:
        """Start no more runs, and ask the broker for no more messages."""
        self._workers.pause()
        self._subscription.set_prefetch(0)

    def resume(self, prefetch: int) -> None:
        """Start runs again, with so many messages ahead of their acks."""
        self._subscription.set_prefetch(prefetch)
        self._workers.resume()

    async def requeue_waiting(self) -> None:
        """Wait until no more messages come, and give back those that were not started."""
        await self._subscription.idle()
        self._requeue_waiting()

    def held(self) -> tuple[list[Delivery], list[Delivery]]:
        """Return what waits, and what runs.

        Of a batch all waits that runs: for its other messages, or for another batch.
        """
        waiting, running = self._workers.waiting(), self._workers.running()
        can_wait = self.handler.batch is not None and self._subscription.most > self._can_run
        return (waiting or running if can_wait else waiting), running

    def longest_line(self) -> tuple[Hashable, int]:
        """Return the message id for whose run most others wait, and how many.

        Where an order is kept, messages are meant to wait for those of their key: then it is 0.
        """
        return (None, 0) if self.handler.order_by is not None else self._workers.longest_line()

    async def hold_less(self) -> None:
        """Give back what waits, and hold no more from now on than can run."""
        if self._stopping:
            return
        await self._subscription.hold_less(self._can_run)
        self._requeue_waiting()
        self._subscription.go_on()

    def _requeue_waiting(self) -> None:
        for delivery in self._workers.take_waiting():
            if delivery.lost or not came_back(delivery.headers):
                self._settler.requeue(delivery)
            else:
                self._workers.run_beside(delivery, self._put_back(delivery))

    async def _put_back(self, delivery: Delivery) -> None:
        """Give a message back that may not be given back often any more: as a copy.

        Before RabbitMQ 4.3 a queue counts every nack towards its delivery limit, and a dependency
        that is down now and then would make it dead-letter what was never handled.
        """
        error = HandlerPausedError(f"handler {self.handler.name} paused before it ran")
        elapsed = elapsed_seconds(delivery.headers)
        try:
            await self._settler.settle(delivery, RetryAfter(0.0, error, elapsed, counted=False))
        except (asyncio.CancelledError, GeneratorExit):
            raise
        except BaseException as failure:  # noqa: BLE001 - nothing may leave a message unsettled
            await self._last_resort.settle(delivery, failure)


class KeepingConsumer(Consumer):
    """Consumes a queue that it may not leave while it holds messages, nor for a pause.

    What it holds is given back all at once, or not at all. A single active consumer whose messages
    went back one by one, or that was cancelled while it holds some, would let another process get
    later messages first, and run two at a time. So it keeps its place until its runs have ended,
    and then closes its channel: the broker requeues the rest in order, and the queue moves on. A
    queue that goes with its last consumer, or expires without one, would be deleted with what is in
    it if it were not consumed during a pause.
    """

    def pause(self) -> None:
        """Start no more runs, and hold what comes: nobody else may have the queue meanwhile."""
        self._workers.pause()

    def resume(self, prefetch: int) -> None:  # noqa: ARG002 - it holds what it held
        """Start runs again."""
        self._workers.resume()

    async def requeue_waiting(self) -> None:
        """Give nothing back: it would come again behind later messages."""

    async def hold_less(self) -> None:
        """Give back what waits, once nothing runs, and hold no more from then on than can run.

        What has to wait behind others of its key is given back again, now and then. A pause holds
        what it holds: to give it back would bring it nearer to its delivery limit each time.
        """
        if self._stopping or self._workers.is_paused:
            return
        if self.handler.queue.auto_delete:  # it may have no moment without a consumer
            self._requeue_waiting()
            return
        self._workers.pause()
        await self._workers.drained()
        await self._acked()
        await self._subscription.hold_less(self._can_run)
        self._requeue_waiting()
        self._subscription.go_on()
        if not self._stopping and self._pauses.state is None:
            self._workers.resume()

    async def stop(self) -> None:
        """Start no more runs, unless the order asks for more; `finished` gives the rest back."""
        self._stopping = True
        # A classic queue puts what comes back in the place that it had.
        if self.handler.queue.type != "quorum" or not self._subscription.last_came_back:
            self._begin_stop()

    async def finished(self, patience: float) -> None:
        """Wait until every run has ended, and give back what has not begun."""
        await self._take_what_came_back(patience)
        self._begin_stop()
        await super().finished(patience)
        await self._subscription.close()

    async def abandon(self) -> int:
        """Give back what is still in flight, and begin no more."""
        self._begin_stop()
        return await super().abandon()

    async def _take_what_came_back(self, patience: float) -> None:
        """Go on until nothing is left in the queue that has come back to it.

        RabbitMQ's quorum queues send that before all else, and put what comes back again behind the
        rest of it. Who holds a part of it, since another process had a higher prefetch, would
        change the order by giving that back. All of it has come once something has that was never
        delivered before, or nothing has for a while in which there was room.
        """
        now = asyncio.get_running_loop().time
        subscription, workers = self._subscription, self._workers
        end, seen = now() + patience, subscription.last_tag
        since = now() if seen else subscription.attached
        while subscription.last_came_back and not workers.is_paused and now() < end:
            held = workers.count + len(workers.waiting())
            if subscription.last_tag != seen or held >= subscription.taking > 0:
                since, seen = now(), subscription.last_tag
            elif now() - since >= ANSWERED:
                return
            await asyncio.sleep(LOOK)
