"""Knows the trace of a message that is not kept, at the least cost: most messages have such a one.

Nothing is made of its `traceparent` before somebody asks, and few do: a handler that publishes, a
line of the log.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast

from opentelemetry.context import Context
from opentelemetry.trace import (
    INVALID_SPAN,
    NonRecordingSpan,
    Span,
    SpanContext,
    TraceFlags,
    set_span_in_context,
)

from mqkit.message import HeaderValue

TRACEPARENT = "traceparent"

PARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})", re.ASCII)
"""A `traceparent` of the only version that there is, with ids that are valid (W3C Trace Context,
section 3.2.2)."""

is_unsampled = re.compile(
    r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f][02468ace]", re.ASCII
).fullmatch
"""Finds such a `traceparent` whose lowest bit says that its trace is not kept (3.2.2.5)."""

(_SPAN,) = set_span_in_context(INVALID_SPAN, Context())
"""The key of the span in a context: to make one with it costs less than to add to an empty one."""

_FLAGS = {f"{flags:02x}": TraceFlags(flags) for flags in range(256)}


def remote(trace_id: str, span_id: str, flags: str) -> SpanContext:
    """Return the context of another process's span; all are hexadecimal digits."""
    return SpanContext(int(trace_id, 16), int(span_id, 16), True, _FLAGS[flags])


def context_of(span: Span) -> Context:
    """Return a context of OpenTelemetry's with nothing but this span."""
    return Context({_SPAN: span})


class Dropped(NonRecordingSpan):
    """The span that a message came with, of a trace that is not kept.

    It is what is known of the delivery's trace, too (`mqkit.message.DeliveryTrace`): its runs have
    no spans of their own.
    """

    def __init__(self, parent: str) -> None:
        """Be that of a `traceparent` that `is_unsampled`."""
        self._parent = parent

    def get_span_context(self) -> SpanContext:
        """Read the `traceparent`."""
        _, trace_id, span_id, flags = self._parent.split("-")
        return remote(trace_id, span_id, flags)

    def __repr__(self) -> str:
        return f"Dropped({self._parent!r})"

    @property
    def trace_id(self) -> str:
        """Its trace, as 32 hexadecimal digits."""
        return self._parent.split("-")[1]

    @property
    def span_id(self) -> str:
        """The span that the message came with, as 16 hexadecimal digits."""
        return self._parent.split("-")[2]

    def carry(self, headers: Mapping[str, HeaderValue]) -> None:
        """Put it into the headers of a reply, a dict of its own."""
        cast("dict[str, Any]", headers)[TRACEPARENT] = self._parent
