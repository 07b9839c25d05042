"""Makes the spans of publishes, and hands out what wraps the runs of handlers."""

from __future__ import annotations

import os
import time
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context, get_current
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.trace import TracerProvider

from mqkit.checks.checked import shown
from mqkit.errors import OptionError
from mqkit.hooks.tracing import Dispatch, RunBatch, Settle, SettleAtOnce
from mqkit.logging.error_reports import REPORTS, ErrorReports
from mqkit.message import Delivery, Message
from mqkit.observability.tracing.attributes import Conventions, Operation, of_message
from mqkit.observability.tracing.deliveries import DeliverySpans, Received
from mqkit.observability.tracing.propagation import Propagation
from mqkit.observability.tracing.spans import Publishing, Spans, link_to

SCOPE = "mqkit"
"""The name of the instrumentation, by which its spans are told from others'."""


class Tracing:
    """Traces messages with OpenTelemetry; give one to a service, or to a publisher.

        service = Service("ledger", tracing=Tracing())

    A publish is a span, and so is each run of a handler (process), the time that a delivery waited
    in the process before (receive), and what became of it (settle). The context goes along in the
    message's headers, and stays there over retries, the outbox, partitions, dead letters and
    replays. A run belongs to the trace of its message; the run of a batch is linked to each.

    A message whose context says that its trace is not kept makes no spans here, whatever this
    process would sample; the context goes on with it.

    What is in a span: names of exchanges, queues, handlers, routing keys and message ids, and of an
    error what the service's log says of it, secrets masked. No body, and no header.

    `OTEL_SEMCONV_STABILITY_OPT_IN` is read here: it chooses the names of attributes, see the guide.

    :param provider: OpenTelemetry's tracer provider; None: the one that is set for the process,
        now or later (`opentelemetry.trace.set_tracer_provider`)
    :param propagator: reads and writes the headers; None: W3C Trace Context, without baggage
    :raises OptionError: one of them is not that
    """

    def __init__(
        self,
        provider: TracerProvider | None = None,
        *,
        propagator: TextMapPropagator | None = None,
    ) -> None:
        if provider is not None and not callable(getattr(provider, "get_tracer", None)):
            raise OptionError(
                "Tracing(...) takes a TracerProvider of OpenTelemetry, or nothing for the one that "
                f"is set for the process, not {shown(provider)}"
            )
        if propagator is not None and not isinstance(propagator, TextMapPropagator):
            raise OptionError(
                "Tracing(propagator=...) takes a TextMapPropagator of OpenTelemetry, not "
                f"{shown(propagator)}"
            )
        self._tracer = trace.get_tracer(SCOPE, tracer_provider=provider)
        self._propagation = Propagation(propagator)
        self._conventions = Conventions(os.environ)
        self._use(REPORTS)

    def _use(self, reports: ErrorReports) -> None:
        self._spans = Spans(self._tracer, reports)
        self._deliveries = DeliverySpans(self._spans, self._propagation, self._conventions)

    def __repr__(self) -> str:
        names = "new" if self._conventions.is_new else "old"
        if self._conventions.is_new and self._conventions.is_old:
            names = "new and old"
        return f"Tracing(<{names} names of attributes>)"

    def reporting(self, reports: ErrorReports) -> Tracing:
        """Return one that says of errors what a service wants to be said of them."""
        other = Tracing.__new__(Tracing)
        other._tracer = self._tracer  # noqa: SLF001 - its own class
        other._propagation = self._propagation  # noqa: SLF001
        other._conventions = self._conventions  # noqa: SLF001
        other._use(reports)  # noqa: SLF001
        return other

    def publishing(self, message: Message, *, ambient: bool = True) -> Publishing:
        """Begin the span of a publish, and put its context into the headers of the message.

        A context that they have stays: it was made where the message was, and is linked to.

        :param ambient: whether what runs now is a part of a trace, which the publish belongs to
        """
        headers: Any = message.properties.headers
        conventions, operation = self._conventions, Operation.SEND
        exchange, key = message.exchange, message.routing_key
        is_created = self._propagation.has_context(headers)
        parent: Context = get_current() if ambient else Context()
        links = None
        if is_created:
            made = self._propagation.extract(headers)
            links = link_to(made)
            if not trace.get_current_span(parent).get_span_context().is_valid:
                parent = made
        span = self._spans.begin(
            conventions.name(operation, exchange or key),
            conventions.kind(operation, is_created=not is_created),
            parent,
            conventions.of_publish(operation, exchange, key) | of_message(message),
            links=links,
        )
        if not is_created:
            self._propagation.inject(trace.set_span_in_context(span, parent), headers)
        return Publishing(self._spans, span, self._propagation)

    def created(self, message: Message) -> None:
        """Put a context into the headers of a message that is kept, and published by others."""
        headers: Any = message.properties.headers
        if self._propagation.has_context(headers):
            return
        conventions, operation = self._conventions, Operation.CREATE
        parent = get_current()
        span = self._spans.begin(
            conventions.name(operation, message.exchange or message.routing_key),
            conventions.kind(operation),
            parent,
            conventions.of_publish(operation, message.exchange, message.routing_key)
            | of_message(message),
        )
        self._propagation.inject(trace.set_span_in_context(span, parent), headers)
        self._spans.end(span)

    def received(self, delivery: Delivery) -> None:
        """Note that a delivery has come, and waits for its turn."""
        dropped = self._propagation.unsampled(delivery.properties.headers)
        delivery.trace = Received(time.time_ns()) if dropped is None else dropped

    def processing(self, handler: str, dispatch: Dispatch) -> Dispatch:
        """Wrap what runs a handler for one message, so that each run is a span."""
        return self._deliveries.processing(handler, dispatch)

    def processing_batch(self, handler: str, run: RunBatch) -> RunBatch:
        """Wrap what runs a handler for a batch, so that each run is a span."""
        return self._deliveries.processing_batch(handler, run)

    def settling(self, handler: str, settle: Settle) -> Settle:
        """Wrap what carries out outcomes, so that each is a span."""
        return self._deliveries.settling(handler, settle)

    def settling_at_once(self, handler: str, settle: SettleAtOnce) -> SettleAtOnce:
        """Wrap what carries out outcomes without a wait, so that each is a span."""
        return self._deliveries.settling_at_once(handler, settle)
