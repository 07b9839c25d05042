from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator

import pytest
from pydantic import BaseModel

from mqkit import Exchange, Limits, Outgoing, Publisher, Queue, Reject, Retry, Runtime, Service
from mqkit.blocking.publisher import BlockingPublisher
from mqkit.broker.connection import Connection
from mqkit.drivers.pika.driver import PikaDriver
from mqkit.errors import (
    AuthenticationError,
    ExchangeNotFoundError,
    HeadersTooLargeError,
    NackedError,
    PublisherClosedError,
    PublishError,
    PublishRefusedError,
    RequestRejectedError,
    RequestTimeoutError,
    UnroutableError,
)
from mqkit.message import Message, Properties
from mqkit.settings import BrokerUrl
from mqkit.testing.brokers.broker import Broker
from tests.integration.blocking_support import (
    QueueOnBroker,
    channel_of,
    connections_named,
    eventually,
    in_threads,
    quorum_queue,
)
from tests.users import User


@pytest.fixture
def queue(broker: Broker, name: str) -> Iterator[QueueOnBroker]:
    with quorum_queue(broker.url, name) as queue:
        yield queue


@pytest.fixture
def publisher(broker: Broker, name: str) -> Iterator[BlockingPublisher]:
    with BlockingPublisher(broker.url, name=name) as publisher:
        yield publisher


def test_each_thread_gets_its_own_result(
    broker: Broker, publisher: BlockingPublisher, queue: QueueOnBroker
) -> None:
    """Eight threads with 200 publishes each: routable ones are stored once, others raise."""

    def work(thread: int) -> None:
        for number in range(200):
            message_id = f"{thread}-{number}"
            if number % 10 == 7:
                with pytest.raises(UnroutableError, match=message_id):
                    publisher.publish("", f"{queue.name}.none", b"", message_id=message_id)
            else:
                assert publisher.publish("", queue.name, b"", message_id=message_id) == message_id

    for future in in_threads(8, work):
        future.result()
    stored = queue.ids()
    assert set(stored) == {f"{t}-{n}" for t in range(8) for n in range(200) if n % 10 != 7}
    assert set(stored.values()) == {1}


def test_a_message_arrives_as_it_was_published(
    publisher: BlockingPublisher, queue: QueueOnBroker
) -> None:
    """The body is JSON, persistent, with its id, time and headers, like the async publisher's."""
    message_id = publisher.publish("", queue.name, {"amount": "1.10"}, headers={"tenant": "a"})
    with channel_of(queue.url) as channel:
        _, properties, body = channel.basic_get(queue.name, auto_ack=True)
    assert body == b'{"amount":"1.10"}'
    assert properties.content_type == "application/json"
    assert properties.delivery_mode == 2
    assert properties.message_id == message_id
    assert properties.headers["tenant"] == "a"
    assert abs(properties.timestamp - time.time()) < 60


def test_one_thread_needs_one_connection(
    broker: Broker, publisher: BlockingPublisher, queue: QueueOnBroker, name: str
) -> None:
    """A program that publishes from one thread opens one connection, however fast it goes."""
    for _ in range(300):
        publisher.publish("", queue.name, b"")
    assert len(connections_named(broker, name)) == 1


def test_a_missing_exchange_harms_nobody_else(
    publisher: BlockingPublisher, queue: QueueOnBroker, name: str
) -> None:
    """A publish to no exchange raises an error that names it; other threads do not notice."""

    def work(thread: int) -> None:
        for number in range(50):
            if thread % 2:
                with pytest.raises(ExchangeNotFoundError, match=f"{name}-missing"):
                    publisher.publish(f"{name}-missing", "key", b"")
            else:
                publisher.publish("", queue.name, b"", message_id=f"{thread}-{number}")

    for future in in_threads(6, work):
        future.result()
    assert set(queue.ids().values()) == {1}


def test_one_message_id_in_two_threads(publisher: BlockingPublisher, queue: QueueOnBroker) -> None:
    """Two publishes with one message id, one unroutable, get each its own result."""
    barrier = threading.Barrier(2)

    def work(thread: int) -> list[object]:
        results: list[object] = []
        for _ in range(50):
            barrier.wait()
            try:
                key = queue.name if thread else f"{queue.name}.none"
                results.append(publisher.publish("", key, b"", message_id="same"))
            except PublishError as error:
                results.append(type(error))
        return results

    unroutable, routable = [future.result() for future in in_threads(2, work)]
    assert unroutable == [UnroutableError] * 50
    assert routable == ["same"] * 50
    assert queue.ids() == {"same": 50}


def test_a_full_queue_nacks(broker: Broker, publisher: BlockingPublisher, name: str) -> None:
    """A queue that rejects publishes when it is full makes NackedError."""
    arguments = {"x-max-length": 1, "x-overflow": "reject-publish"}
    with channel_of(broker.url) as channel:
        channel.queue_declare(name, durable=True, arguments=arguments)
    publisher.publish("", name, b"")
    try:
        with pytest.raises(NackedError):
            publisher.publish("", name, b"")
    finally:
        with channel_of(broker.url) as channel:
            channel.queue_delete(name)


def test_a_refused_message(publisher: BlockingPublisher, queue: QueueOnBroker) -> None:
    """A message that the broker refuses raises its words, and the next one is confirmed."""
    forged = Message("", queue.name, b"", Properties(user_id="somebody", message_id="forged"))
    with pytest.raises(PublishRefusedError, match="user_id"):
        publisher.send(forged)
    publisher.publish("", queue.name, b"", message_id="next")
    assert queue.ids() == {"next": 1}


def test_a_header_larger_than_a_frame(broker: Broker, queue: QueueOnBroker, name: str) -> None:
    """A header for which the broker would close the connection is refused before it is written."""
    with BlockingPublisher(broker.url, name=name, limits=Limits(headers=300_000)) as publisher:
        started = time.monotonic()
        with pytest.raises(HeadersTooLargeError):
            publisher.publish("", queue.name, b"", headers={"trace": "x" * 200_000})
        assert time.monotonic() - started < 10
        publisher.publish("", queue.name, b"", message_id="next")
    assert queue.ids() == {"next": 1}


def test_a_user_that_may_not_probe(broker: Broker, queue: QueueOnBroker, name: str) -> None:
    """A user who may write to one exchange only publishes to it nonetheless."""
    with channel_of(broker.url) as channel:
        channel.exchange_declare(name, "fanout")
        channel.queue_bind(queue.name, name)
    user = User(broker, name)
    user.add("pw")
    try:
        user.permit("", f"^{name}$", "")
        url = BrokerUrl.parse(broker.url)
        host = url.hosts[0]
        with BlockingPublisher(f"amqp://{name}:pw@{host}/", timeout=10) as publisher:
            publisher.publish(name, "", b"", message_id="allowed")
            with pytest.raises(PublishRefusedError, match=r"amq\.default"):
                publisher.publish("", queue.name, b"")
            publisher.publish(name, "", b"", message_id="again")
    finally:
        user.delete()
        with channel_of(broker.url) as channel:
            channel.exchange_delete(name)
    assert queue.ids() == {"allowed": 1, "again": 1}


def test_wrong_credentials_are_told_at_once(broker: Broker) -> None:
    """A refused password raises at once instead of being tried until the deadline."""
    host = BrokerUrl.parse(broker.url).hosts[0]
    started = time.monotonic()
    with (
        BlockingPublisher(f"amqp://guest:wr0ng-secret@{host}/") as publisher,
        pytest.raises(AuthenticationError) as raised,
    ):
        publisher.publish("", "q", b"")
    assert time.monotonic() - started < 10
    assert "wr0ng-secret" not in str(raised.value)


def test_close_leaves_nothing_behind(broker: Broker, queue: QueueOnBroker, name: str) -> None:
    """After `close` there is neither a thread nor a connection of the publisher."""
    with BlockingPublisher(broker.url, name=name) as publisher:
        for future in in_threads(4, lambda _: publisher.publish("", queue.name, b"")):
            future.result()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(name)]
    eventually(lambda: not connections_named(broker, name))


class Order(BaseModel):
    """A body."""

    number: int


async def test_a_def_handler_takes_one(broker: Broker, queue: QueueOnBroker, name: str) -> None:
    """A plain function handler is given the service's one blocking publisher and uses it."""
    service = Service(name)
    made = []

    def factory() -> Iterator[BlockingPublisher]:
        with BlockingPublisher(broker.url, name=f"{name}.blocking") as publisher:
            made.append(publisher)
            yield publisher

    service.provide(BlockingPublisher, factory, scope="service")

    def answer(order: Order, publisher: BlockingPublisher) -> None:
        publisher.publish("", queue.name, order, message_id=str(order.number))

    work = Queue(f"{name}.work")
    service.handler(work, retry=Retry.never())(answer)
    url = BrokerUrl.parse(broker.url)
    stored: Counter[str] = Counter()
    async with Runtime(service, url):
        connection = Connection(url, name=name, driver=PikaDriver())
        await connection.open(5)
        sender = Publisher.on(connection)
        for number in range(20):
            await sender.publish("", work.name, Order(number=number))
        while sum(stored.values()) < 20:
            stored += await asyncio.to_thread(queue.ids)
        await connection.close()
    with channel_of(broker.url) as channel:
        channel.queue_delete(work.name)
        channel.queue_delete(f"{work.name}.dead")
    assert stored == Counter(str(number) for number in range(20))
    assert len(made) == 1
    with pytest.raises(PublisherClosedError):
        made[0].publish("", queue.name, b"")


def outgoing(queue: QueueOnBroker, count: int) -> Iterator[Outgoing]:
    for number in range(count):
        yield Outgoing("", queue.name, b"x" * 200, message_id=f"many-{number}")


def test_many_keep_their_order_and_wait_for_confirms_together(
    publisher: BlockingPublisher, queue: QueueOnBroker
) -> None:
    """They are stored once each, in the order of the input, much faster than one after another."""
    began = time.monotonic()
    for number in range(100):
        publisher.publish("", queue.name, b"x" * 200, message_id=f"one-{number}")
    each = (time.monotonic() - began) / 100
    began = time.monotonic()
    results = list(publisher.publish_many(outgoing(queue, 2000)))
    each_of_many = (time.monotonic() - began) / 2000
    assert {result.error for result in results} == {None}
    stored = [message_id for message_id, _ in queue.take_all()]
    assert stored[100:] == [f"many-{number}" for number in range(2000)]
    assert each_of_many < each * 0.8, "one after the other takes as long for many as for one"


def test_of_many_each_has_its_own_error(publisher: BlockingPublisher, queue: QueueOnBroker) -> None:
    """What is unroutable, or goes to no exchange, stops no other."""
    given = [
        Outgoing("", queue.name, b"", message_id="a"),
        Outgoing("", f"{queue.name}.none", b"", message_id="b"),
        Outgoing(f"{queue.name}.none", "", b"", message_id="c"),
        Outgoing("", queue.name, b"", message_id="d"),
    ]
    errors = {each.message_id: type(each.error) for each in publisher.publish_many(given)}
    none = type(None)
    assert errors == {"a": none, "b": UnroutableError, "c": ExchangeNotFoundError, "d": none}
    assert queue.ids() == {"a": 1, "d": 1}


def test_an_exchange_is_declared_before_its_first_message(
    broker: Broker, publisher: BlockingPublisher, name: str
) -> None:
    """One that is given as an `Exchange` need not be there, nor have a listener if it says so."""
    quiet, loud = Exchange(f"{name}.quiet", mandatory=False), Exchange(f"{name}.loud")
    try:
        publisher.publish(quiet, "key", b"")
        with pytest.raises(UnroutableError):
            publisher.publish(loud, "key", b"")
        publisher.publish(loud, "key", b"", mandatory=False)
        undeclared = Exchange(f"{name}.undeclared", declare=False)
        with pytest.raises(ExchangeNotFoundError):
            publisher.publish(undeclared, "key", b"")
    finally:
        with channel_of(broker.url) as channel:
            channel.exchange_delete(quiet.name)
            channel.exchange_delete(loud.name)


@pytest.fixture
async def answers(broker: Broker, name: str) -> AsyncIterator[Queue]:
    """The queue of a service that doubles what it is asked."""
    service, queue = Service(name), Queue(f"{name}.answers", type="classic")

    @service.handler(queue, retry=Retry.never())
    async def double(number: int) -> int:
        if number < 0:
            raise Reject("no negative numbers")
        return 2 * number

    async with Runtime(service, BrokerUrl.parse(broker.url)):
        yield queue
    with channel_of(broker.url) as channel:
        channel.queue_delete(queue.name)
        channel.queue_delete(f"{queue.name}.dead")


async def test_requests_of_many_threads_have_each_its_reply(
    publisher: BlockingPublisher, answers: Queue
) -> None:
    """Twenty threads with ten requests each; a rejected one raises its reason."""

    def ask(thread: int) -> None:
        for number in range(thread, thread + 10):
            assert publisher.request(answers, number, int, timeout=20) == 2 * number
        with pytest.raises(RequestRejectedError) as raised:
            publisher.request(answers, -1, int, timeout=20)
        assert raised.value.reason == "no negative numbers"

    for future in await asyncio.to_thread(in_threads, 20, ask):
        future.result()


def test_a_request_that_nobody_answers(publisher: BlockingPublisher, queue: QueueOnBroker) -> None:
    """It is a RequestTimeoutError at its timeout, and unroutable where there is no queue."""
    began = time.monotonic()
    with pytest.raises(RequestTimeoutError):
        publisher.request(Queue(queue.name), {}, dict, timeout=0.5)
    assert time.monotonic() - began < 2
    with pytest.raises(UnroutableError):
        publisher.request(Queue(f"{queue.name}.none"), {}, dict)
