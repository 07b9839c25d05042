"""Runs a service: connects, declares and consumes; at its end drains, gives back and closes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Self, cast

from mqkit.broker.declare import queue_state
from mqkit.broker.policies import Management, watch
from mqkit.broker.upkeep import Upkeep
from mqkit.checks import checked
from mqkit.checks.checked import Seconds
from mqkit.clock import Clock, utc_now
from mqkit.consuming.consumer import Consumer
from mqkit.consuming.wiring import Wiring
from mqkit.drivers.base import Driver, QueueState
from mqkit.errors import ConfigurationError
from mqkit.lifecycle.closing import Closing, Step
from mqkit.lifecycle.connecting import connections_of
from mqkit.lifecycle.declaring import consumed, declare_needed
from mqkit.lifecycle.draining import CANCELLED_HANDLERS_WAIT, Drain
from mqkit.lifecycle.relaying import traced_send
from mqkit.lifecycle.saying import Saying
from mqkit.lifecycle.stalls import StallWatch
from mqkit.lifecycle.values import ServiceValues
from mqkit.lifecycle.watching import ServiceWatch, checked_observers
from mqkit.logging.error_reports import log_problem
from mqkit.middleware import Middleware, Observer, Observers, ServiceReading
from mqkit.pause import ConsumerState, Status
from mqkit.publishing.publisher import Publisher
from mqkit.registration.options import checked_middleware
from mqkit.registration.service import Service
from mqkit.registration.transactions import ThreadStore, needs_thread
from mqkit.settings import BrokerUrl
from mqkit.system.machine import MACHINE, Machine

logger = logging.getLogger(__name__)

DEFAULT_GRACE = 25.0
"""Seconds that handlers in flight get to finish once the service is told to stop.

Under the 30 s that container platforms wait before they kill.
"""

DETACHED = ConsumerState(Status.DETACHED)

CLOSING = 2.4
"""Seconds after the grace period in which cancelled handlers end, and everything is closed."""


class Runtime:
    """Runs one service in this process, on two connections: one consumes, one publishes.

    A borrowed connection, one that the application holds, is both. As an asynchronous context
    manager it starts on entry and drains on exit; `run` does both and waits in between. `grace`
    is in seconds. `connect_deadline` is after how many seconds the first connection is not
    tried again; None tries for ever. `middleware` goes around the service's own. `driver` is 'pika'
    or 'aio-pika', or what `mqkit.drivers.named` returns. A service that has a connection of its own
    takes neither `url` nor `driver`. `management` is the URL of the broker's management API, by
    which policies are seen that break what is promised. With `declare=False` it declares and binds
    nothing, and only looks whether what it needs is there, for a user who may configure nothing;
    `mqkit topology apply` puts it there. A simulation hands in its own `machine`.

    `observer` is told what becomes of deliveries, and what the service's publisher has published,
    copies of deliveries included (`mqkit.Observer`); it may be several of them. `on_stop` is called
    when it begins to stop. With `states=True` this process says how it is every two seconds, to
    exchange `mqkit.states.v1`, for `mqkit top` and the console, and runs as well where it may not.
    It runs once: after its end, and beside it, another run takes another `Runtime`.

    :raises ConfigurationError: the service has no handlers, an option cannot be what it was given,
        or there is no broker, two of them, or a connection that cannot be used
    """

    def __init__(
        self,
        service: Service,
        url: BrokerUrl | None = None,
        *,
        grace: Seconds = DEFAULT_GRACE,
        middleware: Iterable[Middleware] = (),
        connect_deadline: Seconds | None = None,
        driver: Driver | str | None = None,
        clock: Clock = utc_now,
        machine: Machine = MACHINE,
        observer: Observer | Sequence[Observer] | None = None,
        on_stop: Callable[[], None] = lambda: None,
        management: str | None = None,
        declare: bool = True,
        states: bool = False,
    ) -> None:
        _check(service)
        self._grace = checked.seconds(grace, "Runtime(grace=...)")
        if connect_deadline is not None:
            option = "Runtime(connect_deadline=...)"
            connect_deadline = checked.seconds(connect_deadline, option, over=0)
        self._connect_deadline = connect_deadline
        reports = service.error_reports
        self._saying = Saying(
            states, checked_observers(observer), clock=clock, machine=machine, reports=reports
        )
        self._told = Observers(self._saying.observers, reports)
        if service.store is not None:
            service.store.check(service.handlers)
        self.service = service
        self._url, self._consuming, self._publishing = connections_of(
            service, url, driver, clock=clock, declare=declare
        )
        self._management = Management(management, self._url.vhost) if management else None
        self.publisher = Publisher.on(
            self._publishing,
            app_id=service.name,
            on_confirmed=self._told.on_confirmed,
            on_ended=self._told.on_ended,
            limits=service.limits,
            check_exchange=service.check_exchange,
            tracing=service.tracing,
            clock=clock,
            machine=machine,
        )
        self._consumers: list[Consumer] = []
        self._stalls = StallWatch(service.name, self._url.heartbeat, self._consumers)
        self._running: list[asyncio.Task[None]] = []
        self._upkeep: Upkeep | None = None
        self._values = ServiceValues({Publisher: self.publisher})
        self._wiring = Wiring(
            service,
            self._consuming,
            self._publishing,
            self.publisher,
            values=self._values.made,
            middleware=(*checked_middleware(middleware, "Runtime"), *service.middleware),
            clock=clock,
            machine=machine,
            observers=self._saying.observers,
        )
        both = (self._consuming, self._publishing)
        self._watch = ServiceWatch(service, both, self._consumers, lambda: self.states)
        self._machine = machine
        self._on_stop = on_stop
        self._began = False
        self._closing = Closing(service.name, reports)
        self._drain = Drain(service.name, self._grace)
        self._store_is_open = False
        self._ends_at = 0.0

    @property
    def server(self) -> str:
        """The broker's product and version: 'RabbitMQ 4.0.5'."""
        return self._consuming.server

    @property
    def states(self) -> dict[str, ConsumerState]:
        """What each handler's consumer does now, by the name of its queue: for health endpoints."""
        known = {queue: DETACHED for h in self.service.handlers for queue in consumed(h)}
        known |= {each.queue: each.state for each in self._consumers}
        unbound = self._upkeep.problems if self._upkeep is not None else {}
        return known | {
            queue: replace(known[queue], because=problem)
            for queue, problem in unbound.items()
            if known[queue].status is Status.CONSUMING
        }

    @property
    def in_flight(self) -> int:
        """Deliveries whose handler runs, or whose outcome is being settled."""
        return sum(consumer.in_flight for consumer in self._consumers)

    def reading(self) -> ServiceReading:
        """Return how the service is now: its connections, consumers and store.

        The store is looked at only for an observer that overrides `running`.
        """
        return self._watch.read()

    async def run(self, stop: asyncio.Event) -> None:
        """Start, consume until `stop` is set, drain.

        :raises ConnectError: the broker cannot be reached, or refuses this user
        :raises TopologyError: the broker refused a declaration; the message names the difference
        """
        self._begin()
        stopped = asyncio.create_task(stop.wait())
        try:
            starting = asyncio.create_task(self._start())
            await asyncio.wait([stopped, starting], return_when=asyncio.FIRST_COMPLETED)
            if not starting.done():
                starting.cancel()
                await asyncio.wait([starting])
                if not starting.cancelled() and (error := starting.exception()) is not None:
                    text = "%s: stopped before it had started, and the start failed"
                    log_problem(logger, logging.WARNING, text, self.service.name, error=error)
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

    @property
    def abandoned(self) -> int:
        """Messages given back because their handlers outlasted the grace period."""
        return self._drain.abandoned

    @property
    def is_closed_badly(self) -> bool:
        """Whether closing something failed, or took too long; it is logged."""
        return bool(self._closing.errors)

    @property
    def doing(self) -> str:
        """What it does while it stops, for a person; '' before and after."""
        return self._drain.doing or self._closing.doing

    def hurry(self) -> None:
        """End the grace period now."""
        self._drain.hurry()

    async def queue_state(self, name: str) -> QueueState:
        """Ready messages and consumers of a queue, from a passive declare.

        Where there is no connection now, it waits for one, before the start too.

        :raises TopologyError: there is no such queue, or this user may not see it
        :raises ConnectError: the runtime has ended
        :raises ChannelClosedError: the connection was lost meanwhile
        """
        return await queue_state(await self._consuming.channel(), name)

    async def __aenter__(self) -> Self:
        self._begin()
        try:
            await self._start()
        except BaseException:
            self._ends_at = asyncio.get_running_loop().time() + CLOSING
            # What fails on the way out is logged; why it could not start says more.
            with contextlib.suppress(Exception):
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
        began = asyncio.get_running_loop().time()
        self._ends_at = began + self._grace + CLOSING
        self._watch.is_stopping = True
        self._on_stop()
        try:
            if self._consumers:
                await self._drain.run(self._consumers, began)
        finally:
            try:
                await self._close()
            finally:
                logger.info("%s: stopped", self.service.name)

    def _begin(self) -> None:
        if self._began:
            raise ConfigurationError(
                f"this Runtime of service {self.service.name!r} was started before, and each runs "
                "once; make another one: Runtime(service, ...)"
            )
        self._began = True
        self._told.running(self._watch.read)
        self.service.running.add(id(self))

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
        self._running += self._saying.start(self._publishing, self._watch.read)
        if (store := self.service.store) is not None:
            await store.open()
            self._store_is_open = True
            if any(needs_thread(h.plan, self.service.providers) for h in self.service.handlers):
                cast(ThreadStore, store).prepare_threads()
        if self._machine.watches_stalls:
            self._stalls.start()
        await declare_needed(self.service, self._consuming)
        if self._management is not None:
            watching = watch(self._management, self.service.name, self.service.topology.queues)
            self._running.append(asyncio.create_task(watching, name="mqkit policies"))
        self._upkeep = Upkeep(self.service.handlers, self._consuming.channel)
        self._running.append(asyncio.create_task(self._upkeep.run(), name="mqkit upkeep"))
        # Not before there is an exchange to relay to.
        if store is not None:
            send = traced_send(self.publisher.send, self.service.tracing)
            self._running += [] if (beside := store.start(send)) is None else [beside]
            if self._told.ask or self._saying.needs_readings:
                looking = self._watch.run(store)
                self._running.append(asyncio.create_task(looking, name="mqkit store watch"))
        await self._values.make(self.service.providers)
        for handler in self.service.handlers:
            for consumer in self._wiring.consumers_of(handler):
                self._consumers.append(consumer)
                task = asyncio.create_task(consumer.run(), name=f"mqkit consumer {consumer.queue}")
                self._running.append(task)
        self._watch.is_started = True
        logger.info(
            "%s: running %s on %s",
            self.service.name,
            ", ".join(f"{h.name} ({h.queue.name})" for h in self.service.handlers),
            self.server,
        )

    async def _close(self) -> None:
        """Close all that there is, the last thing made first, whatever becomes of each.

        :raises BaseException: what the first of those that failed raised; all of them are logged
        """
        store = self.service.store if self._store_is_open else None
        self._stalls.stop()
        if self._drain.is_hurried:
            self._ends_at = asyncio.get_running_loop().time() + CLOSING - CANCELLED_HANDLERS_WAIT
        steps: list[Step] = [] if store is None else [("the store's relay", store.stop)]
        steps += [("its consumers", self._end_running), *self._values.closing()]
        if store is not None:
            steps.append(("the store", store.close))
        steps += self._saying.closing()
        # Side by side: a broker that hangs lets each wait for its own timeout. Closing the
        # connection closes the consumers' channels, after the acks that were written.
        steps.append(("its connections", self._close_connections))
        await self._closing.run(steps, self._ends_at)
        self.service.running.discard(id(self))
        if self._closing.errors:
            raise self._closing.errors[0]

    async def _end_running(self) -> None:
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        self._wiring.close()

    async def _close_connections(self) -> None:
        # All begin at once: where their time is over, none of them is left open.
        await asyncio.gather(
            self.publisher.close(timeout=0), self._publishing.close(), self._consuming.close()
        )


def _check(service: Service) -> None:
    if not isinstance(service, Service):
        raise ConfigurationError(f"Runtime takes a Service, not {checked.shown(service)}")
    if not service.handlers:
        raise ConfigurationError(
            f"service {service.name!r} has no handlers: write one under "
            "@service.handler(Queue(...)), or import the module that has them"
        )
