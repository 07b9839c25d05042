"""Requests and their replies, on every broker, by every driver."""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from collections.abc import AsyncIterator
from typing import Any, ForwardRef

import pytest
from pydantic import BaseModel
from tenacity import stop_after_attempt, wait_fixed

from mqkit import (
    BlockedError,
    BrokerUrl,
    ConfigurationError,
    DecodeError,
    Delivery,
    Exchange,
    ExchangeNotFoundError,
    InvalidMessageError,
    Limits,
    Publisher,
    PublishRefusedError,
    Queue,
    Reject,
    ReplyLostError,
    RequestFailedError,
    RequestRejectedError,
    RequestTimeoutError,
    Retry,
    Runtime,
    Service,
    UnroutableError,
)
from mqkit.message import Header, HeaderValue, Message, Properties
from mqkit.outcome import DeathReason
from mqkit.publishing.requests import ReplyChannel
from mqkit.testing.brokers.finder import Broker
from mqkit.testing.harness.run import harness
from tests.support import Client, connected, delete, eventually

pytestmark = pytest.mark.usefixtures("driver")

TOO_LARGE = 17 * 1024 * 1024
"""Bytes; over the 16 MiB that RabbitMQ takes by default from 4.0 on."""


class Question(BaseModel):
    """What the services here are asked."""

    n: int
    fails: int = 0
    seconds: float = 0
    reject: str | None = None


class Answer(BaseModel):
    """What they answer."""

    n: int
    attempt: int


class World:
    """A service that answers, and a client that asks."""

    def __init__(self, client: Client, queue: Queue, route: Any) -> None:
        self.client = client
        self.queue = queue
        self.route = route
        self.runs: list[str | None] = []
        self.go = asyncio.Event()
        """What a question with a negative `seconds` waits for."""

    async def ask(self, reply_type: Any = Answer, **options: Any) -> Any:
        """Ask, and return the answer."""
        properties = {key: options.pop(key) for key in ("timeout", "message_id") if key in options}
        question = Question(**{"n": 0, **options})
        return await self.client.publisher.request(self.route, question, reply_type, **properties)

    def pending(self) -> int:
        """Requests that the client's publisher still knows."""
        channel = channel_of(self.client.publisher)
        return 0 if channel is None else len(channel._asked) + len(channel._pending)


def channel_of(publisher: Publisher) -> ReplyChannel | None:
    """The channel that the publisher asks on now."""
    return publisher._requester._channel._current


@pytest.fixture
async def world(broker: Broker, name: str) -> AsyncIterator[World]:
    """A service on its queue, and a client."""
    exchange = Exchange(f"{name}.x", type="topic")
    queue = Queue(f"{name}.q")
    service = Service(name, retry=Retry(stop=stop_after_attempt(2), wait=wait_fixed(0.1)))
    async with connected(broker.url, name) as client:
        world = World(client, queue, exchange.key("ask"))

        @service.handler(queue, bind=[exchange.key("ask")], prefetch=600, concurrency=500)
        async def answer(question: Question, delivery: Delivery) -> Answer:
            world.runs.append(delivery.message_id)
            if question.seconds < 0:
                await world.go.wait()
            await asyncio.sleep(max(question.seconds, 0))
            if question.reject is not None:
                raise Reject(question.reject)
            if delivery.attempt <= question.fails:
                raise ValueError("a secret")
            return Answer(n=question.n, attempt=delivery.attempt)

        async with Runtime(service, BrokerUrl.parse(broker.url), grace=1):
            yield world
            world.go.set()


async def test_a_request_returns_what_the_handler_returned(world: World) -> None:
    """By an exchange or straight to the queue, the reply is of the type that was asked for."""
    assert await world.ask(n=1) == Answer(n=1, attempt=1)
    assert await world.ask(dict[str, int], n=2) == {"n": 2, "attempt": 1}
    answer = await world.client.publisher.request(world.queue, Question(n=3), Answer)
    assert answer == Answer(n=3, attempt=1)
    assert await world.client.publisher.request(world.queue, {"n": 4}, bytes) == (
        b'{"n":4,"attempt":1}'
    )
    await eventually(lambda: world.pending() == 0)


async def test_many_requests_are_in_flight_at_once(world: World) -> None:
    """500 requests to a handler that takes 0.2 s each get each its own reply, side by side."""
    began = time.monotonic()
    answers = await asyncio.gather(*(world.ask(n=n, seconds=0.2) for n in range(500)))
    assert [answer.n for answer in answers] == list(range(500))
    assert time.monotonic() - began < 500 * 0.2 / 10
    await eventually(lambda: world.pending() == 0)


async def test_replies_come_in_the_order_of_the_handlers(world: World) -> None:
    """A slow request does not hold back the quick one behind it."""
    slow = asyncio.create_task(world.ask(n=1, seconds=-1))
    assert (await world.ask(n=2)).n == 2
    assert not slow.done()
    world.go.set()
    assert (await slow).n == 1


async def test_a_caller_waits_while_its_request_is_retried(world: World) -> None:
    """A first failure sends nothing; the reply is the second attempt's."""
    assert (await world.ask(fails=1)).attempt == 2


async def test_a_reject_reaches_the_caller_with_its_reason(world: World) -> None:
    """The request is dead-lettered, and its caller is told why."""
    with pytest.raises(RequestRejectedError, match="no such account") as caught:
        await world.ask(reject="no such account", message_id="m")
    assert (caught.value.reason, caught.value.message_id) == ("no such account", "m")
    dead = await world.client.take(world.queue.dead_queue)
    assert dead.properties.message_id == "m"
    assert dead.properties.headers[Header.REASON] == DeathReason.REJECTED


async def test_a_failure_reaches_the_caller_without_its_text(world: World) -> None:
    """A request that is given up tells the reason of its death, and not the error."""
    with pytest.raises(RequestFailedError) as caught:
        await world.ask(fails=9, message_id="m")
    assert caught.value.reason == DeathReason.ATTEMPTS_EXHAUSTED
    assert caught.value.explanation is None
    assert "secret" not in str(caught.value)
    assert world.runs == ["m", "m"]
    assert (await world.client.take(world.queue.dead_queue)).properties.message_id == "m"


async def test_a_request_that_does_not_validate_is_explained(world: World) -> None:
    """Its caller is told which field is wrong, and the handler is not run."""
    with pytest.raises(RequestFailedError, match="n: Input should be a valid integer") as caught:
        await world.client.publisher.request(world.route, {"n": "x"}, Answer)
    assert caught.value.reason == DeathReason.UNDECODABLE
    assert world.runs == []


async def test_a_reply_of_another_type_fails_for_its_caller_alone(world: World) -> None:
    """It raises DecodeError there, and the requests beside it are answered."""
    asking = [
        asyncio.create_task(ask)
        for ask in (world.ask(n=1), world.ask(int, n=2, message_id="m"), world.ask(n=3))
    ]
    with pytest.raises(DecodeError, match="the reply to request m"):
        await asking[1]
    assert [(await asking[0]).n, (await asking[2]).n] == [1, 3]


async def test_an_unroutable_request_raises_at_once(world: World, name: str) -> None:
    """A queue or an exchange that is not there is told long before the timeout."""
    publisher = world.client.publisher
    began = time.monotonic()
    waiting = asyncio.create_task(world.ask(n=1, seconds=-1))
    with pytest.raises(UnroutableError):
        await publisher.request(Queue(f"{name}.nowhere"), b"", bytes)
    with pytest.raises(ExchangeNotFoundError):
        await publisher.request(Exchange(f"{name}.missing", declare=False).key("k"), b"", bytes)
    assert time.monotonic() - began < 10
    world.go.set()
    assert (await waiting).n == 1  # its channel lives on
    assert world.pending() == 0


async def test_an_exchange_deleted_meanwhile_is_told_to_its_own_request(
    broker: Broker, world: World, name: str
) -> None:
    """The broker closes the channel over it: the others in flight have lost their replies."""
    route = Exchange(f"{name}.gone", declare=False).key("k")
    async with world.client.channel() as channel:
        await channel.declare_exchange(f"{name}.gone", "fanout")
        await channel.bind_queue(world.queue.name, f"{name}.gone", "")
    await world.client.publisher.request(route, Question(n=1), Answer)
    await delete(broker.url, exchange=f"{name}.gone")
    waiting = asyncio.create_task(world.ask(n=2, seconds=-1, message_id="m"))
    await eventually(lambda: "m" in world.runs)
    with pytest.raises(ExchangeNotFoundError):
        await world.client.publisher.request(route, Question(n=3), Answer)
    with pytest.raises(ReplyLostError, match="ask again"):
        await waiting
    world.go.set()
    assert (await world.ask(n=4)).n == 4


async def test_a_request_that_is_too_large_is_told_so(world: World) -> None:
    """The broker closes the channel over it; the next request is answered."""
    publisher = Publisher.on(world.client.connection, limits=Limits(body=TOO_LARGE))
    with pytest.raises(PublishRefusedError, match="message size"):
        await publisher.request(world.queue, bytes(TOO_LARGE), bytes)
    await publisher.close()
    assert (await world.ask(n=1)).n == 1


async def test_no_reply_in_time_raises(world: World) -> None:
    """The caller is told so at its timeout, and the reply that comes later is dropped."""
    began = time.monotonic()
    with pytest.raises(RequestTimeoutError, match=r"within 0.3 s; it may have been handled"):
        await world.ask(seconds=-1, timeout=0.3, message_id="m")
    assert 0.2 < time.monotonic() - began < 5
    assert world.pending() == 0
    world.go.set()
    assert (await world.ask(n=2)).n == 2


async def test_a_cancelled_caller_leaves_nothing_pending(world: World) -> None:
    """A hundred callers that go are forgotten, and their replies harm nobody."""
    asking = [asyncio.create_task(world.ask(n=n, seconds=-1)) for n in range(100)]
    await eventually(lambda: len(world.runs) == 100)
    for task in asking:
        task.cancel()
    await asyncio.wait(asking)
    assert all(task.cancelled() for task in asking)
    assert world.pending() == 0
    world.go.set()
    assert (await world.ask(n=2)).n == 2


async def test_a_lost_connection_loses_the_reply(broker: Broker, world: World, name: str) -> None:
    """Requests that were written are told so, those that come later are answered."""
    asking = [
        asyncio.create_task(world.ask(n=n, seconds=-1, message_id=f"m{n}")) for n in range(20)
    ]
    await eventually(lambda: len(world.runs) == 20)
    await asyncio.to_thread(broker.close_connections)
    results = await asyncio.gather(*asking, return_exceptions=True)
    lost = [result for result in results if isinstance(result, ReplyLostError)]
    assert {each.message_id for each in lost} == {f"m{n}" for n in range(20)}
    assert "ask again under the same message_id" in str(lost[0])
    world.go.set()
    assert (await world.ask(n=5, message_id="m5")).n == 5


async def test_a_closed_publisher_loses_its_replies(world: World) -> None:
    """Closing does not wait for what is asked, and says so to who asked."""
    asking = asyncio.create_task(world.ask(seconds=-1))
    await eventually(lambda: len(world.runs) == 1)
    await world.client.publisher.close(timeout=0)
    with pytest.raises(ReplyLostError):
        await asking


async def test_an_alarm_blocks_requests(broker: Broker, world: World) -> None:
    """Nothing is written while the broker blocks publishers."""
    await asyncio.to_thread(broker.block)
    try:
        with pytest.raises(BlockedError, match="nothing was written"):
            await world.ask(timeout=3)
    finally:
        await asyncio.to_thread(broker.unblock)
    assert (await world.ask(n=1)).n == 1
    assert len(world.runs) == 1


async def test_what_cannot_be_asked_is_refused_before_it_is_written(world: World) -> None:
    """A type that pydantic does not know, a route that is none, a header of mqkit's own."""
    request = world.client.publisher.request
    with pytest.raises(ConfigurationError, match="a reply cannot be"):
        await request(world.route, {"n": 1}, World)
    for unknown in ("Nowhere", list[ForwardRef("Nowhere")], "1 +"):  # type: ignore[misc]
        with pytest.raises(ConfigurationError, match="a reply cannot be"):
            await request(world.route, {"n": 1}, unknown)
    with pytest.raises(InvalidMessageError, match="not to str"):
        await request("ledger", {"n": 1}, Answer)  # type: ignore[call-overload]
    with pytest.raises(InvalidMessageError, match="mqkit's own"):
        await request(world.route, {"n": 1}, Answer, headers={Header.REPLY: "ok"})
    assert channel_of(world.client.publisher) is None


@pytest.mark.in_turn
async def test_thousands_of_requests_leave_nothing_behind(world: World) -> None:
    """Neither entries for them are left, nor futures, tasks and messages, on either side."""

    def living() -> int:
        gc.collect()
        return sum(isinstance(each, asyncio.Future | Message) for each in gc.get_objects())

    async def ask(first: int, last: int) -> None:
        for start in range(first, last, 500):
            await asyncio.gather(*(world.ask(n=n, timeout=90) for n in range(start, start + 500)))
        await eventually(lambda: world.pending() == 0)  # a reply may come before its confirm

    await ask(0, 1_000)
    some = living()  # workers that wait for more among them
    await ask(1_000, 4_000)
    assert len(world.runs) == 4_000
    await eventually(lambda: living() < some + 300, what="the end of what is on its way")


STRANGE: list[Properties] = [
    Properties(),
    Properties(correlation_id="nobody's"),
    Properties(headers={Header.REPLY: "ok"}, correlation_id="\N{SNOWMAN}" * 80),
]

UNREADABLE: list[tuple[dict[str, HeaderValue], str | None, bytes]] = [
    ({}, "text/csv", b"1"),
    ({}, "application/json", b"[" * 5000),
    ({}, "application/json", b"\xff"),
    ({Header.REPLY: "later"}, "application/json", b"1"),
    ({Header.REPLY: ["ok"]}, "application/json", b"1"),
    ({Header.REPLY: {"ok": 1}}, "application/json", b"1"),
    ({Header.REPLY: "rejected"}, "application/json", b"1"),
    ({Header.REPLY: "failed"}, "application/json", b'{"reason": 5}'),
]


async def test_what_others_reply_breaks_no_request(broker: Broker, name: str) -> None:
    """Replies that match nothing are dropped, and unreadable ones fail for their caller alone."""
    big: tuple[dict[str, HeaderValue], str | None, bytes]
    big = ({"big": "x" * 50_000}, None, b" " * 1_000_000 + b"7")
    replies = [*UNREADABLE, big]
    async with connected(broker.url) as answering, connected(broker.url) as client:
        queue = Queue(f"{name}.q")
        await answering.declare(queue.name)
        asking = [
            asyncio.create_task(client.publisher.request(queue, n, int))
            for n in range(len(replies))
        ]
        for _ in asking:
            request = await answering.take(queue.name)
            headers, content_type, body = replies[int(request.body)]
            mine = Properties(
                content_type=content_type,
                headers=headers,
                correlation_id=request.properties.correlation_id,
            )
            address = request.properties.reply_to or ""
            for properties in (*STRANGE, mine, mine):
                message = Message("", address, body, properties, mandatory=False)
                await answering.publisher.send(message)
        *results, good = await asyncio.gather(*asking, return_exceptions=True)
    assert [type(result) for result in results] == [DecodeError] * len(UNREADABLE)
    assert good == 7


async def test_requests_have_ids_that_differ_and_cannot_be_guessed(
    broker: Broker, name: str
) -> None:
    """Each has a correlation id of its own, of 128 random bits, and none is its message id."""
    async with connected(broker.url) as client:
        queue = Queue(f"{name}.q")
        await client.declare(queue.name)
        request = client.publisher.request
        asking = [request(queue, b"", bytes, timeout=0.5, message_id="same") for _ in range(20)]
        results = await asyncio.gather(*asking, return_exceptions=True)
        assert {type(result) for result in results} == {RequestTimeoutError}
        seen = [each.properties for each in await client.take_all(queue.name)]
    assert len({each.correlation_id for each in seen}) == 20
    assert all(len(each.correlation_id or "") >= 22 for each in seen)
    assert {each.message_id for each in seen} == {"same"}


async def test_a_reply_to_nobody_does_not_fail_the_message(
    broker: Broker, world: World, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whether its asker is gone, or its reply queue was never there: the message is acked."""
    caplog.set_level(logging.INFO, "mqkit.consuming.republisher")
    asking = asyncio.create_task(world.ask(seconds=-1, message_id="gone"))
    await eventually(lambda: world.runs == ["gone"])
    await world.client.publisher.close(timeout=0)
    with pytest.raises(ReplyLostError):
        await asking
    world.go.set()
    async with connected(broker.url) as other:
        await other.publisher.publish(
            "", world.queue.name, {"n": 1}, reply_to=f"{name}.no-such-queue", message_id="no-queue"
        )
        said = "message no-queue is done, but its reply did not reach who asked"
        await eventually(lambda: said in caplog.text)
        assert f"{name}.no-such-queue" not in caplog.text
        await other.declare(f"{name}.replies")
        await other.publisher.publish(
            "", world.queue.name, {"n": 2}, reply_to=f"{name}.replies", correlation_id="c"
        )
        reply = await other.take(f"{name}.replies")
        assert reply.properties.correlation_id == "c"
        assert reply.properties.headers[Header.REPLY] == "ok"
        assert await other.messages(world.queue.name) == 0
        assert await other.messages(world.queue.dead_queue) == 0


async def test_a_reply_that_cannot_be_written_ends_in_the_policy(broker: Broker, name: str) -> None:
    """It is a failure of the handler: tried again, and dead-lettered in the end."""
    service = Service(name, retry=Retry(stop=stop_after_attempt(2), wait=wait_fixed(0.1)))
    runs = []

    @service.handler(Queue(f"{name}.q"))
    async def answer(body: bytes) -> object:
        runs.append(body)
        return object()

    async with connected(broker.url) as client, Runtime(service, BrokerUrl.parse(broker.url)):
        with pytest.raises(RequestFailedError) as caught:
            await client.publisher.request(Queue(f"{name}.q"), b"1", bytes)
        assert caught.value.reason == DeathReason.ATTEMPTS_EXHAUSTED
        assert len(runs) == 2
        await client.publisher.publish("", f"{name}.q", b"2")
        await eventually(lambda: len(runs) == 3)  # nobody asks: what it returns is its own business
        dead = await client.take(f"{name}.q.dead")
        assert dead.body == b"1"
    async with connected(broker.url) as client:
        assert await client.messages(f"{name}.q.dead") == 0


async def test_a_handler_may_ask_another(broker: Broker, name: str) -> None:
    """A request inside a handler is answered, and a request for nothing replies None."""
    service = Service(name, retry=Retry.never())
    inner = Queue(f"{name}.inner")

    @service.handler(inner)
    async def double(n: int) -> int:
        return n * 2

    @service.handler(Queue(f"{name}.outer"))
    async def outer(n: int, publisher: Publisher) -> str:
        return f"{await publisher.request(inner, n, int)}!"

    @service.handler(Queue(f"{name}.nothing"))
    def nothing(n: int) -> None:
        pass

    async with harness(service, broker) as h:
        assert await h.request(Queue(f"{name}.outer"), 4, str, message_id="m") == "8!"
        assert await h.request(Queue(f"{name}.nothing"), 1, None) is None
        assert (await h.outcome("m")).acked
        await h.idle()
        assert [each.routing_key for each in h.published] == [inner.name]
        assert len(h.handled) == 3
