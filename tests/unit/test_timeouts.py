"""Tests whose time is over."""

from __future__ import annotations

import signal

from tests.conftest import ALARM_AGAIN


def test_the_alarm_of_a_test_rings_again() -> None:
    """What catches a test's timeout, as mqkit does in a handler, meets it once more."""
    left, again = signal.getitimer(signal.ITIMER_REAL)
    assert left > 0
    assert again == ALARM_AGAIN
