"""Puts the context of a trace into message headers, and reads it from there.

By default that is W3C Trace Context (https://www.w3.org/TR/trace-context/): `traceparent` and
`tracestate`. Baggage is not carried unless a propagator of the application's own does: what stands
in it, a user's name say, would stay in the headers of dead letters, and come in from anybody.

Headers come from outside. What is malformed, too long or no text is as if it were not there.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any, cast

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import Getter, Setter, TextMapPropagator
from opentelemetry.trace import NonRecordingSpan
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from mqkit.logging.error_reports import log_error
from mqkit.message import HeaderValue
from mqkit.observability.tracing.dropped import (
    PARENT,
    TRACEPARENT,
    Dropped,
    context_of,
    is_unsampled,
    remote,
)

logger = logging.getLogger(__name__)

TRACESTATE = "tracestate"

MAX_HEADER = 512
"""Characters of a header that is read: W3C asks for as many of a `tracestate` (section 3.3.1.5)."""

_KEY = r"(?:[a-z][a-z0-9_*/-]{0,255}|[a-z0-9][a-z0-9_*/-]{0,240}@[a-z][a-z0-9_*/-]{0,13})"
_VALUE = r"[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
_MEMBER = rf"[ \t]*(?:{_KEY}={_VALUE}[ \t]*)?"
_STATE = re.compile(rf"{_MEMBER}(?:,{_MEMBER})*")
"""A `tracestate` (section 3.3.1). OpenTelemetry logs the text of what is none, whatever it is."""

_EMPTY = Context()


class _Getter(Getter[Mapping[str, HeaderValue]]):
    """Reads headers that are texts of a reasonable length."""

    def get(self, carrier: Mapping[str, HeaderValue], key: str) -> list[str] | None:
        value = carrier.get(key)
        if not isinstance(value, str) or len(value) > MAX_HEADER:
            return None
        if key == TRACESTATE and _STATE.fullmatch(value) is None:
            return None
        return [value]

    def keys(self, carrier: Mapping[str, HeaderValue]) -> list[str]:
        return [name for name, value in carrier.items() if isinstance(value, str)]


class _Setter(Setter[dict[str, HeaderValue]]):
    """Writes headers that can be written."""

    def set(self, carrier: dict[str, HeaderValue], key: str, value: str) -> None:
        if isinstance(key, str) and isinstance(value, str) and len(value) <= MAX_HEADER:
            carrier.setdefault(key, value)


_GETTER, _SETTER = _Getter(), _Setter()


class Propagation:
    """Carries contexts in headers, as W3C says or as a propagator of the application's does."""

    def __init__(self, propagator: TextMapPropagator | None = None) -> None:
        """Carry nothing yet.

        :param propagator: what reads and writes the headers; None: W3C Trace Context
        """
        self._is_plain = propagator is None
        self._propagator = propagator or TraceContextTextMapPropagator()
        self._fields = frozenset(self._propagator.fields)

    def has_context(self, headers: Mapping[str, HeaderValue]) -> bool:
        """Tell whether headers have what carries a context, readable or not."""
        if self._is_plain:
            return TRACEPARENT in headers
        return not self._fields.isdisjoint(headers)

    def extract(self, headers: Mapping[str, HeaderValue]) -> Context:
        """Return the context that headers carry; an empty one where they have none."""
        if not headers or (self._is_plain and TRACEPARENT not in headers):
            return _EMPTY
        if (span := self.plain_span(headers)) is not None:
            return context_of(span)
        try:
            return self._propagator.extract(headers, _EMPTY, _GETTER)
        except Exception as error:  # noqa: BLE001 - what comes from outside stops no message
            text = "the headers of a message have no trace context that can be read"
            log_error(logger, logging.DEBUG, text, error=error)
            return _EMPTY

    def plain_span(self, headers: Mapping[str, HeaderValue]) -> NonRecordingSpan | None:
        """Return the span that headers carry, where that is a `traceparent` and nothing beside it.

        A third of what OpenTelemetry's own takes. None is everything else, which `extract` reads.
        """
        if not self._is_plain or TRACESTATE in headers:
            return None
        parent = headers.get(TRACEPARENT)
        if not isinstance(parent, str) or (parts := PARENT.fullmatch(parent)) is None:
            return None
        return NonRecordingSpan(remote(*parts.groups()))

    def unsampled(self, headers: Mapping[str, HeaderValue]) -> Dropped | None:
        """Return the span that headers carry if whoever began its trace does not keep it.

        None is everything else: no context, one that is kept, or one that `extract` must read.
        """
        parent = headers.get(TRACEPARENT)
        if not isinstance(parent, str) or is_unsampled(parent) is None:
            return None
        return Dropped(parent) if self._is_plain and TRACESTATE not in headers else None

    def inject(self, context: Context, headers: Mapping[str, HeaderValue]) -> None:
        """Put a context into headers, a dict; what is there under its names stays."""
        own = cast("dict[str, Any]", headers)
        if self._is_plain:
            span = trace.get_current_span(context).get_span_context()
            if not span.trace_state:
                if span.is_valid:
                    own[TRACEPARENT] = (
                        f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}"
                    )
                return
        try:
            self._propagator.inject(own, context, _SETTER)
        except Exception as error:  # noqa: BLE001 - a message goes without it
            text = "the context of a trace could not be put into the headers of a message"
            log_error(logger, logging.ERROR, text, error=error)
