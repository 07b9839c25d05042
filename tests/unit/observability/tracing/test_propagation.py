"""Contexts in headers: what is read, what is written, and what is as if it were not there."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import baggage, trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.trace import SpanContext, TraceState
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from mqkit.observability.tracing.dropped import context_of, is_unsampled
from mqkit.observability.tracing.propagation import Propagation

PLAIN = Propagation()
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
UNSAMPLED = f"{PARENT[:-1]}0"


def span_of(context: Context) -> SpanContext:
    """Return the span of a context."""
    return trace.get_current_span(context).get_span_context()


@given(
    st.one_of(
        st.text(max_size=60),
        st.from_regex(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}.?", fullmatch=True),
        st.from_regex(r"00-0{32}-[0-9a-f]{16}-0[01]", fullmatch=True),
        st.from_regex(r"00-[0-9a-f]{32}-0{16}-0[01]", fullmatch=True),
    )
)
def test_a_traceparent_is_read_as_opentelemetry_reads_it(text: str) -> None:
    """The short way for plain headers finds the context that the long one finds, or none."""
    long_way = TraceContextTextMapPropagator().extract({"traceparent": text}, Context())
    assert span_of(PLAIN.extract({"traceparent": text})) == span_of(long_way)
    unsampled = PLAIN.unsampled({"traceparent": text})
    kept = span_of(long_way).trace_flags.sampled
    assert (unsampled is None) == (kept or not span_of(long_way).is_valid or text[:3] != "00-")
    if unsampled is not None:
        assert unsampled.get_span_context() == span_of(long_way)
        assert span_of(context_of(unsampled)) == span_of(long_way)
        assert not span_of(context_of(unsampled)).trace_flags.sampled


@pytest.mark.parametrize(
    "value", [None, 1, 1.5, True, b"\xff", [PARENT], {"a": PARENT}, "\udcff"], ids=ascii
)
def test_what_is_no_text_is_no_context(value: Any) -> None:
    """Whatever type a header has, reading it raises nothing."""
    for headers in ({"traceparent": value}, {"traceparent": PARENT, "tracestate": value}):
        span_of(PLAIN.extract(headers))
        PLAIN.unsampled(headers)
    assert not span_of(PLAIN.extract({"traceparent": value})).is_valid


STATES = ["a=1", "a=1,b=2", " a=1 ,, b@c=2 ", "1@a=x", "a=" + "v" * 256, ""]
NO_STATES = [
    "\udcff",
    "a",
    "=1",
    "A=1",
    "1=1",
    "a=\x7f",
    "a=1,card 4111111111111111",
    "a=1=2",
    "ä=1",
]


@pytest.mark.parametrize("state", [*STATES, *NO_STATES], ids=ascii)
def test_a_state_that_is_none_is_not_in_a_log(state: str, caplog: pytest.LogCaptureFixture) -> None:
    """It is as if it were not there, and the context is read without it."""
    read = Propagation().extract({"traceparent": PARENT, "tracestate": state})
    context = trace.get_current_span(read).get_span_context()
    assert context.is_valid
    assert bool(context.trace_state) == (state in STATES and state != "")
    assert caplog.text == ""


def test_what_a_context_is_written_as_is_read_back() -> None:
    """Ids, flags and the state of a vendor come back as they went."""
    state = TraceState([("vendor", "1"), ("other", "2")])
    for given_state in (TraceState(), state):
        read = span_of(PLAIN.extract({"traceparent": PARENT}))
        span = SpanContext(
            read.trace_id,
            read.span_id,
            is_remote=True,
            trace_flags=read.trace_flags,
            trace_state=given_state,
        )
        context = trace.set_span_in_context(trace.NonRecordingSpan(span), Context())
        headers: dict[str, Any] = {}
        PLAIN.inject(context, headers)
        assert headers["traceparent"] == PARENT
        assert ("tracestate" in headers) == bool(given_state)
        assert span_of(PLAIN.extract(headers)) == span
    nothing: dict[str, Any] = {}
    PLAIN.inject(Context(), nothing)
    assert nothing == {}


def test_a_state_that_is_too_long_is_left_out() -> None:
    """Its trace goes on without it."""
    found = span_of(PLAIN.extract({"traceparent": PARENT, "tracestate": "a=" + "b" * 600}))
    assert found.is_valid
    assert not found.trace_state


def test_only_what_says_that_it_is_not_kept_is_dropped() -> None:
    """The lowest bit of the flags counts; what a vendor's state stands beside is read in full."""
    assert is_unsampled(UNSAMPLED)
    assert not is_unsampled(PARENT)
    assert not is_unsampled(f"{PARENT[:-1]}3")
    assert PLAIN.unsampled({"traceparent": UNSAMPLED, "tracestate": "a=1"}) is None
    assert PLAIN.unsampled({"traceparent": "0"}) is None
    assert PLAIN.unsampled({}) is None


def test_baggage_travels_only_by_a_propagator_of_the_application_s() -> None:
    """Without one it is neither written nor read."""
    composite = CompositePropagator([TraceContextTextMapPropagator(), W3CBaggagePropagator()])
    context = baggage.set_baggage("user", "ann", PLAIN.extract({"traceparent": PARENT}))
    for propagation, travels in ((PLAIN, False), (Propagation(composite), True)):
        headers: dict[str, Any] = {}
        propagation.inject(context, headers)
        assert ("baggage" in headers) == travels
        read = propagation.extract({"traceparent": PARENT, "baggage": "user=ann"})
        assert baggage.get_baggage("user", read) == ("ann" if travels else None)
        assert propagation.has_context(headers)
    assert Propagation(composite).unsampled({"traceparent": UNSAMPLED}) is None


class Faulty(TextMapPropagator):
    """A propagator with a fault."""

    def extract(self, *_: Any, **__: Any) -> Context:
        """Fail."""
        raise RuntimeError

    def inject(self, *_: Any, **__: Any) -> None:
        """Fail."""
        raise RuntimeError

    @property
    def fields(self) -> set[str]:
        """None."""
        return set()


def test_a_propagator_that_fails_stops_no_message() -> None:
    """There is no context then, neither in nor out."""
    propagation = Propagation(Faulty())
    assert propagation.extract({"a": "b"}) == Context()
    headers: dict[str, Any] = {}
    propagation.inject(Context(), headers)
    assert headers == {}
