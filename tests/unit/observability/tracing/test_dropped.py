"""What is known of a message whose trace is not kept."""

from __future__ import annotations

from typing import Any

from opentelemetry import trace

from mqkit.observability.tracing.dropped import Dropped, context_of

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-00"


def dropped() -> Dropped:
    """One of them."""
    return Dropped(PARENT)


def test_it_names_the_trace_and_the_span_that_the_message_came_with() -> None:
    """A log line of its settling has the same ids as one of its run."""
    assert (dropped().trace_id, dropped().span_id) == (TRACE, SPAN)
    found = trace.get_current_span(context_of(dropped())).get_span_context()
    assert (f"{found.trace_id:032x}", f"{found.span_id:016x}") == (TRACE, SPAN)
    assert found.is_remote


def test_a_reply_goes_on_with_the_same_parent() -> None:
    """Nothing is made of it on the way, for no span stands between."""
    headers: dict[str, Any] = {}
    dropped().carry(headers)
    assert headers == {"traceparent": PARENT}


def test_it_records_nothing_and_says_which_it_is() -> None:
    """As a span of OpenTelemetry's it does nothing but carry its context."""
    assert not dropped().is_recording()
    assert repr(dropped()) == f"Dropped({PARENT!r})"
