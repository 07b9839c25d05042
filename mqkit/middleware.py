"""What a user puts around a service: middleware around every run, and observers of messages."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self, runtime_checkable

from mqkit.checks.checked import shown
from mqkit.errors import ConfigurationError
from mqkit.logging.error_reports import REPORTS, ErrorReports
from mqkit.message import Delivery, HeaderValue, Message
from mqkit.outcome import Ack, Lost, Outcome, Requeue

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


@runtime_checkable
class Observer(Protocol):
    """Watches what becomes of the messages of a running service, and changes nothing of it.

    A middleware sees what a handler did, and not what became of the message; an observer does. Its
    methods are called on the event loop and must return at once. What they raise is logged. A class
    that has this one as its base may leave out what it does not need.
    """

    def received(self, handler: str, delivery: Delivery) -> None:  # noqa: ARG002
        """Called when a delivery has come and waits for its turn; not while its handler pauses."""
        return

    def started(self, handler: str, delivery: Delivery) -> None:  # noqa: ARG002
        """Called before the handler runs for a delivery."""
        return

    def settled(self, handler: str, delivery: Delivery, outcome: Outcome) -> None:  # noqa: ARG002
        """Called after an outcome was carried out: its copy is confirmed, its ack is written.

        The outcome is `Lost` where the delivery's channel closed before that.
        """
        return

    def confirmed(self, message: Message) -> None:  # noqa: ARG002
        """Called after the broker confirmed a message of the service's publisher, or a copy."""
        return


class Observers:
    """Tells several observers of deliveries, and logs what they raise."""

    def __init__(self, observers: Iterable[Observer], reports: ErrorReports = REPORTS) -> None:
        told = tuple(observers)
        # Most leave out most of it, and a call costs each message a little.
        self._of_received = [each.received for each in told if _overrides(each, "received")]
        self._of_started = [each.started for each in told if _overrides(each, "started")]
        self._of_settled = [each.settled for each in told if _overrides(each, "settled")]
        self._reports = reports

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

    def settled(self, handler: str, delivery: Delivery, outcome: Outcome) -> None:
        """Tell them of a delivery whose outcome was carried out."""
        for settled in self._of_settled:
            try:
                settled(handler, delivery, outcome)
            except BaseException as error:  # noqa: BLE001 - it concerns nobody else
                self._log_failure(handler, "settled", error)

    def _log_failure(self, handler: str, what: str, error: BaseException) -> None:
        text = "%s: the observer of %s deliveries failed"
        self._reports.log(logger, logging.ERROR, text, handler, what, error=error)


def _overrides(observer: Observer, name: str) -> bool:
    """Tell whether an observer does anything when it is told of this."""
    return getattr(type(observer), name, None) is not getattr(Observer, name)


Dispatch = Callable[[Delivery], Awaitable[Outcome]]
"""Runs a handler for a delivery, and returns what becomes of it."""

Settle = Callable[[Delivery, Outcome], Awaitable[None]]
"""Carries out the outcome of a delivery."""

SettleAtOnce = Callable[[Delivery, Ack | Requeue | Lost], None]
"""Carries out an outcome for which nothing has to be awaited."""

RunBatch = Callable[[tuple[Delivery, ...], list[Any]], Awaitable[Any]]
"""Runs a handler for a batch of deliveries and their bodies."""


class PublishSpan(Protocol):
    """The span of one publish. As a context manager it ends with the block, and with its error."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    def end(self, error: BaseException | None = None) -> None:
        """End the span; `error` is why the message was not published."""
        ...

    def replied(self, headers: Mapping[str, HeaderValue]) -> None:
        """Link the span of a request to that of its reply, whose headers these are."""
        ...


@runtime_checkable
class MessageTracing(Protocol):
    """Makes spans of what is published and handled: `mqkit.observability.tracing.Tracing`.

    It changes nothing of a message but its headers, and raises nothing.
    """

    def reporting(self, reports: ErrorReports) -> MessageTracing:
        """Return one that says of errors what a service wants to be said of them."""
        ...

    def publishing(self, message: Message, *, ambient: bool = True) -> PublishSpan:
        """Begin the span of a publish, and put its context into the headers of the message.

        They are a dict of the message's own. A context that they have stays, and is linked to.

        :param ambient: whether what runs now is a part of a trace, which the publish belongs to
        """
        ...

    def created(self, message: Message) -> None:
        """Put a context into the headers of a message that is kept, and published by others."""
        ...

    def received(self, delivery: Delivery) -> None:
        """Note that a delivery has come, and waits for its turn."""
        ...

    def processing(self, handler: str, dispatch: Dispatch) -> Dispatch:
        """Wrap what runs a handler for one message, so that each run is a span."""
        ...

    def processing_batch(self, handler: str, run: RunBatch) -> RunBatch:
        """Wrap what runs a handler for a batch, so that each run is a span."""
        ...

    def settling(self, handler: str, settle: Settle) -> Settle:
        """Wrap what carries out outcomes, so that each is a span."""
        ...

    def settling_at_once(self, handler: str, settle: SettleAtOnce) -> SettleAtOnce:
        """Wrap what carries out outcomes without a wait, so that each is a span."""
        ...


def checked_tracing(tracing: object, option: str) -> MessageTracing | None:
    """Return what was given for tracing, if it is that, or None.

    :param option: what an error calls it
    :raises ConfigurationError: it is something else
    """
    if tracing is None or isinstance(tracing, MessageTracing):
        return tracing
    raise ConfigurationError(
        f"{option} takes Tracing(...) of mqkit.observability.tracing, not {shown(tracing)}"
    )
