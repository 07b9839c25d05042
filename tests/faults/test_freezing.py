"""How the tests freeze a container."""

from __future__ import annotations

import pytest
from docker.errors import APIError

from tests.freezing import freeze


class Engine:
    """A container whose engine refuses some times."""

    def __init__(self, refusals: int, why: str = "OCI runtime: unable to freeze") -> None:
        self.asked = 0
        self._refusals, self._why = refusals, why

    def pause(self) -> None:
        """Freeze it."""
        self.asked += 1
        if self.asked <= self._refusals:
            raise APIError(self._why)


def test_an_engine_that_cannot_for_once_is_asked_again() -> None:
    """A process that could not be stopped at that moment fails no test of another thing."""
    engine = Engine(2)
    freeze(engine, every=0)
    assert engine.asked == 3


def test_what_is_refused_for_long_is_an_error() -> None:
    """It is asked again until its time is up, and then says why."""
    engine = Engine(10**9)
    with pytest.raises(APIError, match="unable to freeze"):
        freeze(engine, within=0.05, every=0)
    assert engine.asked > 1


def test_another_reason_is_an_error_at_once() -> None:
    """A container that is gone does not come back."""
    engine = Engine(1, "no such container")
    with pytest.raises(APIError, match="no such container"):
        freeze(engine)
    assert engine.asked == 1
