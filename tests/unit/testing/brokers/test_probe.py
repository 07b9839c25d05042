from __future__ import annotations

import socket
import time

import pytest

from mqkit.errors import ConnectError
from mqkit.settings import BrokerUrl
from mqkit.testing.brokers import probe
from tests.unit.testing.brokers.support import server, start_frame


def test_a_broker_tells_its_version() -> None:
    """The version is what connection.start says."""
    with server(start_frame()) as url:
        assert probe.wait_until_ready(BrokerUrl.parse(url), timeout=5) == "4.9.9"


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"AMQP\x00\x01\x00\x00", b"", b"\x01\x00"]
)
def test_what_is_not_amqp_0_9_1_is_refused(answer: bytes) -> None:
    """Another protocol, another AMQP, or a connection that just ends is no broker."""
    with server(answer) as url, pytest.raises(ConnectError):
        probe.read_version(BrokerUrl.parse(url), BrokerUrl.parse(url).hosts[0], timeout=5)


def test_waiting_ends_at_its_deadline() -> None:
    """Where nothing listens, the error comes at the deadline and names the host."""
    (port,) = probe.free_ports(1)
    begun = time.monotonic()
    with pytest.raises(ConnectError, match=f"127.0.0.1:{port}"):
        probe.wait_until_ready(BrokerUrl.parse(f"amqp://127.0.0.1:{port}"), timeout=0.3)
    assert 0.3 <= time.monotonic() - begun < 2


def test_waiting_ends_with_what_is_waited_for() -> None:
    """A broker that has ended is not waited for."""
    (port,) = probe.free_ports(1)
    begun = time.monotonic()
    with pytest.raises(ConnectError, match="it exited"):
        probe.wait_until_ready(
            BrokerUrl.parse(f"amqp://127.0.0.1:{port}"), timeout=60, ended=lambda: "it exited"
        )
    assert time.monotonic() - begun < 5


def test_free_ports_differ_and_are_free() -> None:
    """Ports asked for together are different, and can be listened on."""
    ports = probe.free_ports(5)
    assert len(set(ports)) == 5
    for port in ports:
        socket.create_server(("127.0.0.1", port)).close()
