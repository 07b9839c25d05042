"""Every delivery has one end, whatever a handler, a validator or mqkit itself does with it."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from pydantic import BaseModel, field_validator
from tenacity import stop_after_attempt, wait_fixed

from mqkit import BrokerUrl, Delivery, Outgoing, Queue, Retry, Runtime, Service
from mqkit.consuming.dispatcher import Dispatcher
from mqkit.consuming.failures import LAST_RESORT_WAITS
from mqkit.consuming.republisher import Republisher
from mqkit.middleware import Observer
from mqkit.outcome import DeadLetter, Outcome
from mqkit.publishing.publisher import Publisher
from mqkit.testing.brokers.broker import Broker
from tests.support import Client, connected, eventually

pytestmark = pytest.mark.usefixtures("driver")

TWICE = Retry(stop=stop_after_attempt(2), wait=wait_fixed(0))


class Gone(BaseException):
    """What some libraries derive from BaseException."""


class Session:
    """Made for one message."""


class Rude(Exception):  # noqa: N818
    """It has no text to give."""

    def __str__(self) -> str:
        raise RuntimeError


class Broken(Exception):  # noqa: N818
    """Even its traceback cannot be written, and what its text raises is no Exception."""

    def __str__(self) -> str:
        raise Gone


FAILURES: dict[str, Callable[[], BaseException]] = {
    "base": lambda: Gone("x"),
    "group": lambda: BaseExceptionGroup("g", [Gone("y")]),
    "exit": lambda: SystemExit(7),
    "interrupt": KeyboardInterrupt,
    "generator exit": GeneratorExit,
    "cancelled": asyncio.CancelledError,
    "stop": StopIteration,
    "rude": Rude,
    "broken": Broken,
}


CANCELLING = ("cancels itself", "cancels itself and raises")


class Body(BaseModel):
    """What fails, or nothing."""

    how: str

    @field_validator("how")
    @classmethod
    def is_valid(cls, value: str) -> str:
        """Raise what is no error of validation."""
        if value == "validator":
            raise KeyError(value)
        if value == "validator exits":
            raise SystemExit
        return value


def fail(body: Body) -> None:
    """Raise what the body asks for."""
    if body.how in FAILURES:
        error = FAILURES[body.how]()
        raise error


async def cancel_itself(how: str) -> None:
    """End as a handler does that cancels the task that it runs in."""
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    if how == "cancels itself":
        await asyncio.sleep(60)
    raise ValueError


async def are_dead(client: Client, queue: Queue, count: int) -> bool:
    """Whether so many are in its dead letter queue, and none in the queue."""
    return (
        await client.messages(queue.dead_queue) == count and await client.messages(queue.name) == 0
    )


async def send(client: Client, queue: Queue, hows: list[str]) -> None:
    """Publish one message for each."""
    outgoing = (Outgoing("", queue.name, {"how": how}, message_id=how) for how in hows)
    async for result in client.publisher.publish_many(outgoing):
        assert result.error is None


@pytest.mark.parametrize("kind", ["async", "def", "batch", "ordered"])
async def test_whatever_a_handler_raises_its_message_is_dead_lettered(
    broker: Broker, name: str, kind: str
) -> None:
    """After as many runs as its policy says, while its neighbours are handled by the same slots."""
    queue = Queue(f"{name}.q", partitions=1 if kind == "ordered" else None)
    runs: Counter[str] = Counter()
    service = Service(name, retry=TWICE)

    async def on_loop(body: Body) -> None:
        runs[body.how] += 1
        if body.how in CANCELLING:
            await cancel_itself(body.how)
        fail(body)

    def in_thread(body: Body) -> None:
        runs[body.how] += 1
        fail(body)

    async def many(bodies: list[Body]) -> None:
        for body in bodies:
            await on_loop(body)

    if kind == "batch":
        service.batch(queue, size=1, within=0.1, prefetch=2)(many)
    else:
        given: Any = in_thread if kind == "def" else on_loop
        order_by = "how" if kind == "ordered" else None
        service.handler(queue, prefetch=2, concurrency=2, order_by=order_by)(given)
    failing = [*FAILURES, *(CANCELLING if kind != "def" else ())]
    hows = [*failing, "validator", "validator exits", *(f"fine {n}" for n in range(8))]
    async with connected(broker.url) as client, Runtime(service, BrokerUrl.parse(broker.url)) as r:
        await send(client, queue, hows)
        await eventually(lambda: are_dead(client, queue, len(failing) + 2), 20)
        assert r.in_flight == 0
        letters = await client.take_all(queue.dead_queue)
    reasons = {d.properties.message_id: d.properties.headers["mqkit-reason"] for d in letters}
    assert reasons.pop("validator") == "undecodable"
    assert reasons.pop("validator exits") == "undecodable"
    assert reasons == dict.fromkeys(failing, "attempts-exhausted")
    assert runs == dict.fromkeys(failing, 2) | {f"fine {n}": 1 for n in range(8)}


async def test_what_a_batch_returns_for_a_message_is_judged_as_if_it_was_raised(
    broker: Broker, name: str
) -> None:
    """Whatever it is derived from, as `gather(return_exceptions=True)` may return it."""
    queue = Queue(f"{name}.q")
    runs: Counter[str] = Counter()
    service = Service(name, retry=TWICE)

    @service.batch(queue, size=4, within=0.1)
    async def handle(bodies: list[Body]) -> list[BaseException | None]:
        runs.update(body.how for body in bodies)
        return [FAILURES[each.how]() if each.how in FAILURES else None for each in bodies]

    async with connected(broker.url) as client, Runtime(service, BrokerUrl.parse(broker.url)):
        await send(client, queue, ["fine", "base", "group", "exit"])
        await eventually(lambda: are_dead(client, queue, 3))
    assert runs == {"fine": 1, "base": 2, "group": 2, "exit": 2}


@pytest.mark.parametrize("fault", [ZeroDivisionError, Broken, Gone])
async def test_a_message_that_mqkit_cannot_settle_runs_once_and_is_kept(
    broker: Broker, name: str, fault: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault of mqkit's own gives nothing back at once, which would go on for ever."""
    queue = Queue(f"{name}.q")
    runs: Counter[str] = Counter()
    service = Service(name, retry=TWICE)

    @service.handler(queue)
    async def handle(body: Body) -> None:
        runs[body.how] += 1

    whole = Dispatcher.dispatch

    async def faulty(self: Dispatcher, delivery: Delivery) -> Outcome:
        outcome = await whole(self, delivery)
        if delivery.message_id == "odd":
            raise fault("a fault")
        return outcome

    monkeypatch.setattr(Dispatcher, "dispatch", faulty)
    async with connected(broker.url) as client, Runtime(service, BrokerUrl.parse(broker.url)):
        await send(client, queue, ["odd", "fine"])
        dead = await client.take(queue.dead_queue)
        await eventually(lambda: runs["fine"] == 1)
        assert await client.messages(queue.name) == 0
    assert dead.properties.headers["mqkit-reason"] == "unsettled"
    assert str(dead.properties.headers["mqkit-error-type"]).endswith(fault.__name__)
    assert runs == {"odd": 1, "fine": 1}


async def test_the_broker_ends_what_no_dead_letter_can_be_written_for(
    broker: Broker, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After several attempts, each with a longer wait, the message dies by the broker's hand."""
    monkeypatch.setattr("mqkit.consuming.failures.LAST_RESORT_WAITS", (0.05, 0.1, 0.2))
    assert list(LAST_RESORT_WAITS) == sorted(LAST_RESORT_WAITS)
    queue = Queue(f"{name}.q")
    runs, tried = Counter[str](), Counter[str]()
    service = Service(name, retry=Retry.never())

    @service.handler(queue)
    async def handle(body: Body) -> None:
        runs[body.how] += 1
        raise ValueError

    async def refusing(self: Republisher, message: Any) -> None:
        tried[message.properties.message_id] += 1
        raise ZeroDivisionError("a fault")

    monkeypatch.setattr(Republisher, "_send", refusing)
    async with connected(broker.url) as client, Runtime(service, BrokerUrl.parse(broker.url)):
        await send(client, queue, ["odd"])
        dead = await client.take(queue.dead_queue)
        assert await client.messages(queue.name) == 0
    assert dead.properties.headers["x-first-death-reason"] == "rejected"
    assert runs == {"odd": 1}
    assert tried == {"odd": 4}


async def test_a_message_of_a_queue_of_others_comes_to_an_end_too(
    rabbitmq: Broker, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its dead letters may go nowhere, so that it goes back: as often as its queue allows."""
    monkeypatch.setattr("mqkit.consuming.failures.LAST_RESORT_WAITS", (0.01,))
    queue = Queue(f"{name}.q", declare=False)
    runs: Counter[str] = Counter()
    service = Service(name, retry=Retry.never())

    @service.handler(queue)
    async def handle(body: Body) -> None:
        runs[body.how] += 1

    async def faulty(self: Dispatcher, delivery: Delivery) -> Outcome:
        runs["dispatched"] += 1
        raise ZeroDivisionError

    async def refusing(self: Republisher, message: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Dispatcher, "dispatch", faulty)
    monkeypatch.setattr(Republisher, "_send", refusing)
    async with connected(rabbitmq.url) as client:
        await client.declare(
            queue.name,
            **{
                "x-delivery-limit": 3,
                "x-dead-letter-exchange": "",
                "x-dead-letter-routing-key": queue.dead_queue,
            },
        )
        async with Runtime(service, BrokerUrl.parse(rabbitmq.url)):
            await send(client, queue, ["odd"])
            dead = await client.take(queue.dead_queue)
            assert await client.messages(queue.name) == 0
    assert dead.properties.headers["x-first-death-reason"] == "delivery_limit"
    assert runs["dispatched"] <= 4


@pytest.mark.parametrize("kind", [Broken, Gone, SystemExit])
async def test_observers_change_nothing(
    broker: Broker, name: str, kind: type[BaseException]
) -> None:
    """One that raises is logged, and every message ends as it would have without it."""
    queue = Queue(f"{name}.q")
    service = Service(name, retry=TWICE)
    told: list[Outcome] = []

    @service.handler(queue)
    async def handle(body: Body) -> None:
        fail(body)

    class Rude(Observer):
        def received(self, handler: str, delivery: Delivery) -> None:
            raise kind

        def started(self, handler: str, delivery: Delivery) -> None:
            raise kind

        def settled(self, handler: str, delivery: Delivery, outcome: Outcome) -> None:
            told.append(outcome)
            raise kind

        def confirmed(self, message: Any) -> None:
            raise kind

    runtime = Runtime(service, BrokerUrl.parse(broker.url), observer=Rude())
    async with connected(broker.url) as client, runtime:
        await send(client, queue, ["fine", "rude"])
        await eventually(lambda: are_dead(client, queue, 1))
        await eventually(lambda: len(told) == 3)
        assert runtime.in_flight == 0
    assert sum(isinstance(outcome, DeadLetter) for outcome in told) == 1


async def test_a_store_that_cannot_note_a_message_changes_nothing(
    broker: Broker, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the driver calls raises nothing, whatever happens in there: its channel would end."""
    queue = Queue(f"{name}.q")
    service = Service(name, retry=TWICE)
    handled: list[str] = []

    @service.handler(queue)
    async def handle(body: Body) -> None:
        handled.append(body.how)

    def faulty(incoming: Any, queue: str) -> None:
        if incoming.properties.message_id == "odd":
            raise ZeroDivisionError

    monkeypatch.setattr("mqkit.consuming.processor.drop_untrusted_headers", faulty)
    async with connected(broker.url) as client, Runtime(service, BrokerUrl.parse(broker.url)):
        await send(client, queue, ["odd", "fine"])
        dead = await client.take(queue.dead_queue)
        await eventually(lambda: handled == ["fine"])
    assert dead.properties.message_id == "odd"
    assert dead.properties.headers["mqkit-reason"] == "unsettled"


@pytest.mark.parametrize("when", ["open", "close"])
@pytest.mark.parametrize("kind", ["generator", "async generator"])
async def test_a_provider_that_fails_is_a_failure_of_the_run(
    broker: Broker, name: str, when: str, kind: str
) -> None:
    """Also after the handler has returned: what must be closed belongs to the run."""
    queue = Queue(f"{name}.q")
    service = Service(name, retry=TWICE)

    def plain() -> Iterator[Session]:
        if when == "open":
            raise Gone
        yield Session()
        raise Gone

    async def asynchronous() -> AsyncIterator[Session]:
        if when == "open":
            raise Gone
        yield Session()
        raise Gone

    service.provide(Session, plain if kind == "generator" else asynchronous)

    @service.handler(queue)
    async def handle(body: Body, session: Session) -> None:
        pass

    async with connected(broker.url) as client, Runtime(service, BrokerUrl.parse(broker.url)):
        await send(client, queue, ["odd"])
        dead = await client.take(queue.dead_queue)
    assert dead.properties.headers["mqkit-error-type"] == "mqkit.errors.HandlerAbortedError"
    assert dead.properties.headers["mqkit-attempts"] == 2


async def test_batches_that_wait_when_the_connection_is_lost_end(broker: Broker, name: str) -> None:
    """Their messages are handled when they come again, and a stop does not wait for them."""
    queue = Queue(f"{name}.q")
    service = Service(name, retry=Retry.never())
    handled: Counter[str] = Counter()
    first, go_on = asyncio.Event(), asyncio.Event()

    @service.batch(queue, size=2, within=0.05, prefetch=4)
    async def handle(bodies: list[Body]) -> None:
        first.set()
        await go_on.wait()
        handled.update(body.how for body in bodies)

    hows = [str(n) for n in range(4)]
    async with connected(broker.url) as client:
        runtime = Runtime(service, BrokerUrl.parse(broker.url))
        async with runtime:
            await send(client, queue, hows)
            await asyncio.wait_for(first.wait(), 10)
            await eventually(lambda: runtime.in_flight == 4)
            for consumer in runtime._consumers:
                channel = consumer._subscription._channel
                assert channel is not None
                await channel.close(in_order=True)
            go_on.set()
            await eventually(lambda: all(handled[how] for how in hows))
            await eventually(lambda: are_dead_or_done(client, queue))
            began = time.monotonic()
        assert time.monotonic() - began < 5
        assert runtime.abandoned == 0


async def are_dead_or_done(client: Client, queue: Queue) -> bool:
    """Whether nothing is left in the queue."""
    return await client.messages(queue.name) == 0


@pytest.mark.parametrize("room", [8_192, 4_096])
async def test_a_dead_letter_keeps_the_applications_headers_in_a_small_frame(
    broker: Broker, name: str, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The account of the failure makes room for them, its traceback first."""
    queue = Queue(f"{name}.q")
    service = Service(name, retry=TWICE)

    @service.handler(queue)
    async def handle(body: Body) -> None:
        raise ValueError("e" * 20_000)

    send_ = Publisher.send
    limit_frames(monkeypatch, room)
    theirs = {f"theirs-{n}": "x" * 200 for n in range(room // 400)}
    async with connected(broker.url) as client, Runtime(service, BrokerUrl.parse(broker.url)):
        await client.publisher.publish("", queue.name, {"how": "fine"}, headers=dict(theirs))
        dead = await client.take(queue.dead_queue)
    assert Publisher.send is send_
    headers = dead.properties.headers
    assert {n: v for n, v in headers.items() if n.startswith("theirs-")} == theirs
    assert headers["mqkit-reason"] == "attempts-exhausted"
    assert len(str(headers["mqkit-error-traceback"])) < 6_000


def limit_frames(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Let both drivers believe that the broker takes frames of this size at most."""
    monkeypatch.setattr(
        "mqkit.drivers.pika.connection.StreamConnection.payload_max", property(lambda _: size - 8)
    )
    monkeypatch.setattr(
        "mqkit.drivers.aio_pika.connection.AioPikaConnection.frame_max", property(lambda _: size)
    )


async def test_nothing_is_handled_after_its_time_to_live(broker: Broker, name: str) -> None:
    """Neither as a retry, nor from a partition, nor after a wait for its turn: it is expired."""
    retried, turns = Queue(f"{name}.q"), Queue(f"{name}.turn")
    split = Queue(f"{name}.split", partitions=2)
    service = Service(name)
    ran: dict[str, list[float]] = {"retried": [], "split": [], "turns": []}

    @service.handler(retried, retry=Retry(stop=stop_after_attempt(99), wait=wait_fixed(0.4)))
    async def fails(body: Body) -> None:
        ran["retried"].append(time.monotonic())
        raise ValueError

    @service.handler(split, order_by="how", retry=Retry.never(), prefetch=1, concurrency=1)
    async def slow(body: Body) -> None:
        ran["split"].append(time.monotonic())
        await asyncio.sleep(0.6)

    @service.handler(turns, retry=Retry.never(), concurrency=1)
    async def one_by_one(body: Body) -> None:
        ran["turns"].append(time.monotonic())
        await asyncio.sleep(0.6)

    async with connected(broker.url) as client, Runtime(service, BrokerUrl.parse(broker.url)):
        for queue in (retried, *[split] * 8, *[turns] * 8):
            await client.publisher.publish("", queue.name, {"how": "a"}, expiration=1.0)
        published = time.monotonic()
        dead = await client.take(retried.dead_queue)
        for queue, key in ((split, "split"), (turns, "turns")):
            await eventually(
                lambda q=queue, k=key: ended(client, q, 8 - len(ran[k])),  # type: ignore[misc]
                what=f"the end of {queue.name}",
            )
    assert dead.properties.headers["mqkit-reason"] == "expired"
    assert 1 <= len(ran["retried"]) <= 3
    for times in ran.values():
        # The last of eight would have its turn after 4.2 s; a busy machine may be late by much.
        assert times
        assert max(times) < published + 1.0 + 1.5


async def ended(client: Client, queue: Queue, dead: int) -> bool:
    """Whether so many are dead."""
    return await client.messages(queue.dead_queue) == dead
