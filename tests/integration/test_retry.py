"""Retries over the broker's delay ladder, and what is left in the dead letter queue."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tenacity import stop_after_attempt, wait_chain, wait_fixed

from mqkit import BrokerUrl, Delivery, Exchange, Queue, Retry, RetryLater, Runtime, Service
from mqkit.broker.delays import DelayLadder
from mqkit.outcome import MAX_DELAY
from mqkit.testing.brokers.finder import Broker
from tests.support import connected, eventually

WAITS = (0.3, 1.0, 2.5)


def close_to(actual: float, wanted: float) -> bool:
    """Never early, and within a quarter of it or two seconds, whichever is more.

    So much may a machine need at times that runs several brokers and workers side by side.
    """
    return -0.02 <= actual - wanted <= max(0.25 * wanted, 2.0)


async def test_three_failures_then_success_is_applied_once_after_the_stated_waits(
    broker: Broker, name: str
) -> None:
    """Each wait is as the policy states it, and the message keeps its identity over all four."""
    exchange = Exchange(f"{name}.x")
    runs: list[tuple[float, int, str | None, str, str]] = []
    applied: list[str] = []
    service = Service(name)

    @service.handler(
        Queue(f"{name}.q"),
        bind=[exchange.key("pay.#")],
        retry=Retry(
            stop=stop_after_attempt(4), wait=wait_chain(*(wait_fixed(wait) for wait in WAITS))
        ),
    )
    async def handle(body: dict[str, str], delivery: Delivery) -> None:
        now = asyncio.get_running_loop().time()
        runs.append(
            (now, delivery.attempt, delivery.message_id, delivery.exchange, delivery.routing_key)
        )
        if delivery.attempt < 4:
            raise ValueError("not yet")
        applied.append(body["id"])

    async with connected(broker.url) as client:
        async with Runtime(service, BrokerUrl.parse(broker.url)):
            await client.publisher.publish(exchange, "pay.eu", {"id": "a"}, message_id="m-1")
            await eventually(lambda: bool(applied), 20)
        assert await client.messages(f"{name}.q") == 0
        assert await client.messages(f"{name}.q.dead") == 0
    assert applied == ["a"]
    assert [run[1:] for run in runs] == [
        (attempt, "m-1", f"{name}.x", "pay.eu") for attempt in (1, 2, 3, 4)
    ]
    waited = [runs[n + 1][0] - runs[n][0] for n in range(3)]
    assert all(map(close_to, waited, WAITS)), waited


async def test_a_message_that_always_fails_ends_in_its_dead_letter_queue(
    broker: Broker, name: str
) -> None:
    """After its last attempt it is there with type, message, traceback, attempts and times."""
    exchange = Exchange(f"{name}.x")
    attempts: list[int] = []
    service = Service(name)

    @service.handler(
        Queue(f"{name}.q"),
        bind=[exchange.key("pay")],
        retry=Retry(stop=stop_after_attempt(3), wait=wait_fixed(0.4)),
    )
    async def handle(body: dict[str, str], delivery: Delivery) -> None:
        attempts.append(delivery.attempt)
        raise LookupError("no such account")

    async with (
        connected(broker.url) as client,
        Runtime(service, BrokerUrl.parse(broker.url)),
    ):
        await client.publisher.publish(
            exchange, "pay", {"id": "a"}, message_id="m-2", headers={"tenant": "t1"}
        )
        dead = await client.take(f"{name}.q.dead", 20)
    headers = dead.properties.headers
    assert attempts == [1, 2, 3]
    assert headers["mqkit-error-type"] == "LookupError"
    assert headers["mqkit-error-message"] == "no such account"
    assert 'raise LookupError("no such account")' in str(headers["mqkit-error-traceback"])
    assert headers["mqkit-attempts"] == 3
    assert headers["mqkit-reason"] == "attempts-exhausted"
    first = datetime.fromisoformat(str(headers["mqkit-first-failure"]))
    last = datetime.fromisoformat(str(headers["mqkit-last-failure"]))
    assert 0.8 <= (last - first).total_seconds() < 1.6
    assert abs((datetime.now(UTC) - last).total_seconds()) < 30
    assert str(headers["mqkit-handler"]).endswith(".handle")
    assert headers["mqkit-service"] == name
    assert headers["mqkit-queue"] == f"{name}.q"
    assert (headers["mqkit-exchange"], headers["mqkit-routing-key"]) == (f"{name}.x", "pay")
    assert headers["tenant"] == "t1"
    assert "x-death" not in headers
    assert (dead.properties.message_id, dead.body) == ("m-2", b'{"id":"a"}')


async def test_a_short_wait_does_not_queue_behind_a_long_one(broker: Broker, name: str) -> None:
    """A wait of 1 s that begins after one of 5 s ends first, and on time."""
    runs: list[tuple[str, int, float]] = []
    service = Service(name, retry=Retry(stop=stop_after_attempt(2), wait=wait_fixed(1)))

    @service.handler(Queue(f"{name}.q"))
    async def handle(body: dict[str, float], delivery: Delivery) -> None:
        runs.append((str(delivery.message_id), delivery.attempt, asyncio.get_running_loop().time()))
        if delivery.attempt == 1:
            raise RetryLater(body["wait"])

    async with (
        connected(broker.url) as client,
        Runtime(service, BrokerUrl.parse(broker.url)),
    ):
        for wait in (5.0, 1.0):
            seen = len(runs)
            await client.publisher.publish(
                "", f"{name}.q", {"wait": wait}, message_id=f"{wait:g} s"
            )
            await eventually(lambda seen=seen: len(runs) > seen)  # type: ignore[misc]
        await eventually(lambda: len(runs) == 4)
    times = {(message, attempt): time for message, attempt, time in runs}
    assert [run[0] for run in runs] == ["5 s", "1 s", "1 s", "5 s"]
    for wait in (1.0, 5.0):
        waited = times[f"{wait:g} s", 2] - times[f"{wait:g} s", 1]
        assert close_to(waited, wait), waited


async def test_a_giant_error_does_not_close_the_connection(broker: Broker, name: str) -> None:
    """Its text is cut to what one frame can carry, and the traceback still says where it was."""
    service = Service(name, retry=Retry.never())

    @service.handler(Queue(f"{name}.q"))
    async def handle(body: dict[str, str]) -> None:
        raise ValueError("x" * 1_000_000)

    async with (
        connected(broker.url) as client,
        Runtime(service, BrokerUrl.parse(broker.url)),
    ):
        await client.publisher.publish("", f"{name}.q", {})
        headers = (await client.take(f"{name}.q.dead")).properties.headers
    assert 900 < len(str(headers["mqkit-error-message"])) < 1_100
    where = str(headers["mqkit-error-traceback"])
    assert len(where) < 6_200
    assert "in handle" in where
    assert "ValueError: xxx" in where


async def test_a_retry_reaches_only_the_queue_that_asked(broker: Broker, name: str) -> None:
    """Of queues `b` and `a.b`, both bound to one key, each gets its own retries and no others'."""
    exchange = Exchange(f"{name}.x", type="fanout")
    runs: list[tuple[str, int]] = []
    service = Service(name, retry=Retry(stop=stop_after_attempt(2), wait=wait_fixed(0.2)))

    def fail_once(label: str, delivery: Delivery) -> None:
        runs.append((label, delivery.attempt))
        if delivery.attempt == 1:
            raise ValueError("again")

    @service.handler(Queue(f"a.{name}"), bind=[exchange.key()])
    async def longer(body: dict[str, str], delivery: Delivery) -> None:
        fail_once("a.b", delivery)

    @service.handler(Queue(name), bind=[exchange.key()])
    async def shorter(body: dict[str, str], delivery: Delivery) -> None:
        fail_once("b", delivery)

    async with (
        connected(broker.url) as client,
        Runtime(service, BrokerUrl.parse(broker.url)),
    ):
        await client.publisher.publish(exchange, "", {})
        await eventually(lambda: ("a.b", 2) in runs and ("b", 2) in runs)
        # Behind what the first retries might have brought to the wrong queue.
        await client.publisher.publish("", f"a.{name}", {})
        await eventually(lambda: runs.count(("a.b", 2)) == 2)
        await client.publisher.publish("", name, {})
        await eventually(lambda: runs.count(("b", 2)) == 2)
    assert sorted(runs) == sorted([("a.b", 1), ("a.b", 2), ("b", 1), ("b", 2)] * 2)


async def test_the_whole_ladder_can_be_declared(broker: Broker, name: str) -> None:
    """The broker takes all 28 levels, so the longest delay is 310 days."""
    async with connected(broker.url) as client:
        await client.declare(f"{name}.q")
        ladder = DelayLadder(client.connection)
        exchange, routing_key = await ladder.route(MAX_DELAY, f"{name}.q")
        await client.publisher.publish(exchange, routing_key, b"in 310 days")
        assert await client.messages(exchange) >= 1
        await client.take_all(exchange)


async def _later() -> float:
    return 0.1


ANSWERS: dict[str, Callable[[], Any]] = {
    "nan": lambda: math.nan,
    "none": lambda: None,
    "text": lambda: "0.1",
    "true": lambda: True,
    "strategy": lambda: wait_fixed(1),
    "coroutine": _later,
    "raises": lambda: 1 // 0,
}


@pytest.mark.parametrize("kind", ["wait", "stop", "retry"])
async def test_a_policy_that_gives_no_answer_dead_letters_after_one_run(
    broker: Broker, name: str, kind: str
) -> None:
    """Whatever a strategy answers: not one more run, and the dead letter says policy-failed."""
    no_answers = [
        answer
        for answer in ANSWERS
        if kind == "wait" or answer in ("strategy", "coroutine", "raises")
    ]
    service, runs = Service(name), Counter[str]()

    def register(answer: str) -> None:
        policy: dict[str, Any] = {"stop": stop_after_attempt(3), "wait": wait_fixed(0.1)}

        @service.handler(
            Queue(f"{name}.{answer}"), retry=Retry(**{**policy, kind: lambda _: ANSWERS[answer]()})
        )
        async def handle(body: dict[str, str]) -> None:
            runs[answer] += 1
            raise ValueError(answer)

    for answer in no_answers:
        register(answer)
    async with connected(broker.url) as client:
        async with Runtime(service, BrokerUrl.parse(broker.url)):
            for answer in no_answers:
                await client.publisher.publish("", f"{name}.{answer}", {})

            async def all_dead() -> bool:
                counts = [await client.messages(f"{name}.{each}.dead") for each in no_answers]
                return counts == [1] * len(no_answers)

            await eventually(all_dead)
        for answer in no_answers:
            (dead,) = await client.take_all(f"{name}.{answer}.dead")
            assert dead.properties.headers["mqkit-reason"] == "policy-failed"
            assert await client.messages(f"{name}.{answer}") == 0
    assert runs == Counter(no_answers)


async def test_a_wait_may_be_a_timedelta(broker: Broker, name: str) -> None:
    """And is held by the broker like any other; one that is negative is none."""
    service, began = Service(name), list[float]()

    @service.handler(
        Queue(f"{name}.q"),
        retry=Retry(
            stop=stop_after_attempt(3),
            wait=lambda state: timedelta(seconds=0.5 if state.attempt_number == 1 else -5),
        ),
    )
    async def handle(body: dict[str, str]) -> None:
        began.append(asyncio.get_running_loop().time())
        raise ValueError("never")

    async with connected(broker.url) as client, Runtime(service, BrokerUrl.parse(broker.url)):
        await client.publisher.publish("", f"{name}.q", {})
        await eventually(lambda: len(began) == 3)
    assert close_to(began[1] - began[0], 0.5)
