from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from mqkit import Outgoing
from mqkit.blocking.publisher import BlockingPublisher
from mqkit.errors import (
    BlockedError,
    PublisherClosedError,
    PublishTimeoutError,
)
from mqkit.settings import BrokerUrl
from mqkit.testing.brokers.broker import Broker
from mqkit.testing.proxy.proxy import TcpProxy
from tests.integration.blocking_support import (
    QueueOnBroker,
    alarm,
    connections_named,
    eventually,
    quorum_queue,
)


@pytest.fixture
def queue(broker: Broker, name: str) -> Iterator[QueueOnBroker]:
    with quorum_queue(broker.url, name) as queue:
        yield queue


@pytest.fixture
def publisher(broker: Broker, name: str) -> Iterator[BlockingPublisher]:
    with BlockingPublisher(broker.url, name=name) as publisher:
        yield publisher


def test_a_lost_idle_connection_is_no_error(
    broker: Broker, publisher: BlockingPublisher, queue: QueueOnBroker
) -> None:
    """After the broker closed the connection between two publishes, the next is confirmed."""
    publisher.publish("", queue.name, b"", message_id="before")
    broker.close_connections()
    publisher.publish("", queue.name, b"", message_id="after")
    assert queue.ids() == {"before": 1, "after": 1}


def test_connections_closed_during_publishes_lose_nothing(
    broker: Broker, publisher: BlockingPublisher, queue: QueueOnBroker
) -> None:
    """While the broker closes all connections twice, every publish is confirmed and stored."""
    stop = threading.Event()
    published: list[str] = []

    def work(thread: int) -> None:
        for number in itertools.count():
            if stop.is_set():
                return
            message_id = f"{thread}-{number}"
            published.append(publisher.publish("", queue.name, b"", message_id=message_id))

    with ThreadPoolExecutor(6) as pool:
        futures = [pool.submit(work, number) for number in range(6)]
        try:
            for _ in range(2):
                before = len(published)
                eventually(lambda before=before: len(published) > before + 12)  # type: ignore[misc]
                broker.close_connections()
        finally:
            stop.set()
    for future in futures:
        future.result()
    assert set(queue.ids()) == set(published)


def test_an_alarm_blocks_before_anything_is_written(
    broker: Broker, publisher: BlockingPublisher, queue: QueueOnBroker
) -> None:
    """During a memory alarm a publish raises BlockedError at its timeout and is never stored."""
    with alarm(broker):
        for timeout in (2.0, 0.5):
            started = time.monotonic()
            with pytest.raises(BlockedError, match="memory"):
                publisher.publish("", queue.name, b"body", message_id="blocked", timeout=timeout)
            assert time.monotonic() - started < timeout + 1
    publisher.publish("", queue.name, b"body", message_id="later")
    assert queue.ids() == {"later": 1}


def test_a_publish_waits_out_an_alarm(
    broker: Broker, publisher: BlockingPublisher, queue: QueueOnBroker
) -> None:
    """A publish whose deadline is after the alarm's end is confirmed, and stored once."""
    with ThreadPoolExecutor(1) as pool:
        with alarm(broker):
            future = pool.submit(publisher.publish, "", queue.name, b"", message_id="patient")
            with pytest.raises(BlockedError):
                publisher.publish("", queue.name, b"", timeout=2)
        assert future.result() == "patient"
    assert queue.ids() == {"patient": 1}


def test_the_next_host_is_tried(broker: Broker, queue: QueueOnBroker) -> None:
    """A host where nothing listens does not keep a publish from the next one in the URL."""
    url = BrokerUrl.parse(broker.url)
    userinfo = f"{url.username}:{url.password.get_secret_value()}"
    with BlockingPublisher(f"amqp://{userinfo}@127.0.0.1:1,{url.hosts[0]}/") as publisher:
        publisher.publish("", queue.name, b"", timeout=10)


def test_an_idle_connection_is_kept_alive(broker: Broker, queue: QueueOnBroker) -> None:
    """Without a publish its thread answers heartbeats; the next publish uses that connection."""
    with (
        TcpProxy(broker.url) as proxy,
        BlockingPublisher(f"{proxy.url}?heartbeat=1") as publisher,
    ):
        publisher.publish("", queue.name, b"")
        # The broker gives up after two intervals without a frame.
        eventually(lambda: proxy.sent_heartbeats >= 4)
        publisher.publish("", queue.name, b"")
        assert proxy.connections == 1


def test_a_silent_broker_releases_the_caller(broker: Broker, queue: QueueOnBroker) -> None:
    """On a broker gone silent what is in flight is unknown at its deadline, and stored once."""
    with TcpProxy(broker.url) as proxy, BlockingPublisher(proxy.url) as publisher:
        publisher.publish("", queue.name, b"", message_id="before")
        proxy.stall()
        started = time.monotonic()
        with pytest.raises(PublishTimeoutError) as unknown:
            publisher.publish("", queue.name, b"", message_id="written", timeout=0.5)
        assert time.monotonic() - started < 1.5
        assert unknown.value.may_be_stored
        proxy.resume()
        publisher.publish("", queue.name, b"", message_id="after")
    assert queue.ids() == {"before": 1, "written": 1, "after": 1}


def test_a_connection_that_dies_in_silence_is_replaced(
    broker: Broker, queue: QueueOnBroker
) -> None:
    """A publish in flight on a connection that went dead is confirmed over another one."""
    with (
        TcpProxy(broker.url) as proxy,
        BlockingPublisher(f"{proxy.url}?heartbeat=1") as publisher,
    ):
        publisher.publish("", queue.name, b"", message_id="before")
        proxy.forget()
        began = time.monotonic()
        publisher.publish("", queue.name, b"", message_id="during")
        assert time.monotonic() - began < 5  # heartbeats; pika's own look takes six at the least
        assert proxy.connections >= 2
    assert set(queue.ids()) == {"before", "during"}


def test_close_fails_what_waits(broker: Broker, queue: QueueOnBroker) -> None:
    """`close` returns soon, and a publish that waits for a connection is told of it."""
    with TcpProxy(broker.url) as proxy, ThreadPoolExecutor(1) as pool:
        proxy.stall()
        publisher = BlockingPublisher(proxy.url)
        waiting = pool.submit(publisher.publish, "", queue.name, b"")
        eventually(lambda: proxy.connections == 1)
        started = time.monotonic()
        publisher.close()
        assert time.monotonic() - started < 5
        with pytest.raises(PublisherClosedError):
            waiting.result()
    with pytest.raises(PublisherClosedError):
        publisher.publish("", queue.name, b"")


def test_connections_closed_during_many_lose_nothing(
    broker: Broker, publisher: BlockingPublisher, queue: QueueOnBroker
) -> None:
    """While the broker closes all connections, each is confirmed, and none comes before another."""

    def outgoing() -> Iterator[Outgoing]:
        for number in range(3000):
            if number == 1500:
                broker.close_connections()
            yield Outgoing("", queue.name, b"", message_id=str(number))

    results = list(publisher.publish_many(outgoing(), window=200, timeout=60))
    assert {result.error for result in results} == {None}
    # A message that was written twice may be there twice: each counts where it is first.
    first = list(dict.fromkeys(message_id for message_id, _ in queue.take_all()))
    assert first == [str(number) for number in range(3000)]


def in_a_fork(work: Callable[[], object]) -> int:
    """Run it in a child process; returns the child's id."""
    with warnings.catch_warnings():
        # Python 3.12 and later warn of any fork beside threads; prefork servers do it all the same.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return child


def ends_well(child: int) -> bool:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_forked_child_has_a_connection_of_its_own(
    broker: Broker, publisher: BlockingPublisher, queue: QueueOnBroker, name: str
) -> None:
    """A child publishes with the publisher it inherited, and the parent's connection lives on."""
    publisher.publish("", queue.name, b"", message_id="parent-1")
    before = connections_named(broker, name)

    def work() -> None:
        publisher.publish("", queue.name, b"", message_id="child", timeout=20)
        publisher.close()

    assert ends_well(in_a_fork(work))
    publisher.publish("", queue.name, b"", message_id="parent-2")
    eventually(lambda: connections_named(broker, name) == before)
    assert queue.ids() == {"parent-1": 1, "child": 1, "parent-2": 1}


def test_children_that_are_forked_while_threads_publish(
    publisher: BlockingPublisher, queue: QueueOnBroker
) -> None:
    """Whatever the parent's threads were at, each child publishes its many, and so does it."""
    stop = threading.Event()
    published: list[str] = []

    def go_on(thread: int) -> None:
        for number in itertools.count():
            if stop.is_set():
                return
            message_id = f"parent-{thread}-{number}"
            published.append(publisher.publish("", queue.name, b"", message_id=message_id))

    def work(child: int) -> None:
        messages = (
            Outgoing("", queue.name, b"", message_id=f"child-{child}-{number}")
            for number in range(50)
        )
        for result in publisher.publish_many(messages, timeout=20):
            assert result.error is None

    with ThreadPoolExecutor(3) as pool:
        futures = [pool.submit(go_on, thread) for thread in range(3)]
        try:
            children = []
            for child in range(4):
                before = len(published)
                eventually(lambda before=before: len(published) > before + 5)  # type: ignore[misc]
                children.append(in_a_fork(lambda child=child: work(child)))  # type: ignore[misc]
            assert all(map(ends_well, children))
        finally:
            stop.set()
    for future in futures:
        future.result()
    of_children = {f"child-{child}-{number}" for child in range(4) for number in range(50)}
    assert set(queue.ids()) == {*published, *of_children}


@pytest.mark.in_turn
@pytest.mark.parametrize("used_before", [True, False])
def test_a_publish_at_the_interpreters_end_is_refused_at_once(
    queue: QueueOnBroker, *, used_before: bool
) -> None:
    """In a `__del__`, where no thread runs any more: it says so, and nobody waits for a timeout."""
    script = (
        "import sys, time\n"
        "from mqkit.blocking.publisher import BlockingPublisher\n"
        "class Last:\n"
        "    publisher, queue, now = BlockingPublisher(sys.argv[1]), sys.argv[2], time.monotonic\n"
        "    def __del__(self):\n"
        "        began = self.now()\n"
        "        try:\n"
        "            self.publisher.publish('', self.queue, b'', message_id='late')\n"
        "        except Exception as error:\n"
        "            print(type(error).__name__, error)\n"
        "        self.publisher.close()\n"
        "        print(self.now() - began < 1)\n"
        "last = Last()\n"
    )
    if used_before:
        script += "last.publisher.publish('', sys.argv[2], b'', message_id='first')\n"
    done = subprocess.run(
        [sys.executable, "-c", script, queue.url, queue.name],
        timeout=60,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("PublisherClosedError message late")
    assert "the interpreter is at its end" in done.stdout
    assert done.stdout.endswith("True\n")
    assert queue.ids() == ({"first": 1} if used_before else {})


@pytest.mark.in_turn
@pytest.mark.parametrize("end", ["", "raise SystemExit(0)", "import os; os.kill(os.getpid(), 2)"])
def test_an_unclosed_publisher_lets_the_process_end(
    queue: QueueOnBroker, end: str, name: str
) -> None:
    """A script that never closes its publisher publishes at exit, too, and ends at once."""
    script = (
        "import atexit, sys\n"
        "from mqkit.blocking.publisher import BlockingPublisher\n"
        "publisher = BlockingPublisher(sys.argv[1])\n"
        "atexit.register(publisher.publish, '', sys.argv[2], b'', message_id='at-exit')\n"
        "publisher.publish('', sys.argv[2], b'', message_id='first')\n"
        f"{end}\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, queue.url, queue.name],
        timeout=30,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "atexit" not in done.stderr
    assert queue.ids() == {"first": 1, "at-exit": 1}
