"""What a harness promises on every broker, and what a runtime tells its observers."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from tenacity import stop_after_attempt, wait_fixed

from mqkit import (
    BrokerUrl,
    Delivery,
    Exchange,
    Outgoing,
    Publisher,
    Queue,
    Retry,
    Runtime,
    Service,
    TopologyError,
)
from mqkit.lifecycle.values import ServiceValues
from mqkit.message import Message
from mqkit.outcome import Ack, DeadLetter, Outcome, RetryAfter
from mqkit.registration.injection import Provider
from mqkit.testing.brokers.finder import Broker
from mqkit.testing.harness.run import HarnessError, harness
from tests.support import Telling, connected, delete, eventually

pytestmark = pytest.mark.in_turn(embedded=True)

SHORT = 0.3
"""Seconds of a wait that really passes."""


def service_of(name: str, wait: float = SHORT) -> Service:
    """A service that fails twice at most; what it handles, it passes on."""
    exchange = Exchange(f"{name}.x", type="topic")
    service = Service(name, retry=Retry(stop=stop_after_attempt(2), wait=wait_fixed(wait)))

    @service.handler(Queue(f"{name}.q"), bind=[exchange.key("in.#")])
    async def handle(body: dict[str, int], delivery: Delivery, publisher: Publisher) -> None:
        if delivery.attempt <= body["fails"]:
            raise ValueError("not yet")
        await publisher.publish(exchange, "out.done", {"fails": 0})

    @service.handler(Queue(f"{name}.next"), bind=[exchange.key("out.#")])
    async def end(body: dict[str, int]) -> None:
        pass

    return service


async def test_outcomes_are_those_of_the_broker(broker: Broker, name: str) -> None:
    """Acked, retried and dead-lettered messages come to their ends, in a virtual host of theirs."""
    service = Service(name, retry=Retry(stop=stop_after_attempt(2), wait=wait_fixed(SHORT)))

    @service.handler(Queue(f"{name}.q"))
    async def handle(body: dict[str, int], delivery: Delivery) -> None:
        if delivery.attempt <= body["fails"]:
            raise ValueError("not yet")

    async with harness(service, broker) as h:
        ids = [await h.publish("", f"{name}.q", {"fails": n}) for n in range(3)]
        await h.idle()
        results = [await h.outcome(each) for each in ids]
        assert [each.message_id for each in await h.dead_letters(f"{name}.q")] == [ids[2]]
        assert await h.dead_letters(f"{name}.q") != []
        if broker.kind != "embedded":
            with pytest.raises(HarnessError, match="only the embedded broker's"):
                await h.advance(1)
    assert [result.acked for result in results] == [True, True, False]
    assert [result.delays for result in results] == [[], [SHORT], [SHORT]]
    listed = await asyncio.to_thread(broker.ctl, "list_queues", "name")
    assert f"{name}.q" not in listed.split()


async def test_observers_are_told_of_every_end_and_confirm(broker: Broker, name: str) -> None:
    """Each delivery is told with its outcome, each confirmed message once, copies included."""
    settled: list[tuple[str | None, int, Outcome]] = []
    confirmed: list[Message] = []
    runtime = Runtime(
        service_of(name, 0.1),
        BrokerUrl.parse(broker.url),
        observer=Telling(
            settled=lambda d, outcome: settled.append((d.message_id, d.attempt, outcome)),
            confirmed=confirmed.append,
        ),
    )
    async with connected(broker.url) as client, runtime:
        for fails in (0, 1, 2):
            await client.publisher.publish(
                f"{name}.x", "in.first", {"fails": fails}, message_id=str(fails)
            )
        await eventually(lambda: sum(isinstance(o, Ack) for _, _, o in settled) >= 4)
        await eventually(lambda: any(isinstance(o, DeadLetter) for _, _, o in settled))
        many = [
            each
            async for each in runtime.publisher.publish_many(
                Outgoing("", f"{name}.out", n, mandatory=False) for n in range(3)
            )
        ]
    own = [(number, type(o)) for m, number, o in settled if m in ("0", "1", "2")]
    assert sorted(own, key=str) == sorted(
        [(1, Ack), (1, RetryAfter), (2, Ack), (1, RetryAfter), (2, DeadLetter)], key=str
    )
    assert [each.error for each in many] == [None] * 3
    keys = [message.routing_key for message in confirmed]
    assert keys.count("out.done") == 2
    assert keys.count(f"{name}.q.dead") == 1
    assert keys.count(f"{name}.out") == 3
    assert len(keys) == 2 + 2 + 1 + 3


async def test_a_failing_observer_of_confirms_does_not_fail_the_publish(
    broker: Broker, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The message is published, its publisher told so, and the failure is in the log."""

    def fail(message: Message) -> None:
        raise ValueError("a fault of the observer")

    runtime = Runtime(
        service_of(name), BrokerUrl.parse(broker.url), observer=Telling(confirmed=fail)
    )
    async with runtime:
        assert await runtime.publisher.publish("", f"{name}.next", {"fails": 0}, message_id="m")
    assert "the observer of confirmed messages failed" in caplog.text


async def test_a_queue_deleted_before_it_is_consumed_is_declared_again(
    broker: Broker, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the start declared is relied on once: a consumer that finds it gone puts it back."""
    service = Service(name, retry=Retry.never())
    handled = asyncio.Event()

    @service.handler(Queue(f"{name}.q"))
    async def handle(body: bytes) -> None:
        handled.set()

    async with connected(broker.url) as client:
        make = ServiceValues.make

        async def delete_before(values: ServiceValues, providers: Mapping[Any, Provider]) -> None:
            # Between the service's declarations and its consumers.
            await delete(broker.url, queue=f"{name}.q")
            await make(values, providers)

        monkeypatch.setattr(ServiceValues, "make", delete_before)
        async with Runtime(service, BrokerUrl.parse(broker.url)) as runtime:

            async def back() -> bool:
                try:
                    return (await runtime.queue_state(f"{name}.q")).consumers == 1
                except TopologyError:
                    return False

            await eventually(back)
            await client.publisher.publish("", f"{name}.q", b"")
            await asyncio.wait_for(handled.wait(), 5)
