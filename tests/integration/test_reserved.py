"""Which of mqkit's own headers are believed, by the way that a delivery came."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

import pytest
from tenacity import stop_after_attempt, wait_fixed

from mqkit import BrokerUrl, Delivery, Exchange, Queue, Reject, Retry, Runtime, Service
from mqkit.message import HeaderValue, Message, Properties
from mqkit.testing.brokers.finder import Broker
from tests.support import Client, connected, eventually

pytestmark = [pytest.mark.usefixtures("driver"), pytest.mark.in_turn(embedded=True)]

FORGED: dict[str, HeaderValue] = {
    "mqkit-attempt": 99,
    "mqkit-elapsed": 10**12,
    "mqkit-exchange": "elsewhere",
    "mqkit-routing-key": "forged",
    "mqkit-first-failure": "2001-01-01T00:00:00+00:00",
    "mqkit-something-new": "x",
    "tenant": "t1",
}


@dataclass
class Seen:
    """What a handler saw of a delivery."""

    attempt: int
    exchange: str
    routing_key: str
    headers: Mapping[str, HeaderValue]


def seen(delivery: Delivery) -> Seen:
    names = {n: v for n, v in delivery.headers.items() if not n.startswith("x-")}
    return Seen(delivery.attempt, delivery.exchange, delivery.routing_key, names)


async def forge(client: Client, exchange: str, routing_key: str) -> None:
    """Publish as another client would, which may write any header."""
    properties = Properties(message_id="m1", headers=FORGED)
    await client.publisher.send(Message(exchange, routing_key, b"{}", properties))


@pytest.mark.parametrize("delay", [0.0, 0.1, 0.4])
async def test_an_outsiders_headers_count_for_nothing_and_a_retrys_do(
    broker: Broker, name: str, delay: float
) -> None:
    """Forged ones are gone at the first attempt; the copies count from there, whatever the wait."""
    runs: list[Seen] = []
    orders = Exchange(f"{name}.x", type="topic")
    service = Service(name, retry=Retry(stop=stop_after_attempt(3), wait=wait_fixed(delay)))

    @service.handler(Queue(f"{name}.q"), bind=[orders.key("#")])
    async def handle(delivery: Delivery) -> None:
        runs.append(seen(delivery))
        raise LookupError

    async with (
        connected(broker.url) as client,
        Runtime(service, BrokerUrl.parse(broker.url)),
    ):
        await forge(client, orders.name, "order.new")
        dead = await client.take(f"{name}.q.dead")
    assert runs[0] == Seen(1, orders.name, "order.new", {"tenant": "t1"})
    assert [run.attempt for run in runs] == [1, 2, 3]
    assert {(run.exchange, run.routing_key) for run in runs} == {(orders.name, "order.new")}
    assert all("mqkit-publish" not in run.headers for run in runs)
    assert dead.properties.headers["mqkit-attempts"] == 3
    assert dead.properties.headers["mqkit-exchange"] == orders.name
    assert str(dead.properties.headers["mqkit-first-failure"]) > "2020"
    assert "mqkit-something-new" not in dead.properties.headers


@pytest.mark.parametrize("delay", [0.0, 0.2])
async def test_a_retry_is_still_one_after_it_was_given_back(
    broker: Broker, name: str, delay: float
) -> None:
    """The second attempt of a service that stops is the second of the next one, redelivered."""
    runs: list[tuple[int, bool, str]] = []
    stuck = asyncio.Event()

    def service() -> Service:
        made = Service(name, retry=Retry(stop=stop_after_attempt(3), wait=wait_fixed(delay)))

        @made.handler(Queue(f"{name}.q"))
        async def handle(delivery: Delivery) -> None:
            runs.append((delivery.attempt, delivery.redelivered, delivery.routing_key))
            if len(runs) == 1:
                raise LookupError
            if len(runs) == 2:
                stuck.set()
                await asyncio.Event().wait()

        return made

    async with connected(broker.url) as client:
        async with Runtime(service(), BrokerUrl.parse(broker.url), grace=0):
            await forge(client, "", f"{name}.q")
            await asyncio.wait_for(stuck.wait(), 15)
        async with Runtime(service(), BrokerUrl.parse(broker.url)):
            await eventually(lambda: len(runs) == 3)
    queue = f"{name}.q"
    assert runs == [(1, False, queue), (2, False, queue), (2, True, queue)]


async def test_a_dead_letters_headers_are_shown_and_do_not_count(broker: Broker, name: str) -> None:
    """A handler of a dead letter queue reads what happened, and its own attempts begin at 1."""
    runs: list[Seen] = []
    service = Service(name, retry=Retry(stop=stop_after_attempt(5), wait=wait_fixed(0)))

    @service.handler(Queue(f"{name}.q"))
    async def handle(delivery: Delivery) -> None:
        if delivery.attempt < 3:
            raise LookupError
        raise Reject("no such account")

    async with (
        connected(broker.url) as client,
        Runtime(service, BrokerUrl.parse(broker.url)),
    ):
        await client.publisher.publish("", f"{name}.q", {})
        await eventually(lambda: messages_in_dead(client, name))

    undertaker = Service(f"{name}.u", retry=Retry(stop=stop_after_attempt(2), wait=wait_fixed(0)))

    @undertaker.handler(Queue(f"{name}.q.dead", declare=False))
    async def bury(delivery: Delivery) -> None:
        runs.append(seen(delivery))
        if len(runs) == 1:
            raise LookupError

    async with Runtime(undertaker, BrokerUrl.parse(broker.url)):
        await eventually(lambda: len(runs) == 2)
    assert [run.attempt for run in runs] == [1, 2]
    for run in runs:
        assert run.headers["mqkit-reason"] == "rejected"
        assert run.headers["mqkit-error-message"] == "no such account"
        assert run.headers["mqkit-attempts"] == 3
        assert (run.exchange, run.routing_key) == ("", f"{name}.q")


async def messages_in_dead(client: Client, name: str) -> bool:
    return await client.messages(f"{name}.q.dead") == 1
