"""How tracing is made, and the spans of publishes."""

from __future__ import annotations

from typing import Any

import pytest

from mqkit.errors import OptionError
from mqkit.logging.error_reports import ErrorReports
from mqkit.message import Message, Properties
from mqkit.observability.tracing import Tracing
from mqkit.observability.tracing.attributes import OPT_IN
from tests.traces import Collected


@pytest.mark.parametrize("wrong", [1, "provider", object()])
def test_what_is_no_provider_or_propagator_is_refused(wrong: Any) -> None:
    """The error says what is taken."""
    with pytest.raises(OptionError, match="TracerProvider"):
        Tracing(wrong)
    with pytest.raises(OptionError, match="TextMapPropagator"):
        Tracing(propagator=wrong)


def test_the_environment_is_read_when_it_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that was made before keeps its names."""
    collected = Collected()
    monkeypatch.setenv(OPT_IN, "messaging")
    later = Tracing(collected.provider)
    monkeypatch.delenv(OPT_IN)
    for tracing in (collected.tracing, later, later.reporting(ErrorReports())):
        tracing.publishing(Message("x", "k", b"", Properties(headers={}))).end()
    assert [span.name for span in collected.spans] == ["x publish", "send x", "send x"]
    assert "new" in repr(later)


def test_an_error_is_said_as_the_service_wants_it() -> None:
    """With `log_errors='type'` no text of it is in the span; a secret never is."""
    collected = Collected()
    only_types = collected.tracing.reporting(ErrorReports("type"))
    for tracing in (collected.tracing, only_types):
        with (
            pytest.raises(ValueError, match="planted"),
            tracing.publishing(Message("x", "k", b"", Properties(headers={}))),
        ):
            raise ValueError("password=planted-secret in it")
    first, second = (span.status.description for span in collected.spans)
    assert first is not None
    assert first.startswith("ValueError: password=***")
    assert second is not None
    assert second.startswith("ValueError, at ")
    assert "planted-secret" not in collected.texts


def test_what_is_created_has_one_context_for_all_that_publish_it() -> None:
    """A message that is published twice by a relay keeps the context of its creation."""
    collected = Collected()
    message = Message("x", "k", b"", Properties(headers={}))
    collected.tracing.created(message)
    headers = dict(message.properties.headers)
    collected.tracing.created(message)
    for _ in range(2):
        collected.tracing.publishing(message, ambient=False).end()
    assert message.properties.headers == headers
    created, *published = collected.spans
    assert created.name == "x create"
    assert {span.parent.span_id for span in published if span.parent} == {
        created.get_span_context().span_id  # type: ignore[union-attr]
    }
