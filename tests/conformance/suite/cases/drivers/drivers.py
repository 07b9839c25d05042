"""What mqkit asks of its drivers (`mqkit.drivers.base`): channels, their calls and their ends."""

from __future__ import annotations

import asyncio

from pamqp import commands

from mqkit.drivers.base import DriverChannel
from mqkit.errors import ChannelClosedError
from mqkit.message import Message
from tests.conformance.suite.driver import Publishes, closed_with, expect_error
from tests.conformance.suite.env import DriverEnv
from tests.conformance.suite.suite import case


def is_closed(channel: DriverChannel) -> None:
    """Claim that a channel says that it is closed."""
    assert not channel.is_open


def refuses_at_once(channel: DriverChannel, code: int) -> None:
    """Claim that what is not awaited fails on this closed channel, with the code."""
    for call in (
        lambda: channel.publish(Message("", "q", b"")),
        lambda: channel.ack(1),
        lambda: channel.nack(1, requeue=True),
    ):
        try:
            call()
        except ChannelClosedError as error:
            assert error.code == code  # noqa: PT017
        else:
            raise AssertionError("it was taken")


@case("drivers", about="driver")
async def closed_tells_the_code(env: DriverEnv) -> None:
    """A channel that the broker closes fails its waiting call and its `closed` with the code."""
    channel = await env.driver_channel()
    async with expect_error(404, "no queue"):
        await channel.declare_queue(env.name, passive=True)
    await closed_with(channel, 404, "NOT_FOUND")
    assert not channel.is_open


@case("drivers", about="driver")
async def closed_channel_stays_closed(env: DriverEnv) -> None:
    """Each call on a channel that the broker closed fails with the code that closed it."""
    channel = await env.driver_channel()
    async with expect_error(404):
        await channel.declare_queue(env.name, passive=True)
    refuses_at_once(channel, 404)
    for call in (
        channel.declare_exchange("amq.direct", "direct", passive=True),
        channel.declare_queue(env.name),
        channel.bind_queue(env.name, "amq.direct", "k"),
        channel.bind_exchange("amq.direct", "amq.topic", "k"),
        channel.confirm_select(lambda *_: None, lambda _: None),
        channel.qos(1),
        channel.consume(env.name, lambda _: None, lambda: None),
        channel.get(env.name),
    ):
        async with expect_error(404, "NOT_FOUND"):
            await call


@case("drivers", about="driver")
async def calls_behind_the_failing_one(env: DriverEnv) -> None:
    """Calls that wait when the broker closes the channel all fail with its code."""
    channel = await env.driver_channel()
    calls = [
        asyncio.create_task(each)
        for each in (
            channel.declare_queue(env.name, passive=True),
            channel.qos(1),
            channel.get(env.name),
            channel.declare_exchange("amq.direct", "direct", passive=True),
        )
    ]
    for call in calls:
        async with expect_error(404):
            await call


@case("drivers", about="driver")
async def other_channels_live_on(env: DriverEnv) -> None:
    """A channel that the broker closes takes no other one of its connection with it."""
    connection = await env.driver_connection()
    broken, other = await connection.channel(), await connection.channel()
    publishes = await Publishes.on(other)
    async with expect_error(404):
        await broken.declare_queue(env.name, passive=True)
    assert other.is_open
    assert await publishes.publish(await env.queue(await env.channel()))
    assert (await connection.channel()).is_open
    assert not connection.closed.done()


@case("drivers", about="driver")
async def own_close_of_a_channel(env: DriverEnv) -> None:
    """A channel that this side closes is closed without a code, and takes nothing more."""
    connection = await env.driver_connection()
    channel, other = await connection.channel(), await connection.channel()
    assert channel.is_open
    assert not channel.closed.done()
    closing = asyncio.create_task(channel.close())
    await asyncio.sleep(0)
    refuses_at_once(channel, 0)
    await closing
    await closed_with(channel, 0)
    is_closed(channel)
    refuses_at_once(channel, 0)
    async with expect_error(0):
        await channel.qos(1)
    await other.qos(1)


@case("drivers", about="driver")
async def closing_again(env: DriverEnv) -> None:
    """Closing what is closed already, whoever closed it, is no error."""
    connection = await env.driver_connection()
    mine, refused, last = [await connection.channel() for _ in range(3)]
    async with expect_error(404):
        await refused.declare_queue(env.name, passive=True)
    await refused.close()
    await closed_with(refused, 404)
    await asyncio.gather(mine.close(), mine.close())
    await mine.close()
    await asyncio.gather(connection.close(), connection.close())
    await connection.close()
    await last.close()


@case("drivers", about="driver")
async def own_close_of_a_connection(env: DriverEnv) -> None:
    """A connection that this side closes is closed without a code, and so are its channels."""
    connection = await env.driver_connection()
    channels = [await connection.channel() for _ in range(3)]
    assert not connection.closed.done()
    await connection.close()
    await closed_with(connection, 0)
    for channel in channels:
        await closed_with(channel, 0)
        is_closed(channel)
    refuses_at_once(channels[0], 0)
    async with expect_error(0):
        await connection.channel()


@case("drivers", about="driver")
async def broker_closes_the_connection(env: DriverEnv) -> None:
    """A connection that the broker closes has its code and words, and so have its channels."""
    broker, connection = await env.scripted()
    channel, _ = await asyncio.gather(connection.channel(), broker.serve_channel())
    waiting = asyncio.create_task(channel.qos(1))
    await broker.expect(commands.Basic.Qos)
    await broker.send(commands.Connection.Close(320, "CONNECTION_FORCED - maintenance", 0, 0))
    for each in (connection, channel):
        await closed_with(each, 320, "maintenance")
    async with expect_error(320):
        await waiting
    refuses_at_once(channel, 320)


@case("drivers", about="driver")
async def stream_is_lost(env: DriverEnv) -> None:
    """A stream that ends without a word closes the connection and its channels without a code."""
    broker, connection = await env.scripted()
    channel, _ = await asyncio.gather(connection.channel(), broker.serve_channel())
    waiting = asyncio.create_task(channel.qos(1))
    await broker.expect(commands.Basic.Qos)
    await broker.close()
    for each in (connection, channel):
        await closed_with(each, 0)
    async with expect_error(0):
        await waiting
    refuses_at_once(channel, 0)
    async with expect_error(0):
        await connection.channel()


@case("drivers", about="driver")
async def channel_is_refused(env: DriverEnv) -> None:
    """A connection that closes while a channel is being opened fails that with the code."""
    broker, connection = await env.scripted()
    opening = asyncio.create_task(connection.channel())
    await broker.expect(commands.Channel.Open)
    await broker.send(commands.Connection.Close(530, "NOT_ALLOWED - no more channels", 0, 0))
    async with expect_error(530, "no more channels"):
        await opening


@case("drivers", about="driver")
async def concurrent_calls(env: DriverEnv) -> None:
    """Calls that are made at the same time on one channel each get their own answer."""
    beside, channel = await env.channel(), await env.driver_channel()
    queues = [await env.queue(beside) for _ in range(5)]
    for count, queue in enumerate(queues):
        await beside.publish_all("", queue, [b"m"] * count)
    states = await asyncio.gather(*(channel.declare_queue(q, passive=True) for q in queues))
    assert [(state.name, state.messages) for state in states] == [
        (queue, count) for count, queue in enumerate(queues)
    ]


@case("drivers", about="driver")
async def cancelled_call(env: DriverEnv) -> None:
    """A call whose caller goes away leaves the channel and the calls after it as they are."""
    channel = await env.driver_channel()
    gone, queue = await env.queue(await env.channel()), await env.queue(await env.channel())
    for steps in range(5):
        calls = [
            asyncio.create_task(each)
            for each in (
                channel.declare_queue(gone, passive=True),
                channel.qos(5),
                channel.bind_queue(gone, "amq.direct", gone),
            )
        ]
        for _ in range(steps):
            await asyncio.sleep(0)
        for call in calls:
            call.cancel()
        assert (await channel.declare_queue(queue, passive=True)).name == queue
    assert channel.is_open


@case("drivers", about="driver")
async def cancelled_opening(env: DriverEnv) -> None:
    """A channel that nobody waits for any more leaves the connection as it is."""
    connection = await env.driver_connection()
    for steps in range(4):
        opening = asyncio.create_task(connection.channel())
        for _ in range(steps):
            await asyncio.sleep(0)
        opening.cancel()
        await (await connection.channel()).qos(1)
    assert not connection.closed.done()


@case("drivers", about="driver")
async def late_answer_closes_nothing(env: DriverEnv) -> None:
    """An answer that comes after its caller has gone is nobody else's."""
    broker, channel = await env.scripted_channel()
    first = asyncio.create_task(channel.declare_queue("first"))
    await broker.expect(commands.Queue.Declare)
    first.cancel()
    await asyncio.wait([first])
    second = asyncio.create_task(channel.declare_queue("second"))
    await broker.send(commands.Queue.DeclareOk("first", 1, 1), 1)
    await broker.answers(commands.Queue.Declare, commands.Queue.DeclareOk("second", 2, 2))
    assert (await second).name == "second"
    assert channel.is_open
