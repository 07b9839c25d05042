"""Collects the spans of a test, and draws them as trees."""

from __future__ import annotations

from collections.abc import Callable

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Sampler

from mqkit.observability.tracing import Tracing


class Collected:
    """A tracer provider whose spans stay in memory."""

    def __init__(self, sampler: Sampler | None = None) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider(sampler=sampler)
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracing = Tracing(self.provider)

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        """What has ended, in the order of that."""
        return self._exporter.get_finished_spans()

    def named(self, name: str) -> list[ReadableSpan]:
        """The spans of one name."""
        return [span for span in self.spans if span.name == name]

    @property
    def texts(self) -> str:
        """All that is said in the spans."""
        return "\n".join(span.to_json() for span in self.spans)


def id_of(span: ReadableSpan) -> int:
    """Return the id of a span."""
    context = span.get_span_context()
    assert context is not None
    return context.span_id


def trace_of(span: ReadableSpan) -> int:
    """Return the id of a span's trace."""
    context = span.get_span_context()
    assert context is not None
    return context.trace_id


def tree(
    spans: tuple[ReadableSpan, ...], told: Callable[[ReadableSpan], str] = lambda span: span.name
) -> str:
    """Draw spans as a tree, by when they began; each line is indented under its parent's."""
    known = {id_of(span) for span in spans}

    def below(parent: int | None, depth: int) -> list[str]:
        lines = []
        for span in sorted(spans, key=lambda each: each.start_time or 0):
            above = span.parent.span_id if span.parent and span.parent.span_id in known else None
            if above == parent:
                lines += ["  " * depth + told(span), *below(id_of(span), depth + 1)]
        return lines

    return "\n".join(below(None, 0))
