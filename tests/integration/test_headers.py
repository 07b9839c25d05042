"""Headers and properties of any client, on their way through a retry and into a dead letter."""

from __future__ import annotations

import asyncio
from typing import Any

import pika
import pytest
from pika.connection import Parameters
from tenacity import stop_after_attempt, wait_fixed

from mqkit import (
    BlockingPublisher,
    BrokerUrl,
    Delivery,
    Exchange,
    Queue,
    Reject,
    Retry,
    Runtime,
    Service,
)
from mqkit.amqp import content_header
from mqkit.amqp.content_header import split
from mqkit.amqp.field_tables import entries
from mqkit.drivers.base import Driver, DriverChannel, Incoming
from mqkit.drivers.pika import convert as pika_wire
from mqkit.errors import HeadersTooLargeError
from mqkit.message import Header, Message, Properties
from mqkit.testing.brokers.broker import Broker
from tests.support import connected, eventually
from tests.tables import NASTY, entry, long, properties, short

BAD = short(b"\xff\xfe")


class Raw(pika.BasicProperties):  # type: ignore[misc]
    """Properties that were encoded by hand."""

    def __init__(self, encoded: bytes) -> None:
        super().__init__()
        self.encoded = encoded

    def encode(self) -> list[bytes]:
        """Called by pika."""
        return [self.encoded]


def publish(url: str, queue: str, messages: dict[bytes, bytes]) -> None:
    """Publish messages, by their bodies, with properties as they are given."""
    broker_url = BrokerUrl.parse(url)
    parameters = pika_wire.parameters(broker_url, broker_url.hosts[0], "test")
    with pika.BlockingConnection(parameters) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        for body, encoded in messages.items():
            channel.basic_publish("", queue, body, Raw(encoded))


def foreign(properties: Properties) -> list[bytes]:
    """The header entries that are neither mqkit's nor the broker's."""
    table = split(properties.received or b"\0\0").get("headers", long(b""))
    return [each for name, each in entries(table) if not name.startswith(("mqkit-", "x-"))]


@pytest.fixture
def service(name: str) -> Service:
    """Each message is retried and then dead-lettered."""
    return Service(name, retry=Retry(stop=stop_after_attempt(2), wait=wait_fixed(0)))


async def test_every_header_comes_back_to_the_bit(
    broker: Broker, name: str, driver: Driver, service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    """At the second attempt and in the dead letter it is as it was sent, of whatever type."""
    seen: dict[bytes, list[tuple[int, list[bytes], Any]]] = {}

    @service.handler(Queue(f"{name}.q"))
    async def handle(body: bytes, delivery: Delivery) -> None:
        headers = {n: v for n, v in delivery.headers.items() if not n.startswith("mqkit-")}
        run = (delivery.attempt, foreign(delivery.properties), repr(headers))
        seen.setdefault(body, []).append(run)
        raise LookupError

    messages = {what.encode(): table for what, table in NASTY.items()}
    async with connected(broker.url) as client, Runtime(service, BrokerUrl.parse(broker.url)):
        await asyncio.to_thread(
            publish, broker.url, f"{name}.q", {b: properties(t) for b, t in messages.items()}
        )
        dead = [await client.take(f"{name}.q.dead") for _ in messages]
    assert {each.body: foreign(each.properties) for each in dead} == {
        body: [table] for body, table in messages.items()
    }
    for body, runs in seen.items():
        assert [(attempt, table) for attempt, table, _ in runs] == [
            (1, [messages[body]]),
            (2, [messages[body]]),
        ]
        assert runs[0][2] == runs[1][2]
    # By `Limits`, or because no decoder could read them.
    not_run = {b"many levels", b"too many levels", b"too many levels of arrays"}
    assert messages.keys() - seen.keys() == not_run
    assert "connection lost" not in caplog.text


async def test_odd_properties_come_back_to_the_bit(
    broker: Broker, name: str, driver: Driver, service: Service
) -> None:
    """Texts that are no UTF-8, a time without end: None for the handler, and there in the end."""
    odd = {
        "content_type": BAD,
        "content_encoding": BAD,
        "priority": b"\xff",
        "correlation_id": BAD,
        "message_id": BAD,
        "timestamp": b"\xff" * 8,
        "type": BAD,
        "app_id": BAD,
        "cluster_id": short(b"c"),
    }
    seen: list[Properties] = []

    @service.handler(Queue(f"{name}.q"))
    async def handle(body: bytes, delivery: Delivery) -> None:
        seen.append(delivery.properties)
        raise LookupError

    async with connected(broker.url) as client, Runtime(service, BrokerUrl.parse(broker.url)):
        await asyncio.to_thread(publish, broker.url, f"{name}.q", {b"m": properties(**odd)})
        dead = (await client.take(f"{name}.q.dead")).properties
    assert [(each.message_id, each.content_type, each.priority) for each in seen] == [
        (None, None, 255)
    ] * 2
    found = split(dead.received or b"")
    assert {what: found.get(what) for what in odd} == odd


async def test_a_routing_key_that_is_no_utf_8_is_kept(
    broker: Broker, name: str, driver: Driver, service: Service
) -> None:
    """RabbitMQ takes any; a handler sees its bytes as surrogates, at every attempt."""
    seen: list[tuple[int, str, str]] = []
    exchange = Exchange(f"{name}.x", type="topic")

    @service.handler(Queue(f"{name}.q"), bind=[exchange.key("#")])
    async def handle(body: bytes, delivery: Delivery) -> None:
        seen.append((delivery.attempt, delivery.exchange, delivery.routing_key))
        raise Reject("no") if delivery.attempt == 2 else LookupError

    def send() -> None:
        url = BrokerUrl.parse(broker.url)
        parameters = pika_wire.parameters(url, url.hosts[0], "test")
        with pika.BlockingConnection(parameters) as connection:
            # pika takes a key's bytes where its types say text.
            connection.channel()._impl._send_method(
                pika.spec.Basic.Publish(exchange=exchange.name, routing_key=b"a.\xff"),
                (pika.BasicProperties(delivery_mode=2), b"m"),
            )

    async with connected(broker.url) as client, Runtime(service, BrokerUrl.parse(broker.url)):
        await asyncio.to_thread(send)
        dead = await client.take(f"{name}.q.dead")
    assert seen == [(1, exchange.name, "a.\udcff"), (2, exchange.name, "a.\udcff")]
    assert dead.properties.headers[Header.ROUTING_KEY] == b"a.\xff"


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A defect in reading the content header of each message of the type 'planted'."""
    met: list[str] = []
    decode = content_header.decode

    def defective(frame: bytes, at: int, end: int) -> tuple[int, Properties]:
        size, found = decode(frame, at, end)
        if found.type == "planted":
            met.append(found.type)
            raise ZeroDivisionError
        return size, found

    monkeypatch.setattr(content_header, "decode", defective)
    return met


@pytest.mark.parametrize("where", ["the frame", "the callback"])
async def test_a_defect_closes_the_channel_of_its_frame_alone(
    broker: Broker,
    name: str,
    driver: Driver,
    caplog: pytest.LogCaptureFixture,
    planted: list[str],
    where: str,
) -> None:
    """In reading it, or in a callback: the others of the connection go on, and it is told."""
    url = BrokerUrl.parse(broker.url)
    async with connected(broker.url) as client:
        connection = await driver.connect(url, url.hosts[0], name="test", on_blocked=lambda _: None)
        good, bad = await connection.channel(), await connection.channel()
        got: list[bytes] = []

        def on_delivery(incoming: Incoming) -> None:
            got.append(incoming.body)
            if incoming.body.startswith(b"callback"):
                raise ZeroDivisionError

        await consume(good, f"{name}.good", got)
        await bad.declare_queue(f"{name}.bad", exclusive=True)
        await bad.consume(f"{name}.bad", on_delivery, lambda: None)
        body, kind = (b"frame", b"planted") if where == "the frame" else (b"callback", b"")
        encoded = properties(entry(b"h", b"V"), type=short(kind))
        await asyncio.to_thread(
            publish, broker.url, f"{name}.bad", dict.fromkeys([body, body + b"2"], encoded)
        )
        closed = await asyncio.wait_for(asyncio.shield(bad.closed), 15)
        assert not closed.by_broker
        await asyncio.to_thread(publish, broker.url, f"{name}.good", {b"good": properties()})
        await eventually(lambda: got[-1:] == [b"good"])
        assert got[:-1] == ([b"callback"] if where == "the callback" else [])
        assert bool(planted) == (where == "the frame")
        assert "a frame could not be dealt with" in caplog.text
        assert caplog.text.count("a channel is closed") == 1
        assert good.is_open
        assert not connection.closed.done()
        await connection.close()
        assert client.connection.is_up


async def consume(channel: DriverChannel, queue: str, got: list[bytes]) -> None:
    """Declare a queue and consume it."""
    await channel.declare_queue(queue, exclusive=True)
    await channel.consume(queue, lambda each: got.append(each.body), lambda: None, no_ack=True)


@pytest.mark.parametrize("client", ["engine", "blocking"])
async def test_headers_over_a_small_frame_are_refused_and_harm_no_connection(
    broker: Broker, name: str, client: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error has their size and the limit, which is what may be written."""
    monkeypatch.setattr(Parameters, "DEFAULT_FRAME_MAX", 8192)
    large = {"h": "x" * 9_000}
    if client == "engine":
        async with connected(broker.url) as opened, opened.channel() as channel:
            with pytest.raises(HeadersTooLargeError) as caught:
                channel.publish(Message("", name, b"", Properties(headers=large)))
            fitting = Properties(headers={"h": "x" * (8192 - 8 - 26)})
            assert content_header.START + len(content_header.encode(fitting, fitting.headers)) == (
                8192 - 8
            )
            assert channel.publish(Message("", name, b"", fitting, mandatory=False)) == 1
            await channel.declare_queue(name, exclusive=True)
    else:

        def publish() -> None:
            with BlockingPublisher(broker.url, timeout=10) as publisher:
                for headers in ({}, large, {}):
                    publisher.publish("", name, {}, headers=headers, mandatory=False)

        with pytest.raises(HeadersTooLargeError) as caught:
            await asyncio.to_thread(publish)
    assert caught.value.limit == 8192 - 8
    assert caught.value.size > 9_000
