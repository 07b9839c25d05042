"""What aio-pika and aiormq would do to a service, and the aio-pika driver does not."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import time
import weakref
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pika
import pytest

from mqkit import BrokerUrl, ConnectError, Delivery, InvalidMessageError, Queue, Retry, Runtime
from mqkit import Service as MqkitService
from mqkit.drivers import named
from mqkit.drivers.base import (
    Acked,
    Closed,
    Driver,
    DriverChannel,
    DriverConnection,
    Incoming,
    Returned,
)
from mqkit.drivers.heartbeat import SILENT
from mqkit.drivers.pika import convert as pika_wire
from mqkit.errors import BrokerUrlError, ChannelClosedError
from mqkit.message import Header, Message, Properties
from mqkit.publishing.confirms import ConfirmChannel
from mqkit.testing.brokers.broker import Broker
from mqkit.testing.proxy.proxy import TcpProxy
from tests.support import connected, delete, eventually, peer


@contextlib.asynccontextmanager
async def opened(url: str, driver: Driver | None = None) -> AsyncIterator[DriverConnection]:
    """A connection of the aio-pika driver."""
    connection = await connect(url, driver)
    try:
        yield connection
    finally:
        await connection.close()


async def connect(url: str, driver: Driver | None = None) -> DriverConnection:
    broker_url = BrokerUrl.parse(url)
    return await (driver or named("aio-pika")).connect(
        broker_url, broker_url.hosts[0], name="test", on_blocked=lambda _: None
    )


async def declare(channel: DriverChannel, queue: str) -> None:
    await channel.declare_queue(queue, arguments={"x-queue-type": "quorum"})


def library_of(connection: Any) -> Any:
    """The aiormq connection under it."""
    return connection._aiormq


async def test_a_return_reaches_its_own_publish(broker: Broker, name: str) -> None:
    """Of two publishes in flight with one message id, each gets its own verdict, 200 times."""
    async with opened(broker.url) as connection:
        channel = await connection.channel()
        await declare(channel, f"{name}.q")
        confirms = await ConfirmChannel.open(await connection.channel())
        same = Properties(message_id="same")
        for _ in range(200):
            lost = confirms.write(Message("", f"{name}.nowhere", b"x", same))
            kept = confirms.write(Message("", f"{name}.q", b"x", same))
            verdicts = await asyncio.gather(lost, kept)
            assert isinstance(verdicts[0], Returned)
            assert verdicts[0].routing_key == f"{name}.nowhere"
            assert isinstance(verdicts[1], Acked)
        assert (await channel.declare_queue(f"{name}.q", passive=True)).messages == 200


async def test_a_return_comes_before_its_confirm(broker: Broker, name: str) -> None:
    """What the broker says arrives in its order: the return, then the confirm of that publish."""
    said: list[object] = []
    async with opened(broker.url) as connection:
        channel = await connection.channel()
        await channel.confirm_select(
            lambda tag, multiple, acked: said.append((tag, acked)),
            lambda returned: said.append(returned.properties.headers[Header.PUBLISH]),
        )
        for number in range(1, 21):
            properties = Properties(message_id="m", headers={Header.PUBLISH: number})
            assert channel.publish(Message("", f"{name}.no", b"", properties)) == number
            await eventually(lambda expected=2 * number: len(said) == expected)  # type: ignore[misc]
    assert said[0::2] == list(range(1, 21))
    assert said[1::2] == [(number, True) for number in range(1, 21)]


async def test_publishes_and_calls_stay_in_order(broker: Broker, name: str) -> None:
    """500 publishes of all sizes with calls between them are in the queue in their order."""
    async with opened(broker.url) as connection:
        channel = await connection.channel()
        await channel.declare_queue(f"{name}.q", exclusive=True, durable=False)
        for number in range(500):
            body = f"{number} ".encode() + b"x" * (300_000 if number % 100 == 7 else number)
            assert channel.publish(Message("", f"{name}.q", body)) == number + 1
            if number % 50 == 0:
                await channel.qos(number + 1)
        bodies = [(await take(channel, f"{name}.q")).body for _ in range(500)]
    assert [int(body.split()[0]) for body in bodies] == list(range(500))
    assert [len(body) for body in bodies[6:9]] == [8, 300_002, 10]


async def take(channel: DriverChannel, queue: str) -> Incoming:
    incoming = await channel.get(queue)
    assert incoming is not None
    channel.ack(incoming.tag)
    return incoming


async def test_a_cancelled_call_closes_no_channel(broker: Broker, name: str) -> None:
    """Callers that go away, before or after their call is sent, leave the channel as it was."""
    async with opened(broker.url) as connection:
        channel = await connection.channel()
        await declare(channel, f"{name}.q")
        await declare(channel, f"{name}.other")
        confirms = await ConfirmChannel.open(await connection.channel())
        await confirms.write(Message("", f"{name}.other", b"x"))
        for steps in range(5):
            calls = [
                asyncio.create_task(channel.declare_queue(f"{name}.q", passive=True))
                for _ in range(3)
            ]
            for _ in range(steps):
                await asyncio.sleep(0)
            for call in calls:
                call.cancel()
            state = await channel.declare_queue(f"{name}.other", passive=True)
            assert (state.name, state.messages) == (f"{name}.other", 1)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await channel.qos(5)
        assert channel.is_open
        # What a caller had asked for who went away is free for others.
        await channel.declare_queue(f"{name}.q", passive=True)
        getting = asyncio.create_task(channel.get(f"{name}.other"))
        await asyncio.sleep(0)
        getting.cancel()
        assert (await asyncio.wait_for(incoming_of(channel, f"{name}.other"), 5)).body == b"x"


async def incoming_of(channel: DriverChannel, queue: str) -> Incoming:
    """The queue's next message, not acknowledged; waits for it."""
    while (incoming := await channel.get(queue)) is None:
        await asyncio.sleep(0.01)
    return incoming


async def test_a_channel_that_nobody_waits_for_is_closed(broker: Broker) -> None:
    """A cancelled `channel()` leaves no channel behind."""
    async with opened(broker.url) as connection:
        for steps in (1, 2, 3):
            opening = asyncio.create_task(connection.channel())
            for _ in range(steps):
                await asyncio.sleep(0)
            opening.cancel()
            await asyncio.wait([opening])
        await eventually(lambda: not library_of(connection).channels)
        assert (await connection.channel()).is_open


async def test_a_refused_call_tells_the_code(broker: Broker, name: str) -> None:
    """The broker's code and words reach the call, `closed`, and whoever uses the channel later."""
    async with opened(broker.url) as connection:
        channel = await connection.channel()
        waiting = asyncio.create_task(channel.get(f"{name}.nowhere"))
        with pytest.raises(ChannelClosedError, match="no queue") as caught:
            await channel.declare_queue(f"{name}.nowhere", passive=True)
        assert caught.value.code == 404
        with pytest.raises(ChannelClosedError, match="no queue"):
            await waiting
        assert channel.closed.result().by_broker
        with pytest.raises(ChannelClosedError, match="no queue"):
            channel.ack(1)
        again = await connection.channel()
        await declare(again, f"{name}.q")
        assert list(library_of(connection).channels) == [again.number]  # type: ignore[attr-defined]


async def test_a_lost_connection_tells_its_reason(broker: Broker) -> None:
    """A channel's `closed` and the connection's have the words with which the broker closed it."""
    async with opened(broker.url) as connection:
        channel = await connection.channel()
        # A frame that is none: the broker closes the connection with 501.
        connection.write(b"\x09\x00\x01\x00\x00\x00\x01x\xce" * 3)  # type: ignore[attr-defined]
        why = await asyncio.wait_for(asyncio.shield(connection.closed), 5)
        assert why.code in (501, 505)
        assert channel.closed.result() == why
        with pytest.raises(ChannelClosedError):
            await connection.channel()


async def test_a_cancelled_consumer_gets_what_was_sent_before(broker: Broker, name: str) -> None:
    """What was on its way when the cancel was called is handed over; nothing after, or kept."""

    class Basket(list[Incoming]):
        def put(self, incoming: Incoming) -> None:
            self.append(incoming)

    basket = Basket()
    with TcpProxy(broker.url) as proxy:
        async with opened(broker.url) as other, opened(proxy.url) as connection:
            beside = await other.channel()
            await declare(beside, f"{name}.q")
            confirms = await ConfirmChannel.open(await other.channel())
            channel = await connection.channel()
            await channel.qos(150)
            tag = await channel.consume(f"{name}.q", basket.put, lambda: None)
            proxy.stall("to_client")
            await asyncio.gather(
                *(confirms.write(Message("", f"{name}.q", b"x")) for _ in range(200))
            )

            async def sent() -> bool:
                return (await beside.declare_queue(f"{name}.q", passive=True)).messages == 50

            await eventually(sent)
            cancelling = asyncio.create_task(channel.cancel(tag))
            await asyncio.sleep(0)
            assert len(basket) == 0
            proxy.resume()
            await cancelling
            assert len(basket) == 150
            await confirms.write(Message("", f"{name}.q", b"x"))
            await channel.cancel(tag)  # of no effect
            await channel.qos(1)
            assert len(basket) == 150
            held = weakref.ref(basket)
            del basket
            gc.collect()
            assert held() is None


async def test_a_broker_that_cancels_is_heard(broker: Broker, name: str) -> None:
    """The deletion of a queue calls `on_cancel` once, and the channel stays open."""
    cancelled: list[str] = []
    async with opened(broker.url) as connection:
        channel = await connection.channel()
        await declare(channel, f"{name}.q")
        await channel.consume(f"{name}.q", lambda _: None, lambda: cancelled.append("it"))
        await delete(broker.url, queue=f"{name}.q")
        await eventually(lambda: cancelled == ["it"])
        assert channel.is_open


async def test_handlers_outlive_their_channel(broker: Broker, name: str) -> None:
    """Neither a deleted queue nor a lost connection cancels a handler that runs."""
    ended: list[str] = []
    started: list[Delivery] = []
    release = asyncio.Event()
    service = MqkitService(name, retry=Retry.never())

    @service.handler(Queue(f"{name}.q"))
    async def handle(body: bytes, delivery: Delivery) -> None:
        started.append(delivery)
        try:
            await release.wait()
        except BaseException as error:
            ended.append(repr(error))
            raise
        ended.append("by itself")

    driver = named("aio-pika")
    async with connected(broker.url) as client:
        with TcpProxy(broker.url) as proxy:
            async with Runtime(service, BrokerUrl.parse(broker.url), driver=driver) as runtime:
                await client.publisher.publish("", f"{name}.q", b"1")
                await eventually(lambda: len(started) == 1)
                await delete(broker.url, queue=f"{name}.q")
                await eventually(lambda: started[0].lost)
                assert ended == []
                assert runtime.server == broker.server
                release.set()
                await eventually(lambda: ended == ["by itself"])
            ended.clear()
            release.clear()
            url = BrokerUrl.parse(proxy.url)
            async with Runtime(service, url, driver=driver, grace=5):
                await client.publisher.publish("", f"{name}.q", b"2")
                await eventually(lambda: len(started) == 2)
                proxy.cut()
                await eventually(lambda: started[1].lost)
                assert ended == []
                release.set()
                # The broker gave the message to the new connection as well.
                await eventually(lambda: ended == ["by itself"] * 2)


def census() -> Counter[str]:
    """How many objects of each type are alive."""
    gc.collect()
    return Counter(type(each).__qualname__ for each in gc.get_objects())


@pytest.mark.in_turn
async def test_three_thousand_channels_leave_nothing(broker: Broker) -> None:
    """No object, callback or task is kept for a channel that was opened and closed."""
    async with opened(broker.url) as connection:
        library = library_of(connection)

        async def cycle(times: int) -> None:
            for _ in range(times):
                await (await connection.channel()).close()

        def kept() -> tuple[int, int, int, int]:
            return (
                len(asyncio.all_tasks()),
                len(library._closing._callbacks),
                len(library._Base__future_store.futures),
                len(library.channels),
            )

        await cycle(50)
        before, kept_before = census(), kept()
        await cycle(3000)
        after, kept_after = census(), kept()
    assert kept_after == kept_before
    grown = {kind: n for kind, n in (after - before).items() if n > 100}
    assert grown == {}


async def test_a_silent_broker_is_noticed(broker: Broker) -> None:
    """Two to three heartbeats without a byte, and the connection is closed for that reason."""
    with TcpProxy(broker.url) as proxy:
        async with opened(f"{proxy.url}?heartbeat=2") as connection:
            channel = await connection.channel()
            await eventually(lambda: proxy.sent_heartbeats >= 2, 5)  # it is honoured by us, too
            assert not connection.closed.done()
            proxy.stall()
            began = time.monotonic()
            why = await asyncio.wait_for(asyncio.shield(connection.closed), 10)
            assert 2 <= time.monotonic() - began <= 6
            assert why == Closed(0, SILENT) == channel.closed.result()
        await eventually(lambda: not [t for t in asyncio.all_tasks() if "aiormq" in repr(t)])


async def test_a_peer_that_does_not_answer_a_close_is_left(broker: Broker) -> None:
    """Closing a connection whose broker hangs ends within some seconds, without a task left."""
    with TcpProxy(broker.url) as proxy:
        connection = await connect(proxy.url)
        channel = await connection.channel()
        proxy.stall()
        for _ in range(200):
            channel.publish(Message("", "nowhere", b"x" * 100_000, mandatory=False))
        began = time.monotonic()
        await connection.close()
        assert time.monotonic() - began < 5
        assert connection.closed.done()
        await eventually(lambda: not [t for t in asyncio.all_tasks() if "aiormq" in repr(t)])


async def test_acks_before_a_close_are_not_forgotten(broker: Broker, name: str) -> None:
    """What was acked right before the connection was closed never comes again."""
    async with opened(broker.url) as connection:
        channel = await connection.channel()
        await declare(channel, f"{name}.q")
        confirms = await ConfirmChannel.open(channel)
        for _ in range(10):
            await asyncio.gather(
                *(confirms.write(Message("", f"{name}.q", b"x")) for _ in range(100))
            )
            other = await connect(broker.url)
            consuming = await other.channel()
            got: list[Incoming] = []
            await consuming.consume(f"{name}.q", got.append, lambda: None)
            await eventually(lambda: len(got) >= 100)  # noqa: B023 - awaited in this turn
            assert not any(incoming.redelivered for incoming in got)
            for incoming in got:
                consuming.ack(incoming.tag)
            await other.close()


EVERYTHING: dict[str, Any] = {
    "text": "ä",
    "bytes": b"\xff\x00",
    "true": True,
    "small": -5,
    "large": 2**40,
    "negative": Decimal("-12.34"),
    "when": datetime(2024, 2, 29, 12, 0, 1, tzinfo=UTC),
    "none": None,
    "list": [1, "a", {"b": b"\x80"}, [Decimal("0.1")]],
    "table": {"in": {"deep": [b"x"]}},
    "n" * 200: "a long name",
}


@pytest.mark.parametrize("reader", ["pika", "aio-pika"])
@pytest.mark.parametrize("writer", ["pika", "aio-pika"])
async def test_drivers_write_and_read_the_same(
    broker: Broker, name: str, writer: str, reader: str
) -> None:
    """Every property and kind of header goes unchanged from either driver to either driver."""
    properties = Properties(
        content_type="text/plain",
        content_encoding="utf-8",
        headers=EVERYTHING,
        persistent=False,
        priority=3,
        correlation_id="c",
        reply_to="r",
        expiration=60.5,
        message_id="m",
        timestamp=datetime(2024, 1, 1, tzinfo=UTC),
        type="t",
        user_id="guest",
        app_id="a",
    )
    queue = f"{name}.café/$!"  # pamqp would refuse to write this name
    async with (
        opened(broker.url, named(writer)) as writing,
        opened(broker.url, named(reader)) as reading,
    ):
        channel = await reading.channel()
        await channel.declare_queue(queue, durable=False, exclusive=True)
        confirms = await ConfirmChannel.open(await writing.channel())
        body = b"body" * 100_000
        await confirms.write(Message("", queue, body, properties))
        incoming = await channel.get(queue)
    assert incoming is not None
    headers = dict(incoming.properties.headers)
    assert headers.pop(Header.PUBLISH) == 1
    assert headers == EVERYTHING
    assert all(isinstance(headers[key], type(value)) for key, value in EVERYTHING.items())
    for field in Properties.__slots__:
        if field not in ("headers", "received"):
            assert getattr(incoming.properties, field) == getattr(properties, field), field
    assert (incoming.exchange, incoming.routing_key, incoming.body) == ("", queue, body)


async def test_too_large_headers_are_refused_here(broker: Broker, name: str) -> None:
    """Headers over the frame size would close the connection; they raise, and it goes on."""
    async with opened(broker.url) as connection:
        channel = await connection.channel()
        await declare(channel, f"{name}.q")
        large = Properties(headers={"x": "y" * 140_000})
        with pytest.raises(InvalidMessageError, match="frame_max"):
            channel.publish(Message("", f"{name}.q", b"", large))
        with pytest.raises(InvalidMessageError, match="255 bytes"):
            channel.publish(Message("", f"{name}.q", b"", Properties(app_id="x" * 256)))
        fitting = Properties(headers={"x": "y" * 120_000})
        assert channel.publish(Message("", f"{name}.q", b"", fitting)) == 1
        await channel.declare_queue(f"{name}.q", passive=True)


async def test_a_time_that_pamqp_cannot_read_costs_no_connection(
    rabbitmq: Broker, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A timestamp of 10^18 is none of Python's; its message is run as its neighbours are."""
    seen: list[bytes] = []
    service = MqkitService(name, retry=Retry.never())

    @service.handler(Queue(f"{name}.q", delivery_limit=2))
    async def handle(body: bytes, delivery: Delivery) -> None:
        seen.append(body)
        assert delivery.properties.timestamp is None

    def publish() -> None:
        url = BrokerUrl.parse(rabbitmq.url)
        with pika.BlockingConnection(pika_wire.parameters(url, url.hosts[0], "test")) as blocking:
            channel = blocking.channel()
            channel.basic_publish("", f"{name}.q", b"1")
            nonsense = pika.BasicProperties(timestamp=10**18, delivery_mode=2)
            channel.basic_publish("", f"{name}.q", b"late", nonsense)
            channel.basic_publish("", f"{name}.q", b"2")

    url = BrokerUrl.parse(rabbitmq.url)
    async with Runtime(service, url, driver=named("aio-pika")):
        await asyncio.to_thread(publish)
        await eventually(lambda: sorted(seen) == [b"1", b"2", b"late"])
    assert "connection lost" not in caplog.text


async def test_logs_hold_no_body_header_or_password(
    broker: Broker, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """With the root logger at DEBUG, nothing that a message or the URL holds is logged."""
    caplog.set_level(logging.DEBUG)
    for library in ("aiormq", "aio_pika", "pamqp"):
        logging.getLogger(library).setLevel(logging.NOTSET)
    async with opened(broker.url) as connection:
        channel = await connection.channel()
        await declare(channel, f"{name}.q")
        properties = Properties(headers={"token": "planted-header"})
        confirms = await ConfirmChannel.open(channel)
        await confirms.write(Message("", f"{name}.q", b"planted-body", properties))
        assert (await take(channel, f"{name}.q")).body == b"planted-body"
    assert "planted" not in caplog.text
    assert "guest:guest" not in caplog.text


@pytest.mark.parametrize("vhost", ["a%2Fb", "a/b", "50% b", ".."])
async def test_any_virtual_host_can_be_named(broker: Broker, name: str, vhost: str) -> None:
    """Names with slashes, percents and dots reach the broker as they are."""
    vhost = f"{name}-{vhost}" if vhost != ".." else vhost
    await asyncio.to_thread(broker.ctl, "add_vhost", vhost)
    try:
        await asyncio.to_thread(
            broker.ctl, "set_permissions", "-p", vhost, "guest", ".*", ".*", ".*"
        )
        parsed = BrokerUrl.parse(broker.url)
        url = BrokerUrl(parsed.hosts, parsed.username, parsed.password, vhost)
        connection = await named("aio-pika").connect(
            url, url.hosts[0], name=name, on_blocked=lambda _: None
        )
        listed = await asyncio.to_thread(
            broker.ctl, "list_connections", "vhost", "client_properties"
        )
        assert [x for x in listed.splitlines() if x.startswith(f"{vhost}\t") and name in x]
        await connection.close()
    finally:
        await asyncio.to_thread(broker.ctl, "delete_vhost", vhost)


async def test_the_negotiated_heartbeat_is_the_url_s(broker: Broker, name: str) -> None:
    """The broker notes the heartbeat of the URL and the name of the connection."""
    url = BrokerUrl.parse(f"{broker.url}?heartbeat=7")
    connection = await named("aio-pika").connect(
        url, url.hosts[0], name=name, on_blocked=lambda _: None
    )
    listed = await asyncio.to_thread(broker.ctl, "list_connections", "timeout", "client_properties")
    assert [line for line in listed.splitlines() if line.startswith("7\t") and name in line]
    await connection.close()


async def test_tls_that_cannot_be_is_an_error_with_its_reason(broker: Broker) -> None:
    """A port without TLS is a ConnectError, a missing CA file a BrokerUrlError that names it."""
    plain = BrokerUrl.parse(broker.url).hosts[0]
    with pytest.raises(ConnectError, match=f"{plain} does not speak TLS"):
        await connect(f"amqps://guest:guest@{plain}/?connect_timeout=3")
    with pytest.raises(BrokerUrlError, match=r"nowhere\.pem"):
        await connect(f"amqps://guest:guest@{plain}/?cafile=nowhere.pem")


@pytest.mark.parametrize("words", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"AMQP\x00\x01\x00\x00"])
async def test_a_peer_that_speaks_something_else_is_told_at_once(words: bytes) -> None:
    """Its first byte is enough; aiormq alone would wait for a frame as long as its words say."""
    async with peer(words) as port:
        began = time.monotonic()
        with pytest.raises(ConnectError, match=r"does not speak AMQP 0-9-1"):
            await connect(f"amqp://guest:guest@127.0.0.1:{port}/")
        assert time.monotonic() - began < 1


async def test_an_attempt_that_is_cancelled_leaves_nothing() -> None:
    """Whoever stops waiting for a connection leaves no task and no socket behind."""
    taken = asyncio.Event()
    ended = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        taken.set()
        with contextlib.suppress(ConnectionError):
            await reader.read()
            await reader.read()
        ended.set()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    attempt = asyncio.create_task(connect(f"amqp://guest:guest@127.0.0.1:{port}/"))
    await taken.wait()
    attempt.cancel()
    with pytest.raises(asyncio.CancelledError):
        await attempt
    await asyncio.wait_for(ended.wait(), 5)
    server.close()
    await server.wait_closed()
    await eventually(lambda: len(asyncio.all_tasks()) == 1)
