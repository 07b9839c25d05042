"""What a user puts around a service: middleware around every run, and observers of messages."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, runtime_checkable

from mqkit.logging.error_reports import REPORTS, ErrorReports
from mqkit.message import Delivery, Message
from mqkit.outcome import Outcome, RetryAfter
from mqkit.pause import ConsumerState

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class HandlerCall:
    """One run of a handler, as a middleware sees it."""

    service: str
    handler: str
    delivery: Delivery
    body: Any
    """The decoded and validated body; None for a handler that takes none. Of a batch, a list."""
    deliveries: tuple[Delivery, ...] = ()
    """All of a batch, of which `delivery` is the first."""


CallNext = Callable[[HandlerCall], Awaitable[Any]]

Middleware = Callable[[HandlerCall, CallNext], Awaitable[Any]]
"""`async def middleware(call, call_next)`: await `call_next(call)` to go on.

What it raises decides the outcome as if the handler had raised it; what it returns, returns
to the middleware outside it, and of the outermost one it counts as what the handler returned: the
reply to a request, the results of a batch. One that does not go on and returns None has the
message, or the whole batch, acknowledged unhandled.
"""


def compose(middleware: Iterable[Middleware], innermost: CallNext) -> CallNext:
    """Make one function that runs the first middleware outermost and `innermost` last."""
    chain = innermost
    for layer in reversed(list(middleware)):
        chain = _wrap(layer, chain)
    return chain


def _wrap(layer: Middleware, call_next: CallNext) -> CallNext:
    async def run(call: HandlerCall) -> Any:
        return await layer(call, call_next)

    return run


@dataclass(frozen=True, slots=True)
class ConnectionReading:
    """How a connection to the broker is, and what it has been through."""

    name: str
    """What it is for: `consume` or `publish`."""
    is_up: bool
    opened: int
    """How often it was opened; all but the first are reconnects."""
    blocked_seconds: float
    """For how long, in all, the broker has blocked publishers on it."""


@dataclass(frozen=True, slots=True)
class ConsumerReading:
    """How the consumer of a queue, or of a partition of it, is."""

    handler: str
    queue: str
    """The handler's queue."""
    consumed: str
    """The queue that is consumed: the handler's, or a partition of it."""
    state: ConsumerState
    in_flight: int
    """Deliveries whose handler runs, or whose outcome is being settled."""
    pauses: int
    """How often its handler was paused."""
    settled_ago: float | None
    """Seconds since it settled anything; None: it never has."""
    is_partition: bool = False


@dataclass(frozen=True, slots=True)
class StoreReading:
    """How much a store has yet to do."""

    waiting: int | None = None
    """Messages of the outbox that are committed and not published yet, up to a limit; None: a store
    that has no outbox."""
    dead: int = 0
    """Messages of the outbox that can never be published, up to the same limit."""
    oldest: float = 0.0
    """Seconds since the oldest of those that wait was written; 0 where none waits."""
    sagas: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """Sagas that are not completed, by name and status."""


@dataclass(frozen=True, slots=True)
class ServiceReading:
    """How a running service is."""

    service: str
    is_started: bool
    """Whether it has connected and declared, and begun to consume."""
    is_stopping: bool
    connections: tuple[ConnectionReading, ...] = ()
    consumers: tuple[ConsumerReading, ...] = ()
    has_store: bool = False
    store: StoreReading | None = None
    """As of some seconds ago; None: there is none, or it did not answer."""


@runtime_checkable
class Observer(Protocol):
    """Watches what becomes of the messages of a running service, and changes nothing of it.

    A middleware sees what a handler did, and not what became of the message; an observer does. Its
    methods are called on the event loop and must return at once. What they raise is logged. A class
    that has this one as its base may leave out what it does not need.
    """

    times_runs: ClassVar[bool] = False
    """Whether it reads `Delivery.ran`, which costs each message the look at a clock."""

    def received(self, handler: str, delivery: Delivery) -> None:  # noqa: ARG002
        """Called when a delivery has come and waits for its turn; not while its handler pauses."""
        return

    def started(self, handler: str, delivery: Delivery) -> None:  # noqa: ARG002
        """Called before the handler runs for a delivery."""
        return

    def held(self, handler: str, delivery: Delivery, outcome: RetryAfter) -> None:  # noqa: ARG002
        """Called when a message that failed waits for its next attempt within this process.

        That is how handlers that keep an order retry. Others publish a copy, and are `settled`.
        """
        return

    def settled(self, handler: str, delivery: Delivery, outcome: Outcome) -> None:  # noqa: ARG002
        """Called after an outcome was carried out: its copy is confirmed, its ack is written.

        The outcome is `Lost` where the delivery's channel closed before that.
        """
        return

    def settled_together(self, handler: str, settled: Sequence[tuple[Delivery, Outcome]]) -> None:
        """Called in the place of `settled`, with all that were settled in one turn of the loop.

        Whoever is told of each message can do so at a fraction of the cost here.
        """
        for delivery, outcome in settled:
            self.settled(handler, delivery, outcome)

    def confirmed(self, message: Message) -> None:  # noqa: ARG002
        """Called after the broker confirmed a message of the service's publisher, or a copy."""
        return

    def publish_ended(self, message: Message, seconds: float, error: BaseException | None) -> None:  # noqa: ARG002
        """Called when a publish of the service's publisher has ended; also that of a copy.

        `error` is what the publish raises; None: the broker has confirmed it. `seconds` is from the
        call to then, with all waits and with publishing again.
        """
        return

    def running(self, read: Callable[[], ServiceReading]) -> None:  # noqa: ARG002
        """Called once, when the service starts, with a function that says how it is.

        That may be called at any time from then on, from any thread, and costs nothing until it is.
        """
        return


class Observers:
    """Tells several observers of deliveries, and logs what they raise."""

    def __init__(self, observers: Iterable[Observer], reports: ErrorReports = REPORTS) -> None:
        told = tuple(observers)
        # Most leave out most of it, and a call costs each message a little.
        self._of_received = [each.received for each in overriding(told, "received")]
        self._of_started = [each.started for each in overriding(told, "started")]
        self.times_runs = any(getattr(each, "times_runs", False) for each in told)
        self._of_held = [each.held for each in overriding(told, "held")]
        together = overriding(told, "settled_together")
        self._of_settled_together = [each.settled_together for each in together]
        self._of_settled = [e.settled for e in overriding(told, "settled") if e not in together]
        self._of_confirmed = [each.confirmed for each in overriding(told, "confirmed")]
        self._of_publish_ended = [each.publish_ended for each in overriding(told, "publish_ended")]
        self._of_running = [each.running for each in overriding(told, "running")]
        self._reports = reports

    @property
    def of_arrivals(self) -> Observers | None:
        """These, if one of them is told of what comes or starts; else None: nobody is called."""
        return self if self._of_received or self._of_started else None

    @property
    def on_confirmed(self) -> Callable[[Message], None] | None:
        """What tells them of confirmed messages; None if nobody is to be told."""
        return self.confirmed if self._of_confirmed else None

    @property
    def on_ended(self) -> Callable[[Message, float, BaseException | None], None] | None:
        """What tells them how publishes end; None if nobody is to be told."""
        return self.publish_ended if self._of_publish_ended else None

    @property
    def ask(self) -> bool:
        """Whether one of them wants to know how the service is."""
        return bool(self._of_running)

    def received(self, handler: str, delivery: Delivery) -> None:
        """Tell them of a delivery that has come."""
        for received in self._of_received:
            try:
                received(handler, delivery)
            except BaseException as error:  # noqa: BLE001 - it concerns nobody else
                self._log_failure(handler, "received", error)

    def started(self, handler: str, delivery: Delivery) -> None:
        """Tell them of a delivery whose handler is called now."""
        for started in self._of_started:
            try:
                started(handler, delivery)
            except BaseException as error:  # noqa: BLE001 - it concerns nobody else
                self._log_failure(handler, "started", error)

    def held(self, handler: str, delivery: Delivery, outcome: RetryAfter) -> None:
        """Tell them of a message that waits here for its next attempt."""
        for held in self._of_held:
            try:
                held(handler, delivery, outcome)
            except BaseException as error:  # noqa: BLE001 - it concerns nobody else
                self._log_failure(handler, "held", error)

    def settled(self, handler: str, delivery: Delivery, outcome: Outcome) -> None:
        """Tell them of a delivery whose outcome was carried out."""
        for settled in self._of_settled:
            try:
                settled(handler, delivery, outcome)
            except BaseException as error:  # noqa: BLE001 - it concerns nobody else
                self._log_failure(handler, "settled", error)
        for together in self._of_settled_together:
            try:
                together(handler, ((delivery, outcome),))
            except BaseException as error:  # noqa: BLE001 - it concerns nobody else
                self._log_failure(handler, "settled", error)

    def settled_together(self, handler: str, settled: Sequence[tuple[Delivery, Outcome]]) -> None:
        """Tell them of deliveries whose acks were written together."""
        for together in self._of_settled_together:
            try:
                together(handler, settled)
            except BaseException as error:  # noqa: BLE001 - it concerns nobody else
                self._log_failure(handler, "settled", error)
        for each in self._of_settled:
            for delivery, outcome in settled:
                try:
                    each(handler, delivery, outcome)
                except BaseException as error:  # noqa: BLE001 - it concerns nobody else
                    self._log_failure(handler, "settled", error)

    def confirmed(self, message: Message) -> None:
        """Tell them of a message that the broker has confirmed."""
        for confirmed in self._of_confirmed:
            try:
                confirmed(message)
            except BaseException as error:  # noqa: BLE001 - it concerns nobody else
                text = "the observer of confirmed messages failed"
                self._reports.log(logger, logging.ERROR, text, error=error)

    def publish_ended(self, message: Message, seconds: float, error: BaseException | None) -> None:
        """Tell them of a publish that has ended."""
        for ended in self._of_publish_ended:
            try:
                ended(message, seconds, error)
            except BaseException as problem:  # noqa: BLE001 - it concerns nobody else
                text = "the observer of publishes failed"
                self._reports.log(logger, logging.ERROR, text, error=problem)

    def running(self, read: Callable[[], ServiceReading]) -> None:
        """Tell them that the service starts."""
        for running in self._of_running:
            try:
                running(read)
            except BaseException as error:  # noqa: BLE001 - it concerns nobody else
                text = "the observer of the running service failed"
                self._reports.log(logger, logging.ERROR, text, error=error)

    def _log_failure(self, handler: str, what: str, error: BaseException) -> None:
        text = "%s: the observer of %s deliveries failed"
        self._reports.log(logger, logging.ERROR, text, handler, what, error=error)


def overriding(observers: Iterable[Observer], name: str) -> list[Observer]:
    """Return the observers that do anything when they are told of this."""
    nothing = (None, getattr(Observer, name))
    return [each for each in observers if getattr(type(each), name, None) not in nothing]
