"""What mqkit asks of its drivers (`mqkit.drivers.base`): publishes, confirms and returns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from functools import partial
from typing import Any

from pamqp import commands

from mqkit.errors import InvalidMessageError
from mqkit.message import HeaderValue, Message, Properties
from tests.conformance.suite.driver import Inbox, Publishes, closed_with, expect_error, got
from tests.conformance.suite.env import DriverEnv
from tests.conformance.suite.suite import case
from tests.conformance.suite.values import Confirm

TRANSIENT, PERSISTENT = 1, 2
"""The property `delivery_mode` (AMQP 0-9-1, section 1.8)."""

HEADERS: dict[str, HeaderValue] = {
    "text": "ä ☃",
    "empty": "",
    "long": "x" * 1000,
    "bytes": b"\xff\x00",
    "true": True,
    "false": False,
    "none": None,
    "zero": 0,
    "small": -5,
    "32 bits": -(2**31),
    "33 bits": 2**31,
    "64 bits": 2**63 - 1,
    "least": -(2**63),
    "decimal": Decimal("-12.34"),
    "whole": Decimal(7),
    "when": datetime(2024, 2, 29, 12, 0, 1, tzinfo=UTC),
    "list": [1, "a", None, {"b": b"\x80"}, [Decimal("0.1"), []]],
    "table": {"in": {"deep": [b"x"], "nothing": {}}, "when": datetime(2000, 1, 1, tzinfo=UTC)},
    "n" * 255: "a long name",
}

EVERY_PROPERTY = Properties(
    content_type="text/plain",
    content_encoding="utf-8",
    headers={"h": 1},
    persistent=False,
    priority=3,
    correlation_id="correlation",
    reply_to="reply",
    expiration=60.5,
    message_id="message",
    timestamp=datetime(2024, 1, 1, 12, 30, 5, tzinfo=timezone(timedelta(hours=2))),
    type="type",
    user_id="guest",
    app_id="app",
)


@case("drivers", about="driver")
async def return_comes_before_confirm(env: DriverEnv) -> None:
    """An unroutable publish is returned before it is confirmed, and numbered from 1."""
    publishes = await Publishes.on(await env.driver_channel())
    assert publishes.channel.publish(Message("", env.name, b"m")) == 1
    await publishes.confirmed(1)
    returned, confirm = publishes.told
    assert [returned] == publishes.returns
    assert (publishes.returns[0].code, publishes.returns[0].routing_key) == (312, env.name)
    assert confirm == Confirm(1, False, True)


@case("drivers", about="driver")
async def numbers_count_from_one(env: DriverEnv) -> None:
    """Publishes are numbered from 1 on each channel, and each is confirmed under its number."""
    connection = await env.driver_connection()
    queue = await env.queue(await env.channel())
    for count in (30, 3):
        publishes = await Publishes.on(await connection.channel())
        message = Message("", queue, b"m")
        numbers = [publishes.channel.publish(message) for _ in range(count)]
        assert numbers == list(range(1, count + 1))
        for number in numbers:
            assert await publishes.confirmed(number)
        assert max(confirm.tag for confirm in publishes.confirms) == count


@case("drivers", about="driver")
async def confirms_as_the_broker_sent_them(env: DriverEnv) -> None:
    """`on_confirm` is told the number, whether it is for all up to it, and ack or nack."""
    broker, channel = await env.scripted_channel()
    selecting = asyncio.create_task(Publishes.on(channel))
    await broker.answers(commands.Confirm.Select, commands.Confirm.SelectOk())
    publishes = await selecting
    for _ in range(6):
        channel.publish(Message("", "q", b""))
    await broker.send(commands.Basic.Ack(3, multiple=True), 1)
    await broker.send(commands.Basic.Nack(5, multiple=True), 1)
    await broker.send(commands.Basic.Nack(6, multiple=False), 1)
    await publishes.confirmed(6)
    assert publishes.told == [
        Confirm(3, True, True),
        Confirm(5, True, False),
        Confirm(6, False, False),
    ]


@case("drivers", about="driver")
async def nack_of_a_full_queue(env: DriverEnv) -> None:
    """What a full queue refuses is told as a nack, and the channel goes on."""
    queue = await env.queue(await env.channel(), x_max_length=1, x_overflow="reject-publish")
    publishes = await Publishes.on(await env.driver_channel())
    assert await publishes.publish(queue, b"1")
    assert not await publishes.publish(queue, b"2")
    assert await publishes.publish(await env.queue(await env.channel()))


@case("drivers", about="driver")
async def equal_ids_in_flight(env: DriverEnv) -> None:
    """Of messages with one id in flight at a time, just those that go nowhere are returned."""
    queue = await env.queue(await env.channel())
    publishes = await Publishes.on(await env.driver_channel())
    for number in range(1, 21):
        properties = Properties(message_id="same", headers={"number": number})
        key = queue if number % 3 else env.name
        assert publishes.channel.publish(Message("", key, b"m", properties)) == number
    for number in range(1, 21):
        assert await publishes.confirmed(number)
    told = [returned.properties.headers["number"] for returned in publishes.returns]
    assert told == [3, 6, 9, 12, 15, 18]


@case("drivers", about="driver")
async def return_tells_what_it_was(env: DriverEnv) -> None:
    """A return has the broker's code and words, where the message went, and its properties."""
    exchange = await env.exchange(await env.channel())
    publishes = await Publishes.on(await env.driver_channel())
    channel = publishes.channel
    properties = Properties(message_id="id", headers=HEADERS)
    for count, body in enumerate((b"", b"m", bytes(200_000)), 1):
        await publishes.confirmed(channel.publish(Message(exchange, "k.1", body, properties)))
        assert len(publishes.returns) == count
        returned = publishes.returns[-1]
        assert (returned.code, returned.text) == (312, "NO_ROUTE")
        assert (returned.exchange, returned.routing_key) == (exchange, "k.1")
        assert returned.properties == properties


@case("drivers", about="driver")
async def not_mandatory(env: DriverEnv) -> None:
    """A message that is not mandatory and goes nowhere is confirmed, and not returned."""
    publishes = await Publishes.on(await env.driver_channel())
    number = publishes.channel.publish(Message("", env.name, b"m", mandatory=False))
    assert await publishes.confirmed(number)
    assert publishes.returns == []


@case("drivers", about="driver")
async def no_such_exchange(env: DriverEnv) -> None:
    """A publish to an exchange that does not exist closes the channel with 404, which says so."""
    publishes = await Publishes.on(await env.driver_channel())
    assert publishes.channel.publish(Message(env.name, "k", b"m")) == 1
    await closed_with(publishes.channel, 404, f"no exchange '{env.name}'")
    assert publishes.told == []


@case("drivers", about="driver")
async def properties_on_the_wire(env: DriverEnv) -> None:
    """Every property is written as AMQP's: milliseconds, whole seconds since 1970, mode 1 or 2."""
    beside = await env.channel()
    queue = await env.queue(beside)
    publishes = await Publishes.on(await env.driver_channel())
    await publishes.publish(queue, b"m", EVERY_PROPERTY)
    sent = (await env.arrives(beside, queue)).properties
    assert sent.expiration == "60500"
    assert (sent.timestamp, sent.delivery_mode) == (1704105005, TRANSIENT)
    for name in ("content_type", "content_encoding", "priority", "correlation_id", "reply_to"):
        assert getattr(sent, name) == getattr(EVERY_PROPERTY, name), name
    for name in ("message_id", "type", "user_id", "app_id", "headers"):
        assert getattr(sent, name) == getattr(EVERY_PROPERTY, name), name


@case("drivers", about="driver")
async def no_properties_on_the_wire(env: DriverEnv) -> None:
    """A message without properties is written as a persistent one, and nothing else is set."""
    beside = await env.channel()
    queue = await env.queue(beside)
    publishes = await Publishes.on(await env.driver_channel())
    await publishes.publish(queue, b"m")
    sent = (await env.arrives(beside, queue)).properties
    assert sent.delivery_mode == PERSISTENT
    assert not sent.headers
    for name in ("content_type", "content_encoding", "priority", "correlation_id", "reply_to"):
        assert getattr(sent, name) is None, name
    for name in ("expiration", "message_id", "timestamp", "type", "user_id", "app_id"):
        assert getattr(sent, name) is None, name


@case("drivers", about="driver")
async def properties_come_back(env: DriverEnv) -> None:
    """Every property that is published is delivered as it was, and what is not set is None."""
    queue = await env.queue(await env.channel())
    publishes = await Publishes.on(await env.driver_channel())
    inbox = await Inbox.consume(publishes.channel, queue)
    for properties in (EVERY_PROPERTY, Properties(), Properties(priority=0, expiration=0.25)):
        await publishes.publish(queue, b"m", properties)
        assert (await inbox.next()).properties == properties


@case("drivers", about="driver")
async def headers_come_back(env: DriverEnv) -> None:
    """Headers of every type are delivered with the value and the type that they had."""
    queue = await env.queue(await env.channel())
    publishes = await Publishes.on(await env.driver_channel())
    await publishes.publish(queue, b"m", Properties(headers=HEADERS))
    headers = (await got(publishes.channel, queue)).properties.headers
    assert headers.keys() == HEADERS.keys()
    for name, value in HEADERS.items():
        assert headers[name] == value, name
        assert isinstance(headers[name], type(value)), name


@case("drivers", about="driver")
async def times_in_headers(env: DriverEnv) -> None:
    """A time in a header is delivered as the same moment, in UTC and without its fraction."""
    queue = await env.queue(await env.channel())
    publishes = await Publishes.on(await env.driver_channel())
    there = datetime(2024, 7, 1, 1, 30, 5, 999_999, tzinfo=timezone(timedelta(hours=-5)))
    await publishes.publish(queue, b"m", Properties(headers={"when": there}, timestamp=there))
    properties = (await got(publishes.channel, queue)).properties
    moment = there.replace(microsecond=0)
    for found in (properties.headers["when"], properties.timestamp):
        assert found == moment
        assert isinstance(found, datetime)
        assert found.utcoffset() == timedelta(0)


@case("drivers", about="driver")
async def what_cannot_be_encoded(env: DriverEnv) -> None:
    """What cannot be encoded is an InvalidMessageError; nothing is written, and no number used."""
    queue = await env.queue(await env.channel())
    publishes = await Publishes.on(await env.driver_channel())
    broken: list[Any] = [
        Properties(headers={"object": object()}),  # type: ignore[dict-item]
        Properties(headers={"deep": [{"in": {1, 2}}]}),  # type: ignore[dict-item]
        Properties(headers={"large": 2**63}),
        Properties(headers={"n" * 256: 1}),
        Properties(headers={"decimal": Decimal("NaN")}),
        Properties(headers={"lone": "\ud800"}),
        Properties(headers={"old": datetime(1969, 1, 1, tzinfo=UTC)}),
        Properties(app_id="a" * 256),
        Properties(message_id="ä" * 128),
        Properties(priority=256),
        Properties(priority=-1),
        Properties(timestamp=datetime(1969, 1, 1, tzinfo=UTC)),
        Properties(type=7),  # type: ignore[arg-type]
    ]
    for properties in broken:
        invalid(partial(publishes.channel.publish, Message("", queue, b"no", properties)))
    for body in (b"1", b"2"):
        assert await publishes.publish(queue, body)
    invalid(lambda: publishes.channel.publish(Message("", "k" * 256, b"no")))
    assert await publishes.publish(queue, b"3")
    assert max(confirm.tag for confirm in publishes.confirms) == len([b"1", b"2", b"3"])
    assert publishes.returns == []
    assert await (await env.channel()).bodies(queue) == [b"1", b"2", b"3"]


def invalid(publish: Callable[[], int]) -> None:
    """Claim that this publish is refused before it is written."""
    try:
        number = publish()
    except InvalidMessageError:
        return
    raise AssertionError(f"it was written, as number {number}")


@case("drivers", about="driver")
async def too_large_headers(env: DriverEnv) -> None:
    """Headers over a frame's size, for which the broker would close the connection, are refused."""
    queue = await env.queue(await env.channel())
    publishes = await Publishes.on(await env.driver_channel())
    large = Properties(headers={"x": "y" * 140_000})
    invalid(lambda: publishes.channel.publish(Message("", queue, b"no", large)))
    assert await publishes.publish(queue, b"1", Properties(headers={"x": "y" * 120_000}))
    assert [confirm.tag for confirm in publishes.confirms] == [1]
    assert await (await env.channel()).bodies(queue) == [b"1"]


@case("drivers", about="driver")
async def bodies_of_all_sizes(env: DriverEnv) -> None:
    """Bodies of no byte, of just a frame and of several frames come back whole and in order."""
    queue = await env.queue(await env.channel())
    publishes = await Publishes.on(await env.driver_channel())
    inbox = await Inbox.consume(publishes.channel, queue)
    frame = 131072 - 8
    sizes = [0, 1, frame - 1, frame, frame + 1, 2 * frame, 2 * frame + 1, 0, 1_000_000]
    bodies = [bytes([number + 1]) * size for number, size in enumerate(sizes)]
    for body in bodies:
        publishes.channel.publish(Message("", queue, body))
    assert await inbox.bodies(len(bodies)) == bodies
    assert await publishes.confirmed(len(bodies))


@case("drivers", about="driver")
async def calls_keep_their_place(env: DriverEnv) -> None:
    """A call comes to the broker after what was published before it, and before what is later."""
    beside = await env.channel()
    first, second, exchange = env.undeclared(), env.undeclared(), await env.exchange(beside)
    channel = await env.driver_channel()
    await channel.declare_queue(first)
    for number in range(20):
        channel.publish(Message("", first, b"x" * 10_000 * number))
        assert len((await got(channel, first)).body) == 10_000 * number
    await channel.declare_queue(second)
    channel.publish(Message(exchange, "k", b"before", mandatory=False))
    await channel.bind_queue(second, exchange, "k")
    channel.publish(Message(exchange, "k", b"after"))
    assert (await got(channel, second)).body == b"after"


@case("drivers", about="driver")
async def publishing_without_confirms(env: DriverEnv) -> None:
    """A channel publishes without confirm mode, too, and goes on when messages are returned."""
    channel = await env.driver_channel()
    queue = await env.queue(await env.channel())
    numbers = [channel.publish(Message("", key, b"m")) for key in (env.name, queue)]
    assert numbers == [1, 2]
    assert (await got(channel, queue)).body == b"m"


@case("drivers", about="driver")
async def closing_writes_what_was_published(env: DriverEnv) -> None:
    """What was published right before the connection is closed reaches the broker."""
    beside = await env.channel()
    queue = await env.queue(beside)
    connection = await env.driver_connection()
    channel = await connection.channel()
    for number in range(50):
        channel.publish(Message("", queue, b"%d" % number))
    await connection.close()
    await env.ready(beside, queue, 50)


@case("drivers", about="driver")
async def foreign_user_id(env: DriverEnv) -> None:
    """A user id that is not the connection's closes the channel with 406, which says so."""
    channel = await env.driver_channel()
    queue = await env.queue(await env.channel())
    channel.publish(Message("", queue, b"m", Properties(user_id=env.name)))
    await closed_with(channel, 406, "user_id")
    async with expect_error(406, "user_id"):
        await channel.qos(1)
