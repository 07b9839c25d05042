"""Runs a service: connects, declares, consumes; and on the way out drains, gives back, closes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

from mqkit import checked, drivers
from mqkit.checked import Seconds
from mqkit.connection import Connection
from mqkit.consumer import Consumer
from mqkit.declare import declare
from mqkit.delay import DelayLadder
from mqkit.dispatch import Clock, Dispatcher, utc_now
from mqkit.drivers.base import Driver, QueueState
from mqkit.errors import ChannelClosedError, ConfigurationError, TopologyError
from mqkit.handler import Handler
from mqkit.invoker import make
from mqkit.message import Delivery
from mqkit.middleware import Middleware
from mqkit.ordered import KeepingConsumer, OrderedConsumer, SplittingConsumer
from mqkit.outcome import Outcome
from mqkit.pause import ConsumerState, Status
from mqkit.pausing import pauses_of
from mqkit.publish_many import OnConfirmed
from mqkit.publisher import Publisher
from mqkit.service import Service
from mqkit.settings import BrokerUrl
from mqkit.settle import OnSettled, Settler

logger = logging.getLogger(__name__)

DEFAULT_GRACE = 25.0
"""Seconds that handlers in flight get to finish once the service is told to stop.

Under the 30 s that container platforms wait before they kill.
"""

DETACHED = ConsumerState(Status.DETACHED)

CANCELLED_HANDLERS_WAIT = 2.0
"""Seconds that cancelled handlers get to clean up after the grace period."""


class Runtime:
    """One service running in this process, on two connections: one consumes, one publishes.

    As an asynchronous context manager it starts on entry and drains on exit; `run` does both
    and waits in between. `grace` is in seconds. `connect_deadline` is how many seconds the first
    connection may take; None tries for ever. `middleware` goes around the service's own. A
    service that has a connection of its own takes neither `url` nor `driver`.

    `on_settled` and `on_confirmed` observe what becomes of deliveries and what the service's
    publisher has published, copies of deliveries included (`mqkit.settle.OnSettled`,
    `mqkit.publisher.OnConfirmed`). Nothing else is told the whole truth: a middleware sees what a
    handler did, and not what became of the message.

    :raises ConfigurationError: the service has no handlers, a time cannot be what it was given, or
        there is no broker, two of them, or a connection that cannot be used
    """

    def __init__(
        self,
        service: Service,
        url: BrokerUrl | None = None,
        *,
        grace: Seconds = DEFAULT_GRACE,
        middleware: Iterable[Middleware] = (),
        connect_deadline: Seconds | None = None,
        driver: Driver | None = None,
        clock: Clock = utc_now,
        on_settled: OnSettled | None = None,
        on_confirmed: OnConfirmed | None = None,
    ) -> None:
        if not service.handlers:
            raise ConfigurationError(f"service {service.name!r} has no handlers")
        self._grace = checked.seconds(grace, "Runtime(grace=...)")
        if connect_deadline is not None:
            option = "Runtime(connect_deadline=...)"
            connect_deadline = checked.seconds(connect_deadline, option, over=0)
        self._connect_deadline = connect_deadline
        if service.store is not None:
            service.store.check(service.handlers)
        self.service = service
        self._url, driver = _broker(service, url, driver)
        self._middleware = (*middleware, *service.middleware)
        self._clock = clock
        self._on_settled = on_settled
        self._consuming = Connection(self._url, name=f"{service.name}.consume", driver=driver)
        self._publishing = Connection(self._url, name=f"{service.name}.publish", driver=driver)
        self.publisher = Publisher(
            self._publishing,
            app_id=service.name,
            on_confirmed=on_confirmed,
            limits=service.limits,
        )
        self._ladder = DelayLadder(self._publishing)
        self._consumers: list[Consumer] = []
        self._running: list[asyncio.Task[None]] = []
        self._pools: list[ThreadPoolExecutor] = []
        self._values: dict[Any, Any] = {Publisher: self.publisher}
        self._resources = contextlib.AsyncExitStack()
        self._abandon_now = asyncio.Event()
        self._store_is_open = False
        self.abandoned = 0
        """Messages given back because their handlers outlasted the grace period."""

    @property
    def server(self) -> str:
        """The broker's product and version: 'RabbitMQ 4.0.5'."""
        return self._consuming.server

    @property
    def states(self) -> dict[str, ConsumerState]:
        """What each handler's consumer does now, by the name of its queue: for health endpoints."""
        known = {queue: DETACHED for h in self.service.handlers for queue in _consumed(h)}
        return known | {each.queue: each.state for each in self._consumers}

    @property
    def in_flight(self) -> int:
        """Deliveries whose handler runs, or whose outcome is being settled."""
        return sum(consumer.in_flight for consumer in self._consumers)

    async def run(self, stop: asyncio.Event) -> None:
        """Start, consume until `stop` is set, drain.

        :raises ConnectError: the broker cannot be reached, or refuses this user
        :raises TopologyError: the broker refused a declaration; the message names the difference
        """
        stopped = asyncio.create_task(stop.wait())
        try:
            starting = asyncio.create_task(self._start())
            await asyncio.wait([stopped, starting], return_when=asyncio.FIRST_COMPLETED)
            if not starting.done():
                starting.cancel()
                await asyncio.wait([starting])
                return
            starting.result()
            failed = asyncio.create_task(self.failed())
            await asyncio.wait([stopped, failed], return_when=asyncio.FIRST_COMPLETED)
            failed.cancel()
            if failed.done():
                failed.result()
        finally:
            stopped.cancel()
            await self._stop()

    async def failed(self) -> None:
        """Wait until a consumer or a connection ends by itself, with an error, and raise that."""
        done, _ = await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()

    def hurry(self) -> None:
        """End the grace period now."""
        self._abandon_now.set()

    async def queue_state(self, name: str) -> QueueState:
        """Ready messages and consumers of a queue, from a passive declare.

        :raises TopologyError: there is no such queue
        :raises ChannelClosedError: the connection was lost meanwhile
        """
        channel = await self._consuming.channel()
        try:
            state = await channel.declare_queue(name, passive=True)
        except ChannelClosedError as error:
            if not error.code:
                raise
            raise TopologyError(f"queue {name}: {error.text}") from error
        await channel.close()
        return state

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._stop()

    async def _stop(self) -> None:
        try:
            if self._consumers:
                await self._drain()
        finally:
            await self._close()
            logger.info("%s: stopped", self.service.name)

    async def _start(self) -> None:
        logger.info(
            "%s: connecting to %s",
            self.service.name,
            self._url if self.service.connection is None else self._url.hosts[0],
        )
        await self._consuming.open(self._connect_deadline)
        await self._publishing.open(self._connect_deadline)
        self._running += [
            asyncio.create_task(each.given_up(), name=f"mqkit connection {each.name} given up")
            for each in (self._consuming, self._publishing)
        ]
        await self._open_store()
        await declare(self._consuming.channel, self.service.topology)
        self._start_store()
        await self._make_values()
        for handler in self.service.handlers:
            for consumer in self._consumers_of(handler):
                self._consumers.append(consumer)
                task = asyncio.create_task(consumer.run(), name=f"mqkit consumer {consumer.queue}")
                self._running.append(task)
        logger.info(
            "%s: running %s on %s",
            self.service.name,
            ", ".join(f"{h.name} ({h.queue.name})" for h in self.service.handlers),
            self.server,
        )

    async def _open_store(self) -> None:
        store = self.service.store
        if store is None:
            return
        await store.open()
        self._store_is_open = True

    def _start_store(self) -> None:
        """Start what goes on beside; not before there is an exchange to relay to."""
        store = self.service.store
        if store is None:
            return
        beside = store.start(self.publisher.send)
        if beside is not None:
            self._running.append(beside)

    async def _make_values(self) -> None:
        await self._resources.__aenter__()
        for kind, provider in self.service.providers.items():
            if provider.scope == "service":
                arguments = {name: self._values[n] for name, n in provider.parameters.items()}
                self._values[kind] = await make(provider, arguments, self._resources)

    def _consumers_of(self, handler: Handler) -> Iterator[Consumer]:
        pool = None
        if not handler.is_async:
            threads = handler.concurrency * (handler.queue.partitions or 1)
            pool = ThreadPoolExecutor(threads, thread_name_prefix=handler.name)
            self._pools.append(pool)
        dispatcher = Dispatcher(
            self.service.name,
            handler,
            middleware=self._middleware,
            values=self._values,
            providers=self.service.providers,
            executor=pool,
            store=self.service.store,
            limits=self.service.limits,
        )
        settled = self._settled_by(handler)
        options: dict[str, Any] = {
            "declared_on": self._consuming.generation,
            "store": self.service.store,
            "pauses": pauses_of(handler, self.service),
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
            yield SplittingConsumer(
                self._consuming,
                handler,
                dispatcher,
                splitter,
                declared_on=self._consuming.generation,
            )

    def _settler(self, handler: Handler, on_settled: OnSettled | None) -> Settler:
        return Settler(
            self.publisher,
            self._ladder,
            service=self.service.name,
            handler=handler.name,
            redeclare=lambda: declare(self._publishing.channel, handler.topology()),
            clock=self._clock,
            on_settled=on_settled,
        )

    def _settled_by(self, handler: Handler) -> OnSettled | None:
        store, observer = self.service.store, self._on_settled
        if store is None:
            return observer

        def tell(delivery: Delivery, outcome: Outcome) -> None:
            store.settled(handler.name, delivery, outcome)
            if observer is not None:
                observer(delivery, outcome)

        return tell

    async def _drain(self) -> None:
        began = asyncio.get_running_loop().time()
        await asyncio.gather(*(consumer.stop() for consumer in self._consumers))
        logger.info(
            "%s: draining, %d in flight, up to %g s",
            self.service.name,
            self.in_flight,
            self._grace,
        )
        finished = asyncio.gather(*(consumer.finished() for consumer in self._consumers))
        hurried = asyncio.create_task(self._abandon_now.wait())
        either: list[asyncio.Future[Any]] = [finished, hurried]
        left = max(began + self._grace - asyncio.get_running_loop().time(), 0.0)
        await asyncio.wait(either, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        hurried.cancel()
        if finished.done():
            return
        for consumer in self._consumers:
            count = await consumer.abandon()
            self.abandoned += count
            if count:
                logger.warning(
                    "%s: %d did not finish in time; requeued", consumer.handler.name, count
                )
        await asyncio.wait([finished], timeout=CANCELLED_HANDLERS_WAIT)
        finished.cancel()

    async def _close(self) -> None:
        if self._store_is_open and self.service.store is not None:
            await self.service.store.stop()
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        for pool in self._pools:
            pool.shutdown(wait=False, cancel_futures=True)
        try:
            await self._resources.aclose()
            if self._store_is_open and self.service.store is not None:
                await self.service.store.close()
        finally:
            # Side by side: a broker that hangs lets each wait for its own timeout. Closing the
            # connection closes the consumers' channels, after the acks that were written.
            await asyncio.gather(self._close_publishing(), self._consuming.close())

    async def _close_publishing(self) -> None:
        await self.publisher.close()
        await self._publishing.close()


def _consumed(handler: Handler) -> tuple[str, ...]:
    """The names of the queues that a handler consumes."""
    return (handler.queue.name, *(each.name for each in handler.queue.partition_queues()))


def _broker(
    service: Service, url: BrokerUrl | None, driver: Driver | None
) -> tuple[BrokerUrl, Driver]:
    """Where the broker is, and by which driver to go there."""
    if service.connection is None:
        if url is None:
            raise ConfigurationError(
                f"service {service.name!r} has no broker: give a BrokerUrl, or "
                "Service(connection=...)"
            )
        return url, driver or drivers.named()
    if url is not None or driver is not None:
        raise ConfigurationError(
            f"service {service.name!r} has a connection of its own: give no URL and no driver"
        )
    return drivers.of_application(service.connection)
