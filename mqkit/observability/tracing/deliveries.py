"""Makes the spans of deliveries: receive, process and settle.

Of one message they are:

    publish                      where it was published, another process mostly
      receive                    from when it came until its turn
      process                    a run of the handler, one for each attempt
        (what the handler does)
        settle                   retry, dead letter, reply, requeue: until its copy is confirmed

An ack is no span of its own: it is written together with others at the end of the loop's turn, and
would be seen to take no time. That a message was acked is said by its `process`.

A batch is one `process`, a trace of its own that is linked to the context of each message; their
`receive` and `settle` belong to their own traces.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.trace import (
    INVALID_SPAN_CONTEXT,
    Link,
    Span,
    SpanContext,
    set_span_in_context,
)

from mqkit.hooks.tracing import Dispatch, RunBatch, Settle, SettleAtOnce
from mqkit.message import Delivery, HeaderValue
from mqkit.observability.tracing.attributes import (
    Attributes,
    Conventions,
    Operation,
    Way,
    of_received,
)
from mqkit.observability.tracing.dropped import Dropped, context_of
from mqkit.observability.tracing.propagation import Propagation
from mqkit.observability.tracing.spans import Spans, link_to
from mqkit.outcome import Ack, DeadLetter, Forward, Lost, Outcome, Requeue, RetryAfter

NAMES: dict[type[Any], str] = {
    Ack: "ack",
    RetryAfter: "retry",
    DeadLetter: "dead-letter",
    Forward: "forward",
    Requeue: "requeue",
    Lost: "lost",
}
"""What `mqkit.outcome` says of each outcome: the words of the log."""

_ACK: Attributes = {"mqkit.outcome": "ack"}

MAX_LINKS = 128
"""Messages of a batch that are linked to: OpenTelemetry's own limit for the links of a span."""


class Received:
    """What is known of the trace of a delivery (`mqkit.message.DeliveryTrace`)."""

    __slots__ = ("_propagation", "_run", "arrived", "context", "is_recorded")

    def __init__(self, arrived: int) -> None:
        """Belong to no run yet.

        :param arrived: in nanoseconds since 1970; 0 once its wait is told
        """
        self.arrived = arrived
        self.context: Context | None = None
        """Of its last run, or of the message where that was of a batch; None before the first."""
        self.is_recorded = False
        self._run: SpanContext | None = None
        self._propagation: Propagation | None = None

    def goes_on(
        self, context: Context, propagation: Propagation, run: SpanContext | None = None
    ) -> None:
        """Note a run.

        :param run: its span, where that is another one than the context's
        """
        self.context = context
        self._propagation = propagation
        self._run = run

    @property
    def run(self) -> SpanContext:
        """The span of its last run; an invalid one before the first."""
        if self._run is not None:
            return self._run
        if self.context is None:
            return INVALID_SPAN_CONTEXT
        return trace.get_current_span(self.context).get_span_context()

    @property
    def trace_id(self) -> str:
        """The trace that its last run belongs to, as 32 hexadecimal digits; '' before the first."""
        run = self.run
        return f"{run.trace_id:032x}" if run.is_valid else ""

    @property
    def span_id(self) -> str:
        """The span of its last run, as 16 hexadecimal digits."""
        run = self.run
        return f"{run.span_id:016x}" if run.is_valid else ""

    def carry(self, headers: Mapping[str, HeaderValue]) -> None:
        """Put the context of its last run into the headers of a reply, a dict of its own."""
        if self._propagation is not None and self.context is not None:
            self._propagation.inject(self.context, headers)


def received_of(delivery: Delivery) -> Received:
    """Return what is known of a delivery; it is new where its handler was paused as it came."""
    if not isinstance(delivery.trace, Received):
        delivery.trace = Received(0)
    return delivery.trace


class DeliverySpans:
    """Makes the spans of deliveries, for all handlers of a service."""

    def __init__(self, spans: Spans, propagation: Propagation, conventions: Conventions) -> None:
        self._spans = spans
        self._propagation = propagation
        self._conventions = conventions

    def processing(self, handler: str, dispatch: Dispatch) -> Dispatch:
        """Wrap what runs a handler for one message; see `Tracing`."""

        async def process(delivery: Delivery) -> Outcome:
            span: Span | None = None
            if isinstance(dropped := delivery.trace, Dropped):
                context = context_of(dropped)
            else:
                span, context = self._begin(handler, delivery)
            token = attach(context)
            try:
                outcome = await dispatch(delivery)
            except GeneratorExit:  # of another context: Python throws this coroutine away
                if span is not None:
                    self._spans.end(span)
                raise
            except BaseException as error:
                detach(token)
                if span is not None:
                    self._spans.end(span, error)
                raise
            detach(token)
            if span is not None:
                self._end(span, outcome)
            return outcome

        return process

    def processing_batch(self, handler: str, run: RunBatch) -> RunBatch:
        """Wrap what runs a handler for a batch; see `Tracing`."""

        async def process(deliveries: tuple[Delivery, ...], bodies: list[Any]) -> Any:
            span, context = self._begin_batch(handler, deliveries)
            token = attach(context)
            try:
                result = await run(deliveries, bodies)
            except GeneratorExit:
                self._spans.end(span)
                raise
            except BaseException as error:
                detach(token)
                self._spans.end(span, error)
                raise
            detach(token)
            self._spans.end(span)
            return result

        return process

    def settling(self, handler: str, settle: Settle) -> Settle:
        """Wrap what carries out outcomes; see `Tracing`."""

        async def traced(delivery: Delivery, received: Received, outcome: Outcome) -> None:
            span, context = self._begin_settling(handler, delivery, received, outcome)
            token = attach(context)
            try:
                await settle(delivery, outcome)
            except GeneratorExit:
                self._spans.end(span)
                raise
            except BaseException as error:
                detach(token)
                self._spans.end(span, error)
                raise
            detach(token)
            self._spans.end(span)

        def settled(delivery: Delivery, outcome: Outcome) -> Awaitable[None]:
            received = delivery.trace
            if (
                isinstance(received, Received)
                and received.is_recorded
                and not _is_ack(delivery, outcome)
            ):
                return traced(delivery, received, outcome)
            return settle(delivery, outcome)

        return settled

    def settling_at_once(self, handler: str, settle: SettleAtOnce) -> SettleAtOnce:
        """Wrap what carries out outcomes without a wait; see `Tracing`."""

        def traced(delivery: Delivery, outcome: Ack | Requeue | Lost) -> None:
            received = delivery.trace
            if (
                not isinstance(received, Received)
                or not received.is_recorded
                or _is_ack(delivery, outcome)
            ):
                settle(delivery, outcome)
                return
            span, _ = self._begin_settling(handler, delivery, received, outcome)
            try:
                settle(delivery, outcome)
            except BaseException as error:
                self._spans.end(span, error)
                raise
            self._spans.end(span)

        return traced

    def _begin_settling(
        self, handler: str, delivery: Delivery, received: Received, outcome: Outcome
    ) -> tuple[Span, Context]:
        """Begin the span of an outcome; of a batch's message it belongs to the message's trace."""
        operation = Operation.SETTLE
        parent = received.context or Context()
        of_batch = trace.get_current_span(parent).get_span_context() != received.run
        span = self._spans.begin(
            self._conventions.name(operation, delivery.queue),
            self._conventions.kind(operation),
            parent,
            self._of(operation, handler, delivery) | _said(outcome),
            links=[Link(received.run)] if of_batch and received.run.is_valid else None,
        )
        return span, set_span_in_context(span, parent)

    def _begin(self, handler: str, delivery: Delivery) -> tuple[Span, Context]:
        """Begin the span of a run; return it, and the context that the handler runs in."""
        way = self._way(handler, delivery)
        received = received_of(delivery)
        headers = delivery.properties.headers
        came = self._propagation.plain_span(headers)
        if came is None:
            message = self._propagation.extract(headers)
            links = link_to(message)
        else:
            message = context_of(came)
            links = [Link(came.get_span_context())]
        span = self._spans.begin(
            way.process_name,
            way.process_kind,
            message,
            way.process | of_received(delivery),
            links=links,
        )
        context = set_span_in_context(span, message) if came is None else context_of(span)
        received.goes_on(context, self._propagation)
        if span.is_recording():
            received.is_recorded = True
            self._tell_wait(way, received, message)
        else:
            received.is_recorded = False
        return span, context

    def _tell_wait(self, way: Way, received: Received, message: Context) -> None:
        """Make the span of the time in which a delivery waited here for its first run."""
        if not received.arrived:
            return
        span = self._spans.begin(
            way.receive_name, way.receive_kind, message, way.receive, at=received.arrived
        )
        received.arrived = 0
        self._spans.end(span)

    def _way(self, handler: str, delivery: Delivery) -> Way:
        return self._conventions.way(
            handler, delivery.queue, delivery.exchange, delivery.routing_key
        )

    def _end(self, span: Span, outcome: Outcome) -> None:
        if type(outcome) is Ack:  # nearly all are
            self._spans.end(span, None, _ACK)
        elif isinstance(outcome, RetryAfter | DeadLetter):
            self._spans.end(span, outcome.error, _said(outcome))
        else:
            self._spans.end(span, None, _said(outcome))

    def _begin_batch(self, handler: str, deliveries: tuple[Delivery, ...]) -> tuple[Span, Context]:
        conventions, operation = self._conventions, Operation.PROCESS
        queue = deliveries[0].queue
        contexts = [self._propagation.extract(each.properties.headers) for each in deliveries]
        links = [
            link
            for each, context in zip(deliveries[:MAX_LINKS], contexts, strict=False)
            for link in link_to(context, of_received(each))
        ]
        span = self._spans.begin(
            conventions.name(operation, queue),
            conventions.kind(operation),
            Context(),
            conventions.of_batch(handler, queue, len(deliveries)),
            links=links,
        )
        for delivery, context in zip(deliveries, contexts, strict=True):
            received = received_of(delivery)
            received.goes_on(context, self._propagation, span.get_span_context())
            received.is_recorded = True  # or not, as its own trace says
            self._tell_wait(self._way(handler, delivery), received, context)
        return span, set_span_in_context(span, Context())

    def _of(self, operation: Operation, handler: str, delivery: Delivery) -> Attributes:
        return self._conventions.of_delivery(
            operation, handler, delivery.queue, delivery.exchange, delivery.routing_key
        )


def _is_ack(delivery: Delivery, outcome: Outcome) -> bool:
    """Tell whether an outcome is an ack alone, and no reply before it."""
    return type(outcome) is Ack and not delivery.properties.reply_to


def _said(outcome: Outcome) -> Attributes:
    """Return what attributes say of an outcome."""
    attributes: Attributes = {"mqkit.outcome": NAMES[type(outcome)]}
    if isinstance(outcome, DeadLetter):
        attributes["mqkit.reason"] = outcome.reason.value
    elif isinstance(outcome, RetryAfter):
        attributes["mqkit.retry_in"] = round(outcome.delay, 3)
    return attributes
