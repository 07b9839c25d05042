from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from pamqp import commands, frame

from mqkit.errors import ConnectError
from mqkit.settings import BrokerUrl
from mqkit.testing.brokers import probe
from mqkit.testing.brokers.broker import BrokerControlError, UrlBroker, run_ctl


@contextlib.contextmanager
def server(answer: bytes) -> Iterator[str]:
    """A server that sends `answer` to every connection once it has said anything; its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    with client:
                        client.recv(100)
                        client.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"amqp://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def start_frame() -> bytes:
    start = commands.Connection.Start(server_properties={"version": "4.9.9"})
    return frame.marshal(start, 0)


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


def test_a_named_broker_is_not_killed() -> None:
    """kill, stop and start of a broker that somebody else runs are refused."""
    with server(start_frame()) as url, UrlBroker(url) as broker:
        assert broker.version == "4.9.9"
        for action in (broker.kill, broker.stop, broker.start):
            with pytest.raises(BrokerControlError, match="somebody else runs it"):
                action()


def test_ctl_of_a_named_broker_needs_its_command() -> None:
    """Without MQKIT_TEST_CTL, ctl says to set it; with it, it is run with -q and the words."""
    with server(start_frame()) as url:
        with UrlBroker(url) as broker, pytest.raises(BrokerControlError, match="MQKIT_TEST_CTL"):
            broker.ctl("list_queues")
        with UrlBroker(url, ["echo"]) as broker:
            assert broker.ctl("list_queues", "name") == "-q list_queues name\n"


def test_a_failing_ctl_is_an_error_with_its_own_words() -> None:
    """The exit code and what rabbitmqctl printed are in the error."""
    command = ["sh", "-c", "echo 'no such vhost' >&2; exit 3", "rabbitmqctl"]
    with pytest.raises(BrokerControlError, match=r"list_queues exited with 3: no such vhost"):
        run_ctl(command, ["list_queues"])
