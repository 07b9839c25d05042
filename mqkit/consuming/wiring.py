"""Makes the consumers of a service's handlers, each with its dispatcher and its settler."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from mqkit.broker.connection import Connection
from mqkit.broker.declare import declare
from mqkit.broker.delays import DelayLadder
from mqkit.clock import Clock
from mqkit.consuming.consumer import Consumer
from mqkit.consuming.dispatcher import Dispatcher
from mqkit.consuming.ordering import KeepingConsumer, OrderedConsumer, PartitioningConsumer
from mqkit.consuming.pausing.controller import pauses_of
from mqkit.consuming.settler import OnSettled, Settler
from mqkit.message import Delivery
from mqkit.middleware import Middleware
from mqkit.outcome import Outcome
from mqkit.publishing.publisher import Publisher
from mqkit.registration.handler import Handler
from mqkit.registration.service import Service


class Wiring:
    """What the consumers of one service share."""

    def __init__(
        self,
        service: Service,
        consuming: Connection,
        publishing: Connection,
        publisher: Publisher,
        *,
        values: Mapping[Any, Any],
        middleware: tuple[Middleware, ...],
        clock: Clock,
        on_settled: OnSettled | None,
    ) -> None:
        """Make nothing yet.

        :param values: what lives as long as the service, by its type
        :param middleware: around every handler's own
        :param on_settled: an observer: see `OnSettled`
        """
        self._service = service
        self._consuming = consuming
        self._publishing = publishing
        self._publisher = publisher
        self._ladder = DelayLadder(publishing)
        self._values = values
        self._middleware = middleware
        self._clock = clock
        self._on_settled = on_settled
        self._pools: list[ThreadPoolExecutor] = []

    def close(self) -> None:
        """Start no more `def` handlers; the threads that run one end with it."""
        for pool in self._pools:
            pool.shutdown(wait=False, cancel_futures=True)

    def consumers_of(self, handler: Handler) -> Iterator[Consumer]:
        """Make the consumers of a handler: of its queue, or of each of its partitions."""
        pool = None
        if not handler.is_async:
            threads = handler.concurrency * (handler.queue.partitions or 1)
            pool = ThreadPoolExecutor(threads, thread_name_prefix=handler.name)
            self._pools.append(pool)
        dispatcher = Dispatcher(
            self._service.name,
            handler,
            middleware=self._middleware,
            values=self._values,
            providers=self._service.providers,
            executor=pool,
            store=self._service.store,
            limits=self._service.limits,
        )
        settled = self._settled_by(handler)
        options: dict[str, Any] = {
            "declared_on": self._consuming.generation,
            "store": self._service.store,
            "pauses": pauses_of(handler, self._service),
            "clock": self._clock,
        }
        if handler.order_by is None:
            settler = self._settler(handler, settled)
            keeps = handler.queue.is_single or handler.queue.needs_consumer
            kind = KeepingConsumer if keeps else Consumer
            yield kind(self._consuming, handler, dispatcher, settler, **options)
            return
        for number in range(handler.queue.partitions or 1):
            yield OrderedConsumer(
                self._consuming,
                handler,
                dispatcher,
                self._settler(handler, settled),
                queue=handler.queue.partition(number),
                **options,
            )
        if handler.queue.partition_queues():
            splitter = self._settler(handler, None)
            yield PartitioningConsumer(
                self._consuming,
                handler,
                dispatcher,
                splitter,
                declared_on=self._consuming.generation,
            )

    def _settler(self, handler: Handler, on_settled: OnSettled | None) -> Settler:
        return Settler(
            self._publisher,
            self._ladder,
            service=self._service.name,
            handler=handler.name,
            redeclare=lambda: declare(self._publishing.channel, handler.topology()),
            clock=self._clock,
            on_settled=on_settled,
        )

    def _settled_by(self, handler: Handler) -> OnSettled | None:
        store, observer = self._service.store, self._on_settled
        if store is None:
            return observer

        def tell(delivery: Delivery, outcome: Outcome) -> None:
            store.settled(handler.name, delivery, outcome)
            if observer is not None:
                observer(delivery, outcome)

        return tell
