"""Consumers that keep their place: what they hold is given back all at once, or not at all.

A single active consumer whose messages went back one by one, or that was cancelled while it holds
some, would let another process get later messages first, and run two at a time. So it keeps its
place until its runs have ended, and then closes its channel: the broker requeues the rest in order,
and the queue moves on. A queue that goes with its last consumer, or expires without one, would be
deleted with what is in it if it were not consumed during a pause.
"""

from __future__ import annotations

import random
from collections.abc import Hashable
from typing import Any

from mqkit.broker.connection import Connection
from mqkit.consuming.consumer import Consumer
from mqkit.consuming.dispatcher import Dispatcher
from mqkit.consuming.lanes import Lanes
from mqkit.consuming.ordering import InOrder, Keys, Splitter
from mqkit.consuming.settler import Settler
from mqkit.message import Delivery
from mqkit.outcome import Outcome, Requeue
from mqkit.registration.handler import Handler

PRIORITIES = 1_000_000
"""Each process draws its priority for each partition. From RabbitMQ 4.0 the highest consumes it, so
that partitions are spread over the processes, and those of one that dies over all the others
(https://www.rabbitmq.com/docs/quorum-queues#consumer-priorities)."""


class KeepingConsumer(Consumer):
    """The consumer of a queue that it may not leave while it holds messages, nor for a pause."""

    def __init__(
        self,
        connection: Connection,
        handler: Handler,
        dispatcher: Dispatcher,
        settler: Settler,
        **options: Any,
    ) -> None:
        super().__init__(connection, handler, dispatcher, settler, **options)
        self._settle = self._settle_or_leave

    def shut(self) -> None:
        """Start no more runs. What comes is held: its queue is nobody else's meanwhile."""
        self._admitting = False
        if self._batcher is not None and self._stopping:
            self._batcher.stop()

    def admit(self, prefetch: int) -> None:  # noqa: ARG002 - it holds what it held
        """Start runs again."""
        self._admitting = True
        self._runners.look()

    async def give_back(self) -> None:
        """Give nothing back: it would come again after what comes later."""

    async def hold_less(self) -> None:
        """Give back what waits, once nothing runs, and hold no more from then on than can run.

        What has to wait behind others of its key is given back again, now and then. A pause holds
        what it holds: to give it back would bring it nearer to its delivery limit each time.
        """
        if self._stopping or not self._admitting:
            return
        if self.handler.queue.auto_delete:  # it may have no moment without a consumer
            self._give_back_waiting()
            return
        self._admitting = False
        await self._runners.drained()
        await self._attachment.hold_less(self._floor)
        self._give_back_waiting()
        self._attachment.go_on()
        if not self._stopping and self._pausing.state is None:
            self.admit(self._floor)

    def longest_line(self) -> tuple[Hashable, int]:
        """Keys are meant to be waited for."""
        return (None, 0) if self.handler.order_by is not None else super().longest_line()

    async def stop(self) -> None:
        """Start no more runs; `finished` gives the rest back."""
        self._stopping = True
        if self._waiting_out is not None:
            self._waiting_out.cancel()
        self.shut()

    async def finished(self) -> None:
        """Wait until every run has ended, and give back what has not begun."""
        await super().finished()
        await self._attachment.close()

    async def _settle_or_leave(self, delivery: Delivery, outcome: Outcome) -> None:
        if isinstance(outcome, Requeue):
            self._settler.leave(delivery)
        else:
            await self._settler.settle(delivery, outcome)

    def _give_up(self, delivery: Delivery) -> None:
        self._settler.leave(delivery)


class OrderedConsumer(KeepingConsumer):
    """The consumer of one partition: one run at a time for each key, in the order of the queue."""

    def __init__(
        self,
        connection: Connection,
        handler: Handler,
        dispatcher: Dispatcher,
        settler: Settler,
        *,
        queue: str,
        **options: Any,
    ) -> None:
        priority = random.randrange(PRIORITIES)
        super().__init__(
            connection,
            handler,
            dispatcher,
            settler,
            queue=queue,
            arguments={"x-priority": priority},
            **options,
        )
        self._keys = Keys(handler, dispatcher.decode)
        self._in_order = InOrder(handler, self._dispatch, self._keys)
        self._dispatch = self._in_order.dispatch

    def _lane(self, delivery: Delivery) -> Hashable:
        return self._keys.lane(delivery)

    async def stop(self) -> None:
        """Start no more runs, and hold nothing for a retry; `finished` gives the rest back."""
        await super().stop()
        self._in_order.stop()


class SplittingConsumer(OrderedConsumer):
    """The consumer of a queue that has several partitions: sends each message to its own."""

    def __init__(
        self,
        connection: Connection,
        handler: Handler,
        dispatcher: Dispatcher,
        settler: Settler,
        **options: Any,
    ) -> None:
        super().__init__(
            connection, handler, dispatcher, settler, queue=handler.queue.name, **options
        )
        self._dispatch = Splitter(handler, self._keys).dispatch
        self._lanes = Lanes(handler.prefetch)
