"""A service: the handlers that one process runs, and everything stated about them.

Registration does all the checking and no I/O; `runtime` runs what is registered here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable
from typing import Any, TypeVar

from mqkit.checks import checked
from mqkit.checks.calls import names_its_options
from mqkit.checks.checked import Seconds
from mqkit.checks.names import check_name
from mqkit.errors import ConfigurationError, HandlerError
from mqkit.hooks.tracing import MessageTracing, checked_tracing
from mqkit.limits import DEFAULT_LIMITS, Limits, checked_limits
from mqkit.logging.error_reports import Detail
from mqkit.middleware import Middleware
from mqkit.pause import Pause
from mqkit.registration.handler import Handler
from mqkit.registration.injection import Provider, Scope, batch_plan, plan, provider
from mqkit.registration.options import (
    DEFAULT_PREFETCH,
    batch_prefetch,
    check_batch_wait,
    check_order,
    checked_batch,
    checked_middleware,
    checked_order,
    checked_pause,
    checked_reports,
    checked_retry,
    checked_runs,
    checked_timeout,
    is_async,
    name_of,
    refuse_asynchronous_arguments,
    refuse_unrun,
    registers,
)
from mqkit.registration.published import PublishCheck, checked_publishes
from mqkit.registration.queues import check_queue, checked_sources, with_handler
from mqkit.registration.sagas import handlers_of
from mqkit.registration.transactions import (
    TransactionalStore,
    check_kind,
    check_transactional,
    needs_transaction,
)
from mqkit.retry import Retry
from mqkit.topology import Exchange, Queue, Sent, Source, Topology

MAX_SERVICE_NAME = 200
"""Bytes: it is the `app-id` of messages, a short string, and begins the names of connections."""

F = TypeVar("F", bound=Callable[..., Any])
S = TypeVar("S", bound=type[Any])


class Service:
    """A named set of handlers.

    `retry` and `middleware` hold for every handler that does not state its own policy, and
    around every handler's own middleware.

    `connection` is an aio-pika connection for the service to use, instead of a URL: an open one
    (`aio_pika.connect`), which stays the application's to close and to recover, or an async
    function without arguments that opens one, which mqkit calls for each connection that it
    needs and again to recover, and whose connections mqkit closes. Such a borrowed connection
    carries consuming and publishing, so that an alarm of the broker holds up its acks as well.

    `store` (`mqkit.store.Store`) keeps what became of each message, and has transactions for
    handlers that ask for one, so that a message that comes twice has one effect.

    `limits` are for the messages that its handlers get and those that its publisher publishes.
    What is over them is dead-lettered undecoded, and refused, respectively.

    `publishes` are the exchanges that it publishes to, which are declared when it starts. Where it
    is given, a publish to any other `Exchange` is refused, those of its bindings apart; to the
    name of an exchange it is not. `Exchange.carries(key, Order)` in it says what is published
    there, too, for `mqkit asyncapi`; nothing is refused for it.

    `pause` says when a handler that does not state its own stops consuming for a while, because
    something that it depends on is down. Each handler is paused by itself.

    `log_errors` is how much of a failure's error is logged: its `"type"` and place, its `"text"`
    and its cause as well, or a `"traceback"`, too. In that, and in a dead letter's account of its
    failure, what looks like a secret is masked, and what `masks` names: fields, whose values are
    masked wherever `name=value` or the like stands, and compiled patterns.

    `tracing` (`mqkit.observability.tracing.Tracing`) makes spans of what it handles and publishes.

    :raises ConfigurationError: the name is empty or too long, or an option is not what it takes;
        the connection is looked at when a `Runtime` is made of it
    """

    @names_its_options("Service", error=ConfigurationError)
    def __init__(
        self,
        name: str,
        *,
        retry: Retry | None = None,
        middleware: Iterable[Middleware] = (),
        connection: Any = None,
        store: TransactionalStore | None = None,
        limits: Limits = DEFAULT_LIMITS,
        pause: Pause | None = None,
        publishes: Iterable[Exchange | Sent] | None = None,
        log_errors: Detail = "text",
        masks: Iterable[str | re.Pattern[str]] = (),
        tracing: MessageTracing | None = None,
    ) -> None:
        if not isinstance(name, str) or not name.strip():
            raise ConfigurationError(f"a service needs a name; got {name!r}")
        check_name("a service", name, MAX_SERVICE_NAME)
        self.name = name
        self.retry = checked_retry(retry, f"service {name!r}")
        self.middleware = checked_middleware(middleware, f"service {name!r}")
        self.connection = connection
        if store is not None and not callable(getattr(store, "run_once", None)):
            raise ConfigurationError(
                f"service {name!r}: store takes Store(...), not {checked.shown(store)}"
            )
        self.store = store
        self.limits = checked_limits(limits, f"service {name!r}: limits")
        self.pause = checked_pause(pause, f"service {name!r}")
        self.error_reports = checked_reports(log_errors, masks, f"service {name!r}")
        tracing = checked_tracing(tracing, f"service {name!r}: tracing")
        self.tracing = None if tracing is None else tracing.reporting(self.error_reports)
        self.running: set[int] = set()
        """The runtimes that run it now, by their `id`; they know the handlers of their start."""
        self._handlers: dict[str, Handler] = {}
        self.sagas: dict[str, Any] = {}  # their classes, by their names
        self._providers: dict[Any, Provider] = {}
        self._is_told = publishes is not None
        self._published, self.sent = checked_publishes(publishes or (), f"service {name!r}")
        self._topology = self._published

    def __repr__(self) -> str:
        return f"Service({self.name!r}, {len(self._handlers)} handlers)"

    @property
    def handlers(self) -> tuple[Handler, ...]:
        """The handlers, in the order of their registration."""
        return tuple(self._handlers.values())

    @property
    def providers(self) -> dict[Any, Provider]:
        """Type to provider; a copy."""
        return dict(self._providers)

    @property
    def topology(self) -> Topology:
        """All that it needs on the broker: what its handlers need, and what it publishes to."""
        return self._topology

    @property
    def published(self) -> tuple[Exchange, ...]:
        """The exchanges of its `publishes`."""
        return self._published.exchanges

    @property
    def check_exchange(self) -> PublishCheck | None:
        """What refuses a publish to an exchange that it does not name; None if it names none."""
        if not self._is_told:
            return None
        return PublishCheck(self.name, self._topology.exchanges)

    def provide(self, type_: Any, factory: Callable[..., Any], *, scope: Scope = "message") -> None:
        """Let handlers that are registered after this take an argument of `type_`.

        `factory` may be a function, a coroutine function, or a generator function (plain or
        asynchronous) used as a context manager; its own arguments are injected too. With
        scope='message' it runs for each message, and with 'service' once, before the first.

        :raises HandlerError: the type is provided already, or the factory cannot be used
        """
        self._check_not_running(f"provide({type_!r})")
        if not checked.is_hashable(type_):
            raise HandlerError(
                f"service {self.name!r}: provide takes a type, not {checked.shown(type_)}"
            )
        if type_ in self._providers:
            raise HandlerError(f"service {self.name!r}: {type_!r} is provided already")
        self._providers[type_] = provider(type_, factory, scope, self._providers)

    @registers('@service.handler(Queue("..."))')
    def handler(
        self,
        queue: Queue,
        *,
        bind: Source | Iterable[Source] = (),
        retry: Retry | None = None,
        prefetch: int = DEFAULT_PREFETCH,
        concurrency: int | None = None,
        middleware: Iterable[Middleware] = (),
        timeout: Seconds | None = None,
        cancel_when_lost: bool = False,
        pause: Pause | None = None,
        order_by: Callable[[Any], Hashable] | str | None = None,
        share_commits: bool = True,
    ) -> Callable[[F], F]:
        """Register the decorated function for a queue; the function itself stays as it is.

        `bind` takes what `Exchange.key()` returns, one or many. `prefetch` is how many messages
        the broker sends ahead of their acks, `concurrency` how many runs there are at a time (by
        default 20, or `prefetch` if that is less). `async def` runs on the event loop, `def` in
        threads.

        `timeout` is how many seconds one run may take; what takes longer has failed, and the
        retry policy says what becomes of the message. It must be less than the broker's consumer
        timeout (30 minutes by default), after which the broker gives the message to somebody
        else. A thread cannot be stopped: it goes on, and sees `delivery.overdue`.

        `cancel_when_lost` cancels a run whose channel has closed. The broker delivers its message
        again in any case. Without it the run goes on, and sees `delivery.lost`.

        `pause` says when something that the handler depends on is down, so that its queue is left
        alone until that is back. A handler that takes a store's transaction pauses while the
        store is unavailable in any case; a pause `on` that error says how.

        `order_by` keeps an order: the key of a message is this function of its body, or the body's
        field of this name, of a dict its key. Messages of one key are handled one after the other
        in the order of their queue, also over processes, and those of different keys at the same
        time. A message that failed is held for its retry, and only its key waits. The queue must
        have `partitions`; each of them has the handler's `prefetch` and `concurrency`. A policy
        that could hold a message past the consumer timeout is refused. A key of None keeps no
        order.

        `share_commits` lets runs that are ready at the same time share a store's transaction, where
        the handler takes one and is quick. They go one after the other in it, and a failure is its
        own message's alone; the others may be run again for it. False gives each run its own.

        :raises HandlerError: anything about it cannot work; the message names the handler
        """

        def register(function: F) -> F:
            self._register(
                function,
                queue,
                sources=checked_sources(bind, f"handler {name_of(function)}"),
                retry=retry,
                prefetch=prefetch,
                concurrency=concurrency,
                middleware=middleware,
                timeout=timeout,
                cancel_when_lost=cancel_when_lost,
                pause=pause,
                order_by=order_by,
                share_commits=share_commits,
            )
            return function

        return register

    @registers('@service.batch(Queue("..."), size=100, within=1.0)')
    def batch(
        self,
        queue: Queue,
        *,
        size: int,
        within: Seconds,
        bind: Source | Iterable[Source] = (),
        retry: Retry | None = None,
        prefetch: int | None = None,
        concurrency: int = 1,
        middleware: Iterable[Middleware] = (),
        timeout: Seconds | None = None,
        pause: Pause | None = None,
        order_by: Callable[[Any], Hashable] | str | None = None,
    ) -> Callable[[F], F]:
        """Register the decorated function for many messages of a queue at a time.

        It takes a list of bodies, `list[Order]`, and may take `list[Delivery]`. A run is for `size`
        messages, or for those that have come `within` so many seconds of the first. What it raises
        is the failure of all of them; else it returns None if all are done, or a list with one
        result for each, of which an exception is that message's failure. The policy judges each
        message by its own attempts, and each is settled by itself.

        `concurrency` is how many runs there are at a time, and `prefetch` by default twice what
        they take, 65,535 at most. The other options are those of `handler`, and hold for a run.
        `order_by` keeps an order, as that of `handler`: a run has one message of each key at most,
        and the next one of its key comes in a later run; where one has come already, the run waits
        for no others.

        A store's transaction is one for the run, without the messages that were handled before. A
        message whose result is an exception is not noted as handled, and what was written for it is
        committed with the others' work unless the function took it back to a savepoint.

        :raises HandlerError: anything about it cannot work; the message names the handler
        """

        def register(function: F) -> F:
            what = f"handler {name_of(function)}"
            batch = checked_batch(size, within, what)
            self._register(
                function,
                queue,
                sources=checked_sources(bind, f"handler {name_of(function)}"),
                retry=retry,
                prefetch=batch_prefetch(prefetch, size, concurrency, what),
                concurrency=concurrency,
                middleware=middleware,
                timeout=timeout,
                cancel_when_lost=False,
                pause=pause,
                order_by=order_by,
                batch=batch,
            )
            return function

        return register

    def saga(self, saga: S) -> S:
        """Register the handlers of a saga, a class derived from `mqkit.sagas.Saga`; return it.

        :raises HandlerError: anything about it cannot work; the message names the saga
        """
        for each in handlers_of(saga, self.store, self.name, self.sagas):
            self.handler(each.queue, **each.options)(each.function)
        return saga

    def _register(
        self,
        function: Callable[..., Any],
        queue: Queue,
        *,
        sources: tuple[Source, ...],
        retry: Retry | None,
        prefetch: int,
        concurrency: int | None,
        middleware: Iterable[Middleware],
        timeout: Seconds | None,
        cancel_when_lost: bool,
        pause: Pause | None,
        order_by: Callable[[Any], Hashable] | str | None,
        batch: tuple[int, float] | None = None,
        share_commits: bool = True,
    ) -> None:
        if not callable(function):
            raise HandlerError(f"service {self.name!r}: {function!r} is not a function")
        name = name_of(function)
        what = f"handler {name}"
        self._check_not_running(what)
        check_queue(queue, what, self._handlers)
        refuse_unrun(function, what)
        policy = checked_retry(retry, what) or self.retry
        if policy is None:
            raise HandlerError(
                f"{what}: no failure policy. Say retry=Retry(stop=..., wait=...), or "
                "retry=Retry.never(), here or once on the service"
            )
        prefetch, concurrency = checked_runs(prefetch, concurrency, what)
        checked.flag(cancel_when_lost, f"{what}: cancel_when_lost", error=HandlerError)
        asynchronous = is_async(function)
        arguments = (plan if batch is None else batch_plan)(function, what, self._providers)
        handler = Handler(
            name=name,
            function=function,
            is_async=asynchronous,
            queue=queue,
            sources=sources,
            retry=policy,
            prefetch=prefetch,
            concurrency=concurrency,
            middleware=checked_middleware(middleware, what),
            plan=arguments,
            timeout=checked_timeout(timeout, queue, what),
            cancel_when_lost=cancel_when_lost,
            pause=checked_pause(pause, what) or self.pause,
            order_by=checked_order(order_by, arguments, what),
            batch=batch,
            share_commits=checked.flag(share_commits, f"{what}: share_commits", error=HandlerError),
        )
        check_order(handler)
        check_batch_wait(handler)
        check_kind(handler, self._providers)
        if not asynchronous:
            refuse_asynchronous_arguments(handler)
        if needs_transaction(handler.plan, self._providers):
            check_transactional(handler, self.handlers, self.store, self.name)
        try:
            handlers, topology = with_handler(
                handler, self._handlers, self._topology, self._published
            )
        except ConfigurationError as error:
            raise HandlerError(f"{what}: {error}") from error
        self._topology = topology
        self._handlers = handlers

    def _check_not_running(self, what: str) -> None:
        if self.running:
            raise HandlerError(
                f"{what}: service {self.name!r} runs already, with what was registered before its "
                "start; register all of it first, or give it to a Service of its own"
            )
