"""What mqkit asks of its drivers (`mqkit.drivers.base`): acks, nacks and what is held unsettled."""

from __future__ import annotations

from tests.conformance.suite.driver import Inbox, closed_with, got
from tests.conformance.suite.env import DriverEnv
from tests.conformance.suite.suite import case

BODIES = [b"%d" % number for number in range(1, 6)]


@case("drivers", about="driver")
async def get_is_held(env: DriverEnv) -> None:
    """What `get` took stays with the channel until it is acked; else it comes again."""
    beside, connection = await env.channel(), await env.driver_connection()
    queue = await env.queue(beside)
    await beside.publish_all("", queue, [b"1", b"2"])
    channel = await connection.channel()
    channel.ack((await got(channel, queue)).tag)
    await got(channel, queue)
    assert await channel.get(queue) is None
    await channel.close()
    again = await env.arrives(beside, queue)
    assert (again.body, again.redelivered) == (b"2", True)


@case("drivers", about="driver")
async def ack_one_or_all(env: DriverEnv) -> None:
    """An ack is for one message, and with `multiple` for all up to it."""
    beside, channel = await env.channel(), await env.driver_channel()
    queue = await env.queue(beside)
    await beside.publish_all("", queue, BODIES)
    inbox = await Inbox.consume(channel, queue)
    incoming = await inbox.take(5)
    channel.ack(incoming[4].tag)
    channel.ack(incoming[1].tag, multiple=True)
    await channel.close()
    await env.ready(beside, queue, 2)
    assert await beside.bodies(queue) == [b"3", b"4"]


@case("drivers", about="driver")
async def without_acks(env: DriverEnv) -> None:
    """To a consumer with `no_ack` all is delivered, whatever the prefetch, and nothing is held."""
    beside, channel = await env.channel(), await env.driver_channel()
    queue = await env.queue(beside)
    await beside.publish_all("", queue, BODIES)
    await channel.qos(1)
    inbox = await Inbox.consume(channel, queue, no_ack=True)
    assert await inbox.bodies(5) == BODIES
    await channel.close()
    state = await beside.queue_declare(queue, passive=True)
    assert (state.messages, state.consumers) == (0, 0)
    assert await beside.get(queue) is None


@case("drivers", about="driver")
async def nack_gives_back_or_not(env: DriverEnv) -> None:
    """A nack with `requeue` is redelivered as such, of many in their order; else dead-lettered."""
    beside, channel = await env.channel(), await env.driver_channel()
    exchange, dead = await env.dead_letters(beside)
    queue = await env.queue(beside, x_dead_letter_exchange=exchange)
    await beside.publish_all("", queue, [b"1", b"2", b"3"])
    await channel.qos(3)
    inbox = await Inbox.consume(channel, queue)
    first, second, third = await inbox.take(3)
    channel.nack(second.tag, requeue=False)
    assert (await env.arrives(beside, dead)).body == b"2"
    channel.nack(first.tag, requeue=True)
    again = await inbox.next()
    assert (again.body, again.redelivered) == (b"1", True)
    assert again.tag > third.tag
    channel.nack(again.tag, requeue=True, multiple=True)
    assert [(each.body, each.redelivered) for each in await inbox.take(2)] == [
        (b"1", True),
        (b"3", True),
    ]


@case("drivers", about="driver")
async def redelivered_after_a_close(env: DriverEnv) -> None:
    """What a closed channel had not settled comes again, and is told as redelivered."""
    beside, connection = await env.channel(), await env.driver_connection()
    queue = await env.queue(beside)
    await beside.publish_confirmed("", queue, b"m")
    first = await Inbox.consume(await connection.channel(), queue)
    assert not (await first.next()).redelivered
    await first.channel.close()
    second = await Inbox.consume(await connection.channel(), queue)
    incoming = await second.next()
    assert (incoming.body, incoming.redelivered) == (b"m", True)


@case("drivers", about="driver")
async def acks_before_a_close(env: DriverEnv) -> None:
    """What was acked right before its channel or connection is closed does not come again."""
    beside = await env.channel()
    for type_ in ("classic", "quorum"):
        for whole in (False, True):
            connection = await env.driver_connection()
            channel, queue = await connection.channel(), await env.queue(beside, x_queue_type=type_)
            await beside.publish_all("", queue, BODIES)
            inbox = await Inbox.consume(channel, queue)
            for incoming in await inbox.take(5):
                channel.ack(incoming.tag)
            await (connection if whole else channel).close()
            await beside.queue_declare(queue, passive=True)
            assert await beside.bodies(queue) == [], (type_, whole)


@case("drivers", about="driver")
async def unknown_tag(env: DriverEnv) -> None:
    """An ack of what was never delivered closes the channel with 406."""
    channel = await env.driver_channel()
    channel.ack(7)
    await closed_with(channel, 406, "unknown delivery tag 7")


@case("drivers", about="driver")
async def prefetch(env: DriverEnv) -> None:
    """A consumer holds no more than `qos` allowed when it was started; an ack makes room."""
    beside, channel = await env.channel(), await env.driver_channel()
    queue = await env.queue(beside)
    await beside.publish_all("", queue, BODIES)
    await channel.qos(2)
    inbox = await Inbox.consume(channel, queue)
    first, _ = await inbox.take(2)
    await inbox.nothing_more()
    await channel.qos(100)
    await inbox.nothing_more()
    channel.ack(first.tag)
    assert (await inbox.next()).body == b"3"
    await inbox.nothing_more()
    wider = await Inbox.consume(channel, queue)
    assert await wider.bodies(2) == [b"4", b"5"]
