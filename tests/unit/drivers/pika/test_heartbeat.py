"""The heartbeats of the pika drivers, without a socket and on a clock of the test's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pika import exceptions
from pika.connection import Connection
from pika.frame import Heartbeat

from mqkit.drivers.common import GARBLED, SILENT
from mqkit.drivers.pika.heartbeat import HeartbeatConnection, Heartbeats


class FakePika:
    """What of a pika connection the heartbeats use, in virtual time."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[tuple[float, Callable[[], None]]] = []
        self.sent: list[float] = []
        self.ended: list[tuple[float, BaseException]] = []
        self.data: list[bytes] = []
        self.bytes_received = 0
        self.whole = False
        self._frame_buffer = b""
        self._body_max_length = 131_064
        self.connection_state, self.CONNECTION_PROTOCOL = 1, 0

    def clock(self) -> float:
        return self.now

    def _adapter_call_later(self, seconds: float, call: Callable[[], None]) -> object:
        timer = (self.now + seconds, call)
        self.timers.append(timer)
        return timer

    def _adapter_remove_timeout(self, timer: Any) -> None:
        if timer in self.timers:
            self.timers.remove(timer)

    def _send_frame(self, frame: object) -> None:
        assert isinstance(frame, Heartbeat)
        self.sent.append(self.now)

    def _terminate_stream(self, error: BaseException) -> None:
        self.ended.append((self.now, error))

    def _on_data_available(self, data: bytes) -> None:
        self.data.append(data)
        if self.whole:
            self.bytes_received += len(data)
        else:
            self._frame_buffer += data

    def run_until(self, end: float) -> None:
        """Let time pass."""
        while self.timers and (first := min(self.timers, key=lambda timer: timer[0]))[0] <= end:
            self.timers.remove(first)
            self.now = first[0]
            first[1]()
        self.now = end


class Watched(HeartbeatConnection, FakePika):
    """As the classes of the drivers are made."""

    def __init__(self, heartbeat: float) -> None:
        FakePika.__init__(self)
        self._heartbeat_checker = None
        self._heartbeat_checker = Heartbeats(self, heartbeat, self.clock)


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
    assert str(error) == SILENT


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
    assert str(error) == GARBLED


def test_a_frame_that_is_too_large_is_refused() -> None:
    """A size over frame_max is no size."""
    pika = Watched(4)
    pika._on_data_available(b"\x01\x00\x01\x00\x02")
    with pytest.raises(exceptions.InvalidFrameError):
        pika._on_data_available(b"\x00\x00")


def test_a_closed_connection_has_no_timers() -> None:
    """Pika stops them when the stream ends, and also while one of them is being called."""
    pika = Watched(4)
    assert pika._heartbeat_checker is not None
    pika.run_until(3)
    pika._heartbeat_checker.received()
    pika._heartbeat_checker.stop()
    assert pika.timers == []


def test_data_before_the_heartbeats_were_agreed_on_goes_to_pika() -> None:
    """The handshake comes first."""
    pika = Watched(4)
    pika._heartbeat_checker = None
    pika._on_data_available(b"x")
    assert pika.data == [b"x"]


@pytest.mark.parametrize("words", [b"HTTP/1.1", b"\x15\3\3\0\2", b"AMQP\0\1\0\0"])
def test_a_peer_that_is_no_broker_is_known_by_its_first_words(words: bytes) -> None:
    """While the handshake is awaited; no heartbeat was agreed on then."""
    pika = Watched(4)
    pika._heartbeat_checker = None
    pika.connection_state = pika.CONNECTION_PROTOCOL
    with pytest.raises(exceptions.IncompatibleProtocolError):
        pika._on_data_available(words)


@pytest.mark.parametrize("place", ["_create_heartbeat_checker", "_on_data_available"])
def test_pika_has_the_places_that_are_taken(place: str) -> None:
    """A pika without them would go on with its own heartbeats, and nobody would know."""
    assert callable(getattr(Connection, place))
