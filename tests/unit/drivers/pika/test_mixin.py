"""What mqkit changes in how pika's connections read."""

from __future__ import annotations

import pytest
from pika import exceptions
from pika.connection import Connection

from tests.unit.drivers.pika.fakes import Watched


def test_a_frame_that_is_too_large_is_refused() -> None:
    """A size over frame_max is no size."""
    pika = Watched(4)
    pika._on_data_available(b"\x01\x00\x01\x00\x02")
    with pytest.raises(exceptions.InvalidFrameError):
        pika._on_data_available(b"\x00\x00")


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


@pytest.mark.parametrize(
    "place", ["_create_heartbeat_checker", "_on_data_available", "_read_frame"]
)
def test_pika_has_the_places_that_are_taken(place: str) -> None:
    """A pika without them would go on with its own heartbeats, and nobody would know."""
    assert callable(getattr(Connection, place))
