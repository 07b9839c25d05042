"""The hot path, 1 of 3: each delivery waits for its turn, is dispatched, and is settled."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable

from mqkit.consuming.failures import LastResort
from mqkit.consuming.headers import bare_delivery, drop_untrusted_headers, to_delivery
from mqkit.consuming.settler import Settler
from mqkit.consuming.workers import Waiting, WorkerPool
from mqkit.drivers.base import DriverChannel, Incoming
from mqkit.hooks.tracing import Dispatch, MessageTracing, Settle
from mqkit.message import Delivery
from mqkit.middleware import Observers
from mqkit.registration.handler import Handler


class Processor:
    """Processes the deliveries of one queue.

    Deliveries of the same key run one after the other, in the order in which they came. Where no
    order is kept the key is the message id: a message that comes again after a lost channel waits
    until its first run has ended. A delivery without a key waits for no other one.
    """

    def __init__(
        self,
        handler: Handler,
        queue: str,
        *,
        limit: int,
        key: Callable[[Delivery], Hashable],
        dispatch: Dispatch,
        wait_for_thread: Callable[[Delivery], Awaitable[None]] | None,
        settler: Settler,
        last_resort: LastResort,
        observer: Observers | None,
        tracing: MessageTracing | None = None,
    ) -> None:
        """Process nothing yet.

        :param queue: the one that is consumed, which is the handler's or a partition of it
        :param limit: how many deliveries are under way at the same time
        :param dispatch: runs the handler: the dispatcher, or what wraps it (batches, pauses, order)
        :param wait_for_thread: waits for a thread that may outlast its run; None: there is none
        """
        self._handler = handler
        self._queue = queue
        self._key = key
        self._dispatch = dispatch
        self._wait_for_thread = wait_for_thread
        self._settler = settler
        self._last_resort = last_resort
        self._observer = observer
        self._tracing = tracing
        self._settle: Settle = settler.settle
        if tracing is not None:
            self._settle = tracing.settling(handler.name, settler.settle)
        self._stopped = False
        self.workers: WorkerPool[Delivery] = WorkerPool(limit, self._process)

    def receive(self, channel: DriverChannel, incoming: Incoming) -> None:
        """Queue a delivery. The driver calls this: an error that rises would end the channel."""
        try:
            drop_untrusted_headers(incoming, self._queue)
            delivery = to_delivery(incoming, self._handler.queue.name, channel)
            if self._stopped:
                self._settler.requeue(delivery)
                return
            if self._observer is not None and not self.workers.is_paused:
                self._observer.received(self._handler.name, delivery)
            if self._tracing is not None:
                self._tracing.received(delivery)
            self.workers.submit(delivery, self._key(delivery))
        except BaseException as error:  # noqa: BLE001 - nothing may leave a message unsettled
            delivery = bare_delivery(incoming, self._handler.queue.name, channel)
            self.workers.run_beside(delivery, self._last_resort.settle(delivery, error))

    async def _process(self, delivery: Delivery) -> Waiting | None:
        """Run the handler and settle the delivery. A worker calls this."""
        if delivery.lost:  # the broker delivers it again
            return None
        try:
            if self._observer is not None:
                self._observer.started(self._handler.name, delivery)
            outcome = await self._dispatch(delivery)
            await self._settle(delivery, outcome)
            if self._wait_for_thread is not None:
                await self._wait_for_thread(delivery)
        except (asyncio.CancelledError, GeneratorExit):
            raise
        except BaseException as error:  # noqa: BLE001 - nothing may leave a message unsettled
            await self._last_resort.settle(delivery, error)
        return None

    def drop(self, channel: DriverChannel) -> None:
        """Drop what a closed channel brought and has not started; cancel its runs if asked for."""
        self.workers.take_waiting()
        if self._handler.cancel_when_lost:
            for run, delivery in self.workers.in_flight():
                if delivery.channel is channel and not delivery.settled:
                    run.cancel()

    def stop(self) -> None:
        """Give back what has not started, and whatever still comes."""
        self._stopped = True
        for delivery in self.workers.take_waiting():
            self._settler.requeue(delivery)
