"""How long a broker may say nothing, on a clock of the test's own."""

from __future__ import annotations

import pytest

from mqkit.drivers.heartbeat import GARBLED, SILENCE, SILENT, HeartbeatMonitor
from mqkit.settings import DEFAULT_HEARTBEAT


def test_silence_has_its_limit_and_begins_anew_with_each_octet() -> None:
    """Two and a half heartbeats after the last octet nothing is left."""
    now = 100.0
    monitor = HeartbeatMonitor(4, lambda: now)
    assert monitor.left == 10
    now += 9
    assert monitor.left == 1
    monitor.received()
    assert monitor.left == 10
    now += 10
    assert monitor.left <= 0


@pytest.mark.parametrize("heartbeats", [SILENCE, 3], ids=["mqkit", "RabbitMQ"])
def test_either_side_notices_in_time_by_default(heartbeats: float) -> None:
    """A gap between heartbeats and a slow network fit in, and 15 s are not passed.

    RabbitMQ (4.0.5, 4.3.6) closes two to three heartbeats after the last octet, and aio-pika's
    driver takes up to a second then.
    """
    assert heartbeats * DEFAULT_HEARTBEAT <= 15 - 1
    # The broker may say nothing for a whole heartbeat, and a network become slower by 4 s.
    assert 2 * DEFAULT_HEARTBEAT >= DEFAULT_HEARTBEAT + 4


def test_a_frame_must_become_whole() -> None:
    """It has three heartbeats, and a second more for each 400 octets that came."""
    now = 100.0
    monitor = HeartbeatMonitor(4, lambda: now)
    monitor.frame_state(whole=False)
    now += 9
    monitor.received(800)
    monitor.frame_state(whole=False)
    assert monitor.left == 5
    assert monitor.why == GARBLED
    monitor.frame_state(whole=True)
    assert monitor.left == 10
    assert monitor.why == SILENT
    monitor.frame_state(whole=False)
    assert monitor.left == 10
