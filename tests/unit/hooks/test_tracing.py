"""What may be handed in as tracing."""

from __future__ import annotations

from typing import Any

import pytest

from mqkit import BlockingPublisher, ConfigurationError, Publisher, Service
from mqkit.hooks.tracing import checked_tracing
from mqkit.observability.tracing import Tracing

URL = "amqp://guest:guest@localhost/"


def test_tracing_and_nothing_are_taken() -> None:
    """Both come back as they are, but for a service's, which reports errors as the service does."""
    tracing = Tracing()
    assert checked_tracing(tracing, "it") is tracing
    assert checked_tracing(None, "it") is None
    assert Service("s").tracing is None
    assert isinstance(Service("s", tracing=tracing).tracing, Tracing)


@pytest.mark.parametrize("wrong", [True, "tracing", Tracing, object()])
def test_anything_else_is_refused(wrong: Any) -> None:
    """A service and both publishers say what they take; the class in the place of one is none."""
    for make in (
        lambda: Service("s", tracing=wrong),
        lambda: Publisher(URL, tracing=wrong),
        lambda: BlockingPublisher(URL, tracing=wrong),
    ):
        with pytest.raises(ConfigurationError, match=r"takes Tracing\(\.\.\.\)"):
            make()
