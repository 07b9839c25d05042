from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from mqkit.blocking.publisher import BlockingPublisher
from mqkit.drivers.base import Acked, Closed, Gone, Returned, Verdict
from mqkit.errors import (
    BrokerUrlError,
    ConnectionLostError,
    InvalidMessageError,
    PublisherClosedError,
    UnroutableError,
)
from mqkit.message import Message, Properties

NOWHERE = "amqp://user:s3cret@127.0.0.1:1/vhost"


class FakeConnection:
    """A connection that answers with what the test says, and counts what is written to it."""

    def __init__(self, broker: FakeBroker) -> None:
        self.is_open = True
        self.blocked: str | None = None
        self.may_probe = False
        self.silence = 0.0
        self.written: list[Message] = []
        self._broker = broker
        self._woken = threading.Event()

    def prepare(self) -> None:
        """There is nothing to open."""

    def publish(self, message: Message) -> Verdict:
        self.written.append(message)
        verdict = self._broker.verdict()
        if isinstance(verdict, Gone):
            self.is_open = False
        return verdict

    def pump(self, seconds: float) -> None:
        self._woken.wait(seconds)
        self._woken.clear()

    def wake(self) -> None:
        self._woken.set()

    def close(self) -> None:
        self.is_open = False


class FakeBroker:
    """Stands for `BlockingConnection`: opens one fake connection after the other."""

    def __init__(self) -> None:
        self.connections: list[FakeConnection] = []
        self.verdict: Callable[[], Verdict] = Acked
        self.refuse: Exception | None = None

    @property
    def written(self) -> list[str | None]:
        """The ids of what was written, over all connections."""
        return [m.properties.message_id for each in self.connections for m in each.written]

    def open(self, *_: object) -> FakeConnection:
        if self.refuse is not None:
            raise self.refuse
        self.connections.append(FakeConnection(self))
        return self.connections[-1]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeBroker:
    broker = FakeBroker()
    monkeypatch.setattr("mqkit.blocking.thread.BlockingConnection", broker)
    return broker


@pytest.fixture
def publisher() -> Iterator[BlockingPublisher]:
    with BlockingPublisher(NOWHERE) as publisher:
        yield publisher


def test_no_secret_in_its_repr(publisher: BlockingPublisher) -> None:
    """A publisher can be logged: its repr names the host and not the password."""
    assert "127.0.0.1:1" in repr(publisher)
    assert "s3cret" not in repr(publisher)


def test_an_unreachable_broker(
    publisher: BlockingPublisher, caplog: pytest.LogCaptureFixture
) -> None:
    """No connection within the timeout: nothing was written, and why is said without a secret."""
    started = time.monotonic()
    with pytest.raises(ConnectionLostError, match=r"127\.0\.0\.1:1") as raised:
        publisher.publish("", "queue", b"", message_id="m-1", timeout=0.3)
    assert time.monotonic() - started < 2
    assert not raised.value.may_be_stored
    assert raised.value.message_id == "m-1"
    assert "s3cret" not in str(raised.value) + caplog.text


def test_a_server_that_says_nothing() -> None:
    """A host that takes the connection and never answers holds nobody past the timeout."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"amqp://guest:guest@127.0.0.1:{server.getsockname()[1]}/?connect_timeout=1"
        publisher = BlockingPublisher(url)
        started = time.monotonic()
        with pytest.raises(ConnectionLostError):
            publisher.publish("", "queue", b"", timeout=0.3)
        assert time.monotonic() - started < 1
        publisher.close()


@pytest.mark.parametrize(
    ("routing_key", "headers"), [("k", {"a": object()}), ("\ud800", {}), ("k", {"a": "\ud800"})]
)
def test_what_cannot_be_encoded_is_told_at_once(
    fake: FakeBroker, publisher: BlockingPublisher, routing_key: str, headers: dict[str, str]
) -> None:
    """A message that cannot be written raises before a connection is opened for it."""
    with pytest.raises(InvalidMessageError):
        publisher.publish("", routing_key, b"", headers=headers)
    assert fake.connections == []


def test_bad_arguments() -> None:
    """A malformed URL and a pool of no connections are refused when the publisher is made."""
    with pytest.raises(BrokerUrlError):
        BlockingPublisher("amqp://user:s3cret@host/vhost?hartbeat=1")
    with pytest.raises(ValueError, match="connections"):
        BlockingPublisher(NOWHERE, connections=0)


def test_a_loss_is_published_again(fake: FakeBroker, publisher: BlockingPublisher) -> None:
    """A connection lost before the confirm: the same message goes out again on another one."""
    verdicts: list[Verdict] = [Gone(Closed(320, "forced")), Gone(Closed(0, "lost")), Acked()]
    fake.verdict = lambda: verdicts.pop(0)
    assert publisher.publish("", "queue", b"", message_id="m-1") == "m-1"
    assert fake.written == ["m-1"] * 3
    assert len(fake.connections) == 3


def test_a_refusal_after_a_loss_says_that_it_may_be_stored(
    fake: FakeBroker, publisher: BlockingPublisher
) -> None:
    """The broker may have taken the message before, on the connection that was lost."""
    returned = Returned(312, "NO_ROUTE", "", "queue", Properties())
    verdicts: list[Verdict] = [Gone(Closed(0, "lost")), returned, returned]
    fake.verdict = lambda: verdicts.pop(0)
    with pytest.raises(UnroutableError) as after_a_loss:
        publisher.publish("", "queue", b"")
    assert after_a_loss.value.may_be_stored
    with pytest.raises(UnroutableError) as at_once:
        publisher.publish("", "queue", b"")
    assert not at_once.value.may_be_stored


def test_losses_without_end_are_not_met_in_a_tight_loop(
    fake: FakeBroker, publisher: BlockingPublisher
) -> None:
    """A broker that drops every publisher is tried again after waits, and the result is unknown."""
    fake.verdict = lambda: Gone(Closed(0, "lost"))
    with pytest.raises(ConnectionLostError) as raised:
        publisher.publish("", "queue", b"", timeout=1.0)
    assert raised.value.may_be_stored
    assert 2 <= len(fake.connections) < 50


def test_what_nobody_waits_for_is_not_written(fake: FakeBroker) -> None:
    """A publish that timed out in the queue is not written once the queue moves on."""
    gate = threading.Event()

    def slow() -> Verdict:
        gate.wait(10)
        return Acked()

    fake.verdict = slow
    with BlockingPublisher(NOWHERE, connections=1) as publisher:
        first = threading.Thread(
            target=publisher.publish, args=("", "q", b""), kwargs={"message_id": "first"}
        )
        first.start()
        while not (fake.connections and fake.connections[0].written):
            first.join(0.001)
        with pytest.raises(ConnectionLostError, match="its turn"):
            publisher.publish("", "q", b"", message_id="late", timeout=0.05)
        gate.set()
        first.join()
        publisher.publish("", "q", b"", message_id="next")
    assert fake.written == ["first", "next"]


def test_stuck_connections_do_not_hold_up_the_rest(fake: FakeBroker) -> None:
    """While every connection waits for a confirm, another one is opened for who comes next."""
    gate = threading.Event()

    def first_one_hangs() -> Verdict:
        if len(fake.connections) == 1:
            gate.wait(10)
        return Acked()

    fake.verdict = first_one_hangs
    with BlockingPublisher(NOWHERE, connections=1) as publisher:
        stuck = threading.Thread(target=publisher.publish, args=("", "q", b""))
        stuck.start()
        while not (fake.connections and fake.connections[0].written):
            stuck.join(0.001)
        publisher.publish("", "q", b"", timeout=5)
        assert len(fake.connections) == 2
        gate.set()
        stuck.join()


def test_no_thread_to_be_had(publisher: BlockingPublisher, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no thread can be started, as at the interpreter's end, the caller is told so."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(ConnectionLostError, match="interpreter shutdown") as raised:
        publisher.publish("", "queue", b"")
    assert not raised.value.may_be_stored


def test_a_failure_of_its_own_reaches_the_caller(
    fake: FakeBroker, publisher: BlockingPublisher, caplog: pytest.LogCaptureFixture
) -> None:
    """A bug in a thread is logged and raised, and the next publish starts afresh."""
    fake.refuse = ZeroDivisionError("a bug")
    with pytest.raises(ConnectionLostError, match="traceback"):
        publisher.publish("", "queue", b"")
    assert "ZeroDivisionError" in caplog.text
    fake.refuse = None
    publisher.publish("", "queue", b"")


def test_closed_is_closed(fake: FakeBroker, publisher: BlockingPublisher) -> None:
    """After `close`, which may be called twice, a publish raises and nothing is written."""
    publisher.publish("", "queue", b"")
    publisher.close()
    publisher.close()
    with pytest.raises(PublisherClosedError):
        publisher.publish("", "queue", b"")
    assert len(fake.connections[0].written) == 1
