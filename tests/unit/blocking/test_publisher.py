from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel, model_serializer

from mqkit.blocking.publisher import BlockingPublisher
from mqkit.drivers.base import Incoming
from mqkit.errors import (
    BrokerUrlError,
    ConfigurationError,
    ConnectionLostError,
    InvalidMessageError,
    PublisherClosedError,
)
from mqkit.message import Message, Properties
from mqkit.topology import Queue
from tests.unit.blocking.fake_publisher import FakePublisher, install

NOWHERE = "amqp://user:s3cret@127.0.0.1:1/vhost"


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakePublisher:
    return install(monkeypatch)


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
    fake: FakePublisher, publisher: BlockingPublisher, routing_key: str, headers: dict[str, str]
) -> None:
    """A message that cannot be written raises before a thread is started for it."""
    threads = threading.active_count()
    with pytest.raises(InvalidMessageError):
        publisher.publish("", routing_key, b"", headers=headers)
    assert fake.taken == []
    assert threading.active_count() == threads


def test_bad_arguments() -> None:
    """A malformed URL is refused when the publisher is made."""
    with pytest.raises(BrokerUrlError):
        BlockingPublisher("amqp://user:s3cret@host/vhost?hartbeat=1")


def test_a_body_is_encoded_in_the_callers_thread(
    fake: FakePublisher, publisher: BlockingPublisher
) -> None:
    """What a body needs of its thread (a translation, a database's connection) is there."""
    encoded_in: list[str] = []

    class Body(BaseModel):
        @model_serializer
        def encoded(self) -> dict[str, int]:
            encoded_in.append(threading.current_thread().name)
            return {}

    publisher.publish("", "queue", Body())
    assert set(encoded_in) == {threading.current_thread().name}
    assert fake.threads == {"mqkit.blocking.publisher"}


def test_a_request_has_its_reply(fake: FakePublisher, publisher: BlockingPublisher) -> None:
    """What the handler returned comes back as the type that was asked for."""
    body = b'{"n": 2}'
    properties = Properties(content_type="application/json")
    fake.reply = Incoming(
        1, redelivered=False, exchange="", routing_key="", properties=properties, body=body
    )
    assert publisher.request(Queue("q"), {}, dict[str, int], message_id="r-1") == {"n": 2}
    assert fake.taken == ["r-1"]


def test_what_cannot_be_a_reply_is_told_before_the_request(
    fake: FakePublisher, publisher: BlockingPublisher
) -> None:
    """A type that pydantic cannot validate is a ConfigurationError; nothing was written."""
    with pytest.raises(ConfigurationError, match="a reply cannot be"):
        publisher.request(Queue("q"), {}, threading.Lock)
    assert fake.taken == []


def test_ctrl_c_ends_the_wait(fake: FakePublisher, publisher: BlockingPublisher) -> None:
    """What nobody waits for any more is cancelled, so that it is not written later."""
    cancelled = threading.Event()

    async def never(_: Message) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    fake.comes_of = never
    with pytest.raises(KeyboardInterrupt):
        publisher.publish("", "queue", b"")
    assert cancelled.wait(5)


def test_a_publish_of_its_own_thread_is_refused(
    fake: FakePublisher, publisher: BlockingPublisher
) -> None:
    """As of a logging handler that publishes what the publisher logs: it would wait for itself."""

    async def again(_: Message) -> None:
        publisher.publish("", "queue", b"")

    fake.comes_of = again
    with pytest.raises(ConfigurationError, match="QueueHandler"):
        publisher.publish("", "queue", b"")


async def test_in_a_coroutine_it_works_and_blocks(
    fake: FakePublisher, publisher: BlockingPublisher
) -> None:
    """It is not refused where an event loop runs, as in a `def` function that a task calls."""
    assert publisher.publish("", "queue", b"", message_id="m-1") == "m-1"


def test_no_thread_to_be_had(
    fake: FakePublisher, publisher: BlockingPublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no thread can be started the caller is told so, and the next call tries again."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(ConnectionLostError, match="can't start new thread") as raised:
            publisher.publish("", "queue", b"")
    assert not raised.value.may_be_stored
    publisher.publish("", "queue", b"")


def test_a_failure_of_its_own_reaches_the_caller(
    fake: FakePublisher, publisher: BlockingPublisher
) -> None:
    """A bug in the thread is raised in the caller's, and the next publish is taken."""

    async def fails(_: Message) -> None:
        raise ZeroDivisionError("a bug")

    fake.comes_of = fails
    with pytest.raises(ZeroDivisionError):
        publisher.publish("", "queue", b"")
    fake.comes_of = FakePublisher().comes_of
    publisher.publish("", "queue", b"")


def test_closed_is_closed(fake: FakePublisher, publisher: BlockingPublisher) -> None:
    """After `close`, which may be called twice, every call raises and nothing is written."""
    publisher.publish("", "queue", b"", message_id="m-1")
    publisher.close()
    publisher.close()
    calls: list[Any] = [
        lambda: publisher.publish("", "queue", b""),
        lambda: publisher.send(Message("", "queue", b"", Properties(message_id="m-2"))),
        lambda: publisher.request(Queue("q"), {}, dict),
    ]
    for call in calls:
        with pytest.raises(PublisherClosedError, match="is closed") as raised:
            call()
        assert not raised.value.may_be_stored
    assert fake.taken == ["m-1"]


def test_what_is_cut_off_by_close_may_be_stored(
    fake: FakePublisher, publisher: BlockingPublisher
) -> None:
    """A publish that has no confirm when its publisher ends gets an error, not a hang."""
    begun = threading.Event()

    async def never(_: Message) -> None:
        begun.set()
        await asyncio.Event().wait()

    fake.comes_of = never
    errors: list[PublisherClosedError] = []

    def publish() -> None:
        try:
            publisher.publish("", "queue", b"", message_id="m-1")
        except PublisherClosedError as error:
            errors.append(error)

    caller = threading.Thread(target=publish)
    caller.start()
    assert begun.wait(5)
    publisher.close()
    caller.join(5)
    assert [(error.message_id, error.may_be_stored) for error in errors] == [("m-1", True)]


def test_closed_before_its_first_use(fake: FakePublisher) -> None:
    """It starts no thread any more."""
    publisher = BlockingPublisher(NOWHERE)
    publisher.close()
    threads = threading.active_count()
    with pytest.raises(PublisherClosedError):
        publisher.publish("", "queue", b"")
    assert threading.active_count() == threads
