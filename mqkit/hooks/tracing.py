"""How messages are traced: what a service and a publisher call where tracing is handed to them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Any, Protocol, Self, runtime_checkable

from mqkit.checks.checked import shown
from mqkit.errors import ConfigurationError
from mqkit.logging.error_reports import ErrorReports
from mqkit.message import Delivery, HeaderValue, Message
from mqkit.outcome import Ack, Lost, Outcome, Requeue

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
    if tracing is None:
        return None
    if isinstance(tracing, MessageTracing) and not isinstance(tracing, type):
        return tracing
    raise ConfigurationError(
        f"{option} takes Tracing(...) of mqkit.observability.tracing, not {shown(tracing)}"
    )
