"""The heartbeats of the pika drivers, without a socket and on a clock of the test's own."""

from __future__ import annotations

from pika import exceptions

from mqkit.drivers.base import Closed
from mqkit.drivers.heartbeat import GARBLED, SILENT
from mqkit.drivers.pika import convert
from tests.unit.drivers.pika.fakes import Watched


def test_a_heartbeat_is_sent_each_half_of_one() -> None:
    """Whatever else is sent, as pika's own checker does it."""
    pika = Watched(4)
    pika.run_until(9.9)
    assert pika.sent == [2, 4, 6, 8]


def test_silence_ends_the_stream() -> None:
    """Two and a half heartbeats after the last octet, and for that reason."""
    pika = Watched(4)
    pika.run_until(7)
    pika._on_data_available(b"x")
    pika.run_until(16.9)
    assert pika.ended == []
    pika.run_until(17)
    ((when, error),) = pika.ended
    assert when == 17
    assert isinstance(error, exceptions.AMQPHeartbeatTimeout)
    assert convert.closed(error) == Closed(0, SILENT)


def test_a_part_of_a_frame_is_no_silence() -> None:
    """Four hundred octets in each second keep a connection alive, and go on to pika."""
    pika = Watched(4)
    for turn in range(1, 20):
        pika.run_until(turn * 9)
        pika._on_data_available(bytes(3600))
    assert pika.ended == []
    assert len(pika.data) == 19


def test_whole_frames_may_be_few() -> None:
    """Eight octets in each nine seconds keep a connection alive, if they are a frame."""
    pika = Watched(4)
    pika.whole = True
    for turn in range(1, 20):
        pika.run_until(turn * 9)
        pika._on_data_available(bytes(8))
    assert pika.ended == []


def test_a_frame_that_never_ends_ends_the_stream() -> None:
    """Where only heartbeats come for what is awaited, its size was garbled on the way."""
    pika = Watched(4)
    for turn in range(1, 20):
        pika.run_until(turn * 2)
        pika._on_data_available(b"\x01\x00\x01\x00\x00\xff\xff\x00"[:8])
    when, error = pika.ended[0]
    assert 14 <= when <= 16
    assert convert.closed(error) == Closed(0, GARBLED)


def test_a_closed_connection_has_no_timers() -> None:
    """Pika stops them when the stream ends, and also while one of them is being called."""
    pika = Watched(4)
    assert pika._heartbeat_checker is not None
    pika.run_until(3)
    pika._heartbeat_checker.received()
    pika._heartbeat_checker.stop()
    assert pika.timers == []
