"""Makes the consumers of a service's handlers out of their parts."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from mqkit.broker.connection import Connection
from mqkit.broker.declare import declare
from mqkit.broker.delays import DelayLadder
from mqkit.clock import Clock
from mqkit.codec import DeliveryDecoder
from mqkit.consuming.consumer import Consumer, KeepingConsumer
from mqkit.consuming.dispatcher import Dispatcher
from mqkit.consuming.failures import FailureJudge, LastResort
from mqkit.consuming.handover.priorities import priority_arguments
from mqkit.consuming.invoker import Invoker
from mqkit.consuming.ordering import HeldRetries, OrderKeys, PartitionRouter
from mqkit.consuming.pausing.controller import PauseController, pauses_of
from mqkit.consuming.pausing.waits import Waits
from mqkit.consuming.processor import Processor
from mqkit.consuming.republisher import Republisher
from mqkit.consuming.settler import Settler
from mqkit.consuming.subscription import Subscription
from mqkit.consuming.together.batching import Batcher
from mqkit.consuming.together.gathering import BatchProcessor
from mqkit.consuming.together.sharing import Sharing
from mqkit.hooks.tracing import Dispatch, MessageTracing, RunBatch
from mqkit.limits import DEFAULT_LIMITS, Limits
from mqkit.logging.delivery_log import DeliveryLog
from mqkit.logging.error_reports import REPORTS, ErrorReports
from mqkit.message import Delivery
from mqkit.middleware import Middleware, Observer, Observers
from mqkit.publishing.publisher import Publisher
from mqkit.registration.handler import Handler
from mqkit.registration.injection import Provider
from mqkit.registration.keys import is_getter
from mqkit.registration.service import Service
from mqkit.registration.transactions import TransactionalStore
from mqkit.system.machine import Machine
from mqkit.topology import Exchange


@dataclass(frozen=True, slots=True)
class Running:
    """Holds what runs one handler, for all of its consumers."""

    handler: Handler
    decoder: DeliveryDecoder
    invoker: Invoker
    judge: FailureJudge
    tracing: MessageTracing | None
    times_runs: bool = False
    """Whether each delivery is to say when it ran."""

    @property
    def dispatcher(self) -> Dispatcher:
        """Make what runs the handler for one message at a time."""
        return Dispatcher(self.decoder, self.invoker, self.judge, times_runs=self.times_runs)

    def dispatch(self) -> Dispatch:
        """Make the dispatcher's call, and what traces it."""
        dispatch = self.dispatcher.dispatch
        if self.tracing is None:
            return dispatch
        return self.tracing.processing(self.handler.name, dispatch)

    def batcher(self) -> Batcher:
        """Make what runs the handler for a batch of messages."""
        run: RunBatch | None = None
        if self.tracing is not None:
            run = self.tracing.processing_batch(self.handler.name, self.invoker.invoke_batch)
        return Batcher(
            self.handler, self.decoder, self.invoker, self.judge, run, times_runs=self.times_runs
        )


def running(
    service: str,
    handler: Handler,
    *,
    middleware: tuple[Middleware, ...] = (),
    values: Mapping[Any, Any] | None = None,
    providers: Mapping[Any, Provider] | None = None,
    executor: Executor | None = None,
    store: TransactionalStore | None = None,
    limits: Limits = DEFAULT_LIMITS,
    check_exchange: Callable[[Exchange], None] | None = None,
    reports: ErrorReports = REPORTS,
    tracing: MessageTracing | None = None,
    times_runs: bool = False,
) -> Running:
    """Make the parts that run a handler; bodies over the `limits` are dead-lettered undecoded.

    `reports` says of errors what the service wants in its log; with `times_runs` each delivery says
    when it ran. The other arguments are `Invoker`'s.
    """
    invoker = Invoker(
        service,
        handler,
        middleware=middleware,
        values=values or {},
        providers=providers or {},
        executor=executor,
        store=store,
        limits=limits,
        check_exchange=check_exchange,
        tracing=tracing,
    )
    judge = FailureJudge(handler, has_transaction=invoker.needs_message_id, reports=reports)
    decoder = DeliveryDecoder(handler.plan.decoder, limits)
    return Running(handler, decoder, invoker, judge, tracing, times_runs)


class Wiring:
    """Makes consumers, and holds what those of one service share."""

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
        machine: Machine,
        observers: Sequence[Observer],
    ) -> None:
        """Make nothing yet.

        :param values: what lives as long as the service, by its type
        :param middleware: around every handler's own
        :param observers: are told of deliveries, beside the service's store
        """
        self._service = service
        self._consuming = consuming
        self._publishing = publishing
        self._publisher = publisher
        self._ladder = DelayLadder(publishing)
        self._values = values
        self._middleware = middleware
        self._clock = clock
        told = [each for each in (service.store, *observers) if each is not None]
        self._observer = Observers(told, service.error_reports) if told else None
        self._machine = machine
        self._pools: list[Executor] = []

    def close(self) -> None:
        """Start no more `def` handlers; the threads that run one end with it."""
        for pool in self._pools:
            pool.shutdown(wait=False, cancel_futures=True)

    def consumers_of(self, handler: Handler) -> Iterable[Consumer]:
        """Make the consumers of a handler: of its queue, or of each of its partitions."""
        made = running(
            self._service.name,
            handler,
            middleware=self._middleware,
            values=self._values,
            providers=self._service.providers,
            executor=self._executor_of(handler),
            store=self._service.store,
            limits=self._service.limits,
            check_exchange=self._service.check_exchange,
            reports=self._service.error_reports,
            tracing=self._service.tracing,
            times_runs=self._observer is not None and self._observer.times_runs,
        )
        consumer = self._one_by_one if handler.batch is None else self._in_batches
        if handler.order_by is None:
            return [consumer(handler, made, handler.queue.name)]
        # A function of the application's own may change the body that it is given.
        is_read = is_getter(handler.order_by)
        keys = OrderKeys(handler, made.decoder.decode_ahead if is_read else made.decoder.decode)
        partitions = (handler.queue.partition(n) for n in range(handler.queue.partitions or 1))
        return [
            *(consumer(handler, made, name, keys) for name in partitions),
            *self._router(handler, keys),
        ]

    def _executor_of(self, handler: Handler) -> Executor | None:
        if handler.is_async:
            return None
        threads = handler.concurrency * (handler.queue.partitions or 1)
        pool = self._machine.executor(threads, handler.name)
        self._pools.append(pool)
        return pool

    def _one_by_one(
        self, handler: Handler, made: Running, queue: str, keys: OrderKeys | None = None
    ) -> Consumer:
        sharing = self._sharing(handler, made)
        run = made.dispatch() if sharing is None else sharing.dispatch
        pauses, dispatch = self._paused(handler, run)
        held = None if keys is None else self._held(handler, dispatch, keys)
        return self._consumer(
            handler,
            queue,
            functools.partial(Processor, dispatch=dispatch if held is None else held.dispatch),
            pauses=pauses,
            limit=handler.concurrency,
            keys=keys,
            wait_for_thread=None if handler.is_async else made.invoker.wait_for_thread,
            release=[] if held is None else [held.stop],
            sharing=sharing,
        )

    def _in_batches(
        self, handler: Handler, made: Running, queue: str, keys: OrderKeys | None = None
    ) -> Consumer:
        batcher = made.batcher()
        pauses, dispatch = self._paused(handler, batcher.dispatch)
        held = None if keys is None else self._held(handler, dispatch, keys)
        return self._consumer(
            handler,
            queue,
            functools.partial(BatchProcessor, batcher, pauses=pauses, held=held),
            pauses=pauses,
            # Messages of a batch are all under way together, and wait for each other. Of a key one
            # is under way at a time, so that a batch has no two of one.
            limit=handler.prefetch,
            keys=keys,
            wait_for_thread=None,  # a batch waits for its own
            release=[batcher.stop] if held is None else [held.stop, batcher.stop],
        )

    def _router(self, handler: Handler, keys: OrderKeys) -> Iterator[Consumer]:
        """Make what sends the messages of a queue to its partitions, where it has several."""
        if not handler.queue.partition_queues():
            return
        route = PartitionRouter(handler, keys).dispatch
        yield self._consumer(
            handler,
            handler.queue.name,
            functools.partial(Processor, dispatch=route),
            pauses=PauseController(handler, (), route, self._clock),
            limit=handler.prefetch,
            keys=keys,
            wait_for_thread=None,
            release=[],
            is_watched=False,  # a message that goes to its partition has not ended
        )

    def _held(self, handler: Handler, dispatch: Dispatch, keys: OrderKeys) -> HeldRetries:
        log = self._log_of(handler)
        return HeldRetries(handler, dispatch, keys, log, observer=self._observer)

    def _sharing(self, handler: Handler, made: Running) -> Sharing | None:
        """Make what lets runs share a store's commits; None where each has its own."""
        store = self._service.store
        if store is None or not made.invoker.shares_commits:
            return None
        return Sharing(handler, store, made.dispatch())

    def _paused(self, handler: Handler, dispatch: Dispatch) -> tuple[PauseController, Dispatch]:
        """Make the pauses around a dispatch; a handler without any keeps the dispatch as it is."""
        pauses = pauses_of(handler, self._service)
        reports = self._service.error_reports
        controller = PauseController(
            handler, pauses, dispatch, self._clock, reports, thread=self._machine.thread
        )
        return controller, controller.dispatch if pauses else dispatch

    def _consumer(
        self,
        handler: Handler,
        queue: str,
        processing: Callable[..., Processor],
        *,
        pauses: PauseController,
        limit: int,
        keys: OrderKeys | None,
        wait_for_thread: Callable[[Delivery], Awaitable[None]] | None,
        release: Sequence[Callable[[], None]],
        is_watched: bool = True,
        sharing: Sharing | None = None,
    ) -> Consumer:
        observer = self._observer if is_watched else None
        alone = handler.queue.is_single or handler.queue.needs_consumer
        keeps_place = keys is not None or alone
        settler = self._settler(handler, observer, keeps_place=keeps_place)
        last_resort = LastResort(handler, settler, reports=self._service.error_reports)
        processor = processing(
            handler,
            queue,
            limit=limit,
            key=_message_id if keys is None else keys.or_none,
            wait_for_thread=wait_for_thread,
            settler=settler,
            last_resort=last_resort,
            observer=None if observer is None else observer.of_arrivals,
            tracing=self._service.tracing if is_watched else None,
        )
        if sharing is not None:
            sharing.attach(processor.workers)
        waits = Waits(handler, queue)
        subscription = Subscription(
            self._consuming,
            handler,
            receive=processor.receive,
            on_lost=processor.drop,
            declared_on=self._consuming.generation,
            queue=queue,
            arguments=priority_arguments(handler, queue),
            on_closed=waits.closed,
            give_back=settler.give_back_all,
        )
        kind = KeepingConsumer if keeps_place else Consumer
        return kind(
            handler,
            queue,
            subscription=subscription,
            processor=processor,
            settler=settler,
            last_resort=last_resort,
            pauses=pauses,
            waits=waits,
            release=release,
        )

    def _log_of(self, handler: Handler) -> DeliveryLog:
        return DeliveryLog(
            self._service.name,
            handler.name,
            reports=self._service.error_reports,
            package=handler.name.partition(".")[0],
            attempts=handler.retry.attempts,
        )

    def _settler(
        self, handler: Handler, observer: Observers | None, *, keeps_place: bool
    ) -> Settler:
        republisher = Republisher(
            self._publisher,
            self._ladder,
            log=self._log_of(handler),
            redeclare=lambda: declare(self._publishing.channel, handler.topology()),
            clock=self._clock,
        )
        return Settler(republisher, observer, keeps_place=keeps_place)


_message_id = attrgetter("properties.message_id")
