"""Many publishes of a thread: what is read of the input when, and what becomes of each."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any, cast

import pytest

from mqkit.blocking.publisher import BlockingPublisher
from mqkit.errors import ConnectionLostError, InvalidMessageError, OptionError, PublisherClosedError
from mqkit.publishing.outgoing import Outgoing
from mqkit.topology import Exchange
from tests.unit.blocking.fake_publisher import FakePipeline, FakePublisher, install


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakePublisher:
    return install(monkeypatch)


@pytest.fixture
def publisher(fake: FakePublisher) -> Iterator[BlockingPublisher]:
    with BlockingPublisher("amqp://127.0.0.1:1/") as publisher:
        yield publisher


def outgoing(count: int) -> Iterator[Outgoing]:
    for number in range(count):
        yield Outgoing("", "q", {"n": number}, message_id=str(number))


def test_each_has_its_result_in_order(fake: FakePublisher, publisher: BlockingPublisher) -> None:
    """They are handed over in the order of the input, and each gives its index and id."""
    results = list(publisher.publish_many(outgoing(3000)))
    assert [(each.index, each.message_id, each.error) for each in results] == [
        (number, str(number), None) for number in range(3000)
    ]
    assert fake.pipelines[0].begun == list(range(3000))


def hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the broker confirm nothing until a test says so."""
    monkeypatch.setattr(FakePipeline, "hold", True, raising=False)
    real = FakePipeline.__init__

    def make(pipeline: FakePipeline) -> None:
        real(pipeline)
        pipeline.hold = True

    monkeypatch.setattr(FakePipeline, "__init__", make)


def until(condition: Any) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_no_more_is_read_than_the_window_holds(
    fake: FakePublisher, publisher: BlockingPublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The input is read on as messages are confirmed, and never held whole."""
    hold(monkeypatch)
    read: list[int] = []

    def noted() -> Iterator[Outgoing]:
        for each in outgoing(100):
            read.append(len(read))
            yield each

    results = publisher.publish_many(noted(), window=10)
    found: list[int] = []
    reader = threading.Thread(target=lambda: found.extend(each.index for each in results))
    reader.start()
    for number in range(100):
        until(lambda number=number: fake.pipelines and number in fake.pipelines[0].begun)
        assert len(read) <= 10 + number
        pipeline, loop = fake.pipelines[0], cast(Any, publisher._background())._loop
        loop.call_soon_threadsafe(pipeline.finish, number, str(number))
    reader.join(5)
    assert found == list(range(100))


def test_what_fails_stops_no_other(fake: FakePublisher, publisher: BlockingPublisher) -> None:
    """What is no message, and what cannot be encoded, gives its error at its place."""
    given: list[Any] = [
        Outgoing("", "q", b"", message_id="a"),
        "not a message",
        Outgoing("", "q", object(), message_id="c"),
        Outgoing("", "q", b"", message_id="d"),
    ]
    results = sorted(publisher.publish_many(given), key=lambda each: each.index)
    assert [each.message_id for each in results] == ["a", None, "c", "d"]
    assert [type(each.error) for each in results] == [
        type(None),
        InvalidMessageError,
        InvalidMessageError,
        type(None),
    ]
    assert "message 1: publish_many takes Outgoing" in str(results[1].error)


def test_an_exchange_is_noted_before_its_message(
    fake: FakePublisher, publisher: BlockingPublisher
) -> None:
    """So that it is declared, as by `publish`."""
    events = Exchange("events", mandatory=False)
    given = [Outgoing(events, "key", b""), Outgoing("events", "key", b"")]
    assert [each.error for each in publisher.publish_many(given)] == [None, None]
    assert fake.noted == [events, "events"]


def test_what_the_input_raises_comes_last(publisher: BlockingPublisher) -> None:
    """All that it gave before has its result first."""

    def breaks() -> Iterator[Outgoing]:
        yield from outgoing(5)
        raise LookupError("the file ended")

    results = publisher.publish_many(breaks())
    assert [next(results).index for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(LookupError, match="the file ended"):
        next(results)


def test_the_input_is_read_in_the_callers_thread(publisher: BlockingPublisher) -> None:
    """A cursor of a database belongs to the thread that opened it."""
    threads = set()

    def noted() -> Iterator[Outgoing]:
        for each in outgoing(50):
            threads.add(threading.current_thread())
            yield each

    list(publisher.publish_many(noted()))
    assert threads == {threading.current_thread()}


def test_who_stops_asking_ends_it(
    fake: FakePublisher, publisher: BlockingPublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The iterator that is dropped lets the loop write no more of it."""
    results = publisher.publish_many(outgoing(1000), window=5)
    next(results)
    assert not fake.pipelines[0].cancelled.is_set()
    del results
    assert fake.pipelines[0].cancelled.wait(5)


def test_nothing_begins_before_it_is_asked_for(
    fake: FakePublisher, publisher: BlockingPublisher
) -> None:
    """The call itself reads nothing; wrong options are told by it all the same."""
    publisher.publish_many(outgoing(3))
    assert fake.pipelines == []
    with pytest.raises(OptionError, match="publish_many takes an iterable of Outgoing"):
        publisher.publish_many(cast(Any, 5))
    with pytest.raises(OptionError, match="window"):
        publisher.publish_many(outgoing(3), window=0)


def test_on_a_closed_publisher_each_has_its_error(publisher: BlockingPublisher) -> None:
    """Nothing of them was written."""
    publisher.close()
    results = list(publisher.publish_many(outgoing(3)))
    assert [each.message_id for each in results] == ["0", "1", "2"]
    for each in results:
        assert isinstance(each.error, PublisherClosedError)
        assert not each.error.may_be_stored


def test_without_a_thread_each_has_its_error(
    publisher: BlockingPublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the thread cannot be started for one message, it is tried for the next."""
    started = []
    real = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        started.append(thread)
        if len(started) == 1:
            raise RuntimeError("can't start new thread")
        real(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    errors = [each.error for each in publisher.publish_many(outgoing(3))]
    assert isinstance(errors[0], ConnectionLostError)
    assert not errors[0].may_be_stored
    assert errors[1:] == [None, None]


def test_what_a_close_cuts_off_has_its_error(
    fake: FakePublisher, publisher: BlockingPublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waits for results of a publisher that another thread closes gets one for each message."""
    hold(monkeypatch)
    found: list[Any] = []
    reader = threading.Thread(target=lambda: found.extend(publisher.publish_many(outgoing(3))))
    reader.start()
    until(lambda: fake.pipelines and len(fake.pipelines[0].begun) == 3)
    publisher.close()
    reader.join(5)
    assert [each.index for each in found] == [0, 1, 2]
    for each in found:
        assert isinstance(each.error, PublisherClosedError)
        assert each.error.may_be_stored


def test_a_defect_is_raised(
    fake: FakePublisher, publisher: BlockingPublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug of the pipeline reaches who waits for results, and does not leave it waiting."""

    async def fails(_: FakePipeline) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(FakePipeline, "next", fails)
    with pytest.raises(ZeroDivisionError):
        list(publisher.publish_many(outgoing(3)))
