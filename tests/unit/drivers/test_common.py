"""What the drivers share."""

from __future__ import annotations

import pytest

from mqkit.drivers import common as wire
from mqkit.settings import DEFAULT_HEARTBEAT


def test_silence_has_its_limit_and_begins_anew_with_each_octet() -> None:
    """Two and a half heartbeats after the last octet nothing is left."""
    now = 100.0
    silence = wire.Silence(4, lambda: now)
    assert silence.left == 10
    now += 9
    assert silence.left == 1
    silence.end()
    assert silence.left == 10
    now += 10
    assert silence.left <= 0


@pytest.mark.parametrize("heartbeats", [wire.SILENCE, 3], ids=["mqkit", "RabbitMQ"])
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
    silence = wire.Silence(4, lambda: now)
    silence.frame(whole=False)
    now += 9
    silence.end(800)
    silence.frame(whole=False)
    assert silence.left == 5
    assert silence.why == wire.GARBLED
    silence.frame(whole=True)
    assert silence.left == 10
    assert silence.why == wire.SILENT
    silence.frame(whole=False)
    assert silence.left == 10
