"""Begins and ends spans such that nothing of it can fail a message.

OpenTelemetry's API raises nothing by itself; a sampler or a processor that an application has
written may. What they raise is logged, and the message goes on without its span.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from opentelemetry.context import Context
from opentelemetry.trace import (
    INVALID_SPAN,
    Link,
    Span,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    get_current_span,
)

from mqkit.logging.error_reports import ErrorReports
from mqkit.logging.error_texts import error_type
from mqkit.message import HeaderValue
from mqkit.observability.tracing.attributes import Attributes
from mqkit.observability.tracing.propagation import Propagation
from mqkit.outcome import is_instruction

logger = logging.getLogger(__name__)


class Spans:
    """Begins and ends the spans of one service or publisher."""

    def __init__(self, tracer: Tracer, reports: ErrorReports) -> None:
        self._tracer = tracer
        self._reports = reports
        self._has_failed = False

    def begin(
        self,
        name: str,
        kind: SpanKind,
        parent: Context | None,
        attributes: Attributes,
        *,
        links: Sequence[Link] | None = None,
        at: int | None = None,
    ) -> Span:
        """Begin a span; one that cannot be begun is invalid, and records nothing.

        :param parent: None: what runs now
        :param at: when it began, in nanoseconds since 1970; None: now
        """
        try:
            return self._tracer.start_span(
                name, parent, kind, attributes=attributes, links=links, start_time=at
            )
        except Exception as error:  # noqa: BLE001 - a sampler of the application's, or a processor
            self._log_failure(error)
            return INVALID_SPAN

    def end(
        self, span: Span, error: BaseException | None = None, more: Attributes | None = None
    ) -> None:
        """End a span, as failed where there is an error.

        :param more: attributes that were not known at its begin
        """
        try:
            if error is not None and span.is_recording():
                span.set_attribute("error.type", error_type(error))
                span.set_status(Status(StatusCode.ERROR, self._said(error)))
            if more is not None:
                for name, value in more.items():  # one or two: `set_attributes` costs more
                    span.set_attribute(name, value)
            span.end()
        except Exception as failure:  # noqa: BLE001 - a processor of the application's
            self._log_failure(failure)

    def link(self, span: Span, context: Context) -> None:
        """Link a span to the one of another context, if that has any."""
        linked = get_current_span(context).get_span_context()
        if linked.is_valid:
            try:
                span.add_link(linked)
            except Exception as error:  # noqa: BLE001 - as above
                self._log_failure(error)

    def _said(self, error: BaseException) -> str:
        """Say of an error what a log would, secrets masked."""
        return self._reports.of(error, keeps_text=is_instruction(error)).words()

    def _log_failure(self, error: Exception) -> None:
        # Once: it would be a line for each message.
        level = logging.DEBUG if self._has_failed else logging.ERROR
        self._has_failed = True
        text = "tracing failed, and messages go on without spans; this is logged once"
        self._reports.log(logger, level, text, error=error)


class Publishing:
    """The span of one publish (`mqkit.middleware.PublishSpan`)."""

    __slots__ = ("_propagation", "_span", "_spans")

    def __init__(self, spans: Spans, span: Span, propagation: Propagation) -> None:
        self._spans = spans
        self._span = span
        self._propagation = propagation

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._spans.end(self._span, error)

    def end(self, error: BaseException | None = None) -> None:
        """End the span; `error` is why the message was not published."""
        self._spans.end(self._span, error)

    def replied(self, headers: Mapping[str, HeaderValue]) -> None:
        """Link the span of a request to that of its reply, whose headers these are."""
        if self._span.is_recording():
            self._spans.link(self._span, self._propagation.extract(headers))


def link_to(context: Context, attributes: Attributes | None = None) -> list[Link]:
    """Return the link to a context's span; none where it has no span."""
    linked = get_current_span(context).get_span_context()
    return [Link(linked, attributes)] if linked.is_valid else []
