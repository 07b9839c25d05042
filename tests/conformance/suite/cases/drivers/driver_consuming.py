"""What mqkit asks of its drivers (`mqkit.drivers.base`): deliveries, gets and settling."""

from __future__ import annotations

import asyncio

from pamqp import commands, frame

from mqkit.message import Properties
from tests.conformance.suite.driver import Inbox, Publishes, expect_error, got
from tests.conformance.suite.env import DriverEnv, expect_closed
from tests.conformance.suite.scripted import delivery
from tests.conformance.suite.suite import case

BODIES = [b"%d" % number for number in range(1, 6)]

REPLY_TO = "amq.rabbitmq.reply-to"
"""The pseudo-queue of direct replies (https://www.rabbitmq.com/docs/direct-reply-to)."""


@case("drivers", about="driver")
async def deliveries_in_order(env: DriverEnv) -> None:
    """A consumer gets the queue's messages in their order, numbered in it, as not redelivered."""
    beside = await env.channel()
    queue = await env.queue(beside)
    bodies = [b"%d" % number for number in range(200)]
    await beside.publish_all("", queue, bodies[:100])
    inbox = await Inbox.consume(await env.driver_channel(), queue)
    await beside.publish_all("", queue, bodies[100:])
    incoming = await inbox.take(200)
    assert [each.body for each in incoming] == bodies
    assert [each.tag for each in incoming] == list(range(1, 201))
    assert not any(each.redelivered for each in incoming)


@case("drivers", about="driver")
async def delivery_tells_its_publish(env: DriverEnv) -> None:
    """A delivery and a get tell the exchange and the key that the message was published with."""
    beside, channel = await env.channel(), await env.driver_channel()
    exchange = await env.exchange(beside, "topic")
    queue = await env.queue(beside, exchange, "#")
    await beside.publish_all(exchange, "a.b", [b"1", b"2"])
    inbox = await Inbox.consume(await env.driver_channel(), queue)
    for incoming in await inbox.take(2):
        assert (incoming.exchange, incoming.routing_key) == (exchange, "a.b")
        inbox.channel.ack(incoming.tag)
    await inbox.channel.cancel(inbox.tag)
    await beside.publish_confirmed("", queue, b"3")
    incoming = await got(channel, queue)
    assert (incoming.exchange, incoming.routing_key, incoming.body) == ("", queue, b"3")


@case("drivers", about="driver")
async def consumers_get_their_own(env: DriverEnv) -> None:
    """Consumers of one channel have tags of their own, and each gets its own deliveries."""
    beside, channel = await env.channel(), await env.driver_channel()
    inboxes = [await Inbox.consume(channel, await env.queue(beside)) for _ in range(3)]
    assert len({inbox.tag for inbox in inboxes}) == len(inboxes)
    for number, inbox in enumerate(inboxes):
        await beside.publish_all("", inbox.queue, [b"%d" % number] * 3)
    for number, inbox in enumerate(inboxes):
        assert await inbox.bodies(3) == [b"%d" % number] * 3
        await inbox.nothing_more()


@case("drivers", about="driver")
async def all_in_one_packet(env: DriverEnv) -> None:
    """What comes in one packet with `consume-ok` is not lost: a delivery, then the cancel."""
    broker, channel = await env.scripted_channel()
    inbox = Inbox(channel, "q")
    consuming = asyncio.create_task(
        channel.consume("q", inbox.deliveries.put_nowait, inbox.on_cancel)
    )
    tag = (await broker.expect(commands.Basic.Consume)).consumer_tag
    await broker.send_bytes(
        frame.marshal(commands.Basic.ConsumeOk(tag), 1)
        + delivery(tag, 1, b"1")
        + delivery(tag, 2, b"2")
        + frame.marshal(commands.Basic.Cancel(tag, nowait=True), 1)
    )
    assert await consuming == tag
    assert await inbox.bodies(2) == [b"1", b"2"]
    await inbox.cancelled.wait()
    assert inbox.cancels == 1


@case("drivers", about="driver")
async def byte_by_byte(env: DriverEnv) -> None:
    """Deliveries that come in pieces, however cut, come whole and once."""
    broker, channel = await env.scripted_channel()
    inbox = Inbox(channel, "q")
    consuming = asyncio.create_task(
        channel.consume("q", inbox.deliveries.put_nowait, inbox.on_cancel)
    )
    tag = (await broker.expect(commands.Basic.Consume)).consumer_tag
    await broker.send(commands.Basic.ConsumeOk(tag), 1)
    await consuming
    words = b"".join(delivery(tag, number, b"%d" % number) for number in range(1, 4))
    for start in range(0, len(words), 7):
        await broker.send_bytes(words[start : start + 7])
        await asyncio.sleep(0)
    assert await inbox.bodies(3) == [b"1", b"2", b"3"]
    assert inbox.deliveries.empty()


@case("drivers", about="driver")
async def broker_sent_cancel(env: DriverEnv) -> None:
    """A consumer whose queue is deleted is told so through `on_cancel`, once."""
    beside, channel = await env.channel(), await env.driver_channel()
    inbox = await Inbox.consume(channel, await env.queue(beside))
    other = await Inbox.consume(channel, await env.queue(beside))
    await beside.queue_delete(inbox.queue)
    await inbox.cancelled.wait()
    await channel.qos(1)
    assert (inbox.cancels, other.cancels) == (1, 0)
    await beside.publish_confirmed("", other.queue, b"m")
    assert (await other.next()).body == b"m"


@case("drivers", about="driver")
async def own_cancel(env: DriverEnv) -> None:
    """`cancel` ends the deliveries and calls no `on_cancel`; what was delivered can be settled."""
    beside, channel = await env.channel(), await env.driver_channel()
    queue = await env.queue(beside)
    await beside.publish_all("", queue, [b"1", b"2"])
    inbox = await Inbox.consume(channel, queue)
    first, second = await inbox.take(2)
    await channel.cancel(inbox.tag)
    await beside.publish_confirmed("", queue, b"3")
    await inbox.nothing_more()
    channel.ack(first.tag)
    channel.nack(second.tag, requeue=True)
    await env.ready(beside, queue, 2)
    await beside.queue_delete(queue)
    await channel.qos(1)
    assert inbox.cancels == 0


@case("drivers", about="driver")
async def sent_before_the_cancel(env: DriverEnv) -> None:
    """What the broker had sent before it answers `cancel` is delivered, and not settled."""
    broker, channel = await env.scripted_channel()
    inbox = Inbox(channel, "q")
    consuming = asyncio.create_task(
        channel.consume("q", inbox.deliveries.put_nowait, inbox.on_cancel)
    )
    tag = (await broker.expect(commands.Basic.Consume)).consumer_tag
    await broker.send(commands.Basic.ConsumeOk(tag), 1)
    await consuming
    cancelling = asyncio.create_task(channel.cancel(tag))
    await broker.expect(commands.Basic.Cancel)
    await broker.send_bytes(
        delivery(tag, 1, b"1")
        + delivery(tag, 2, b"2")
        + frame.marshal(commands.Basic.CancelOk(tag), 1)
    )
    await cancelling
    assert await inbox.bodies(2) == [b"1", b"2"]
    assert inbox.cancels == 0
    qos = asyncio.create_task(channel.qos(1))
    await broker.answers(commands.Basic.Qos, commands.Basic.QosOk())
    await qos


@case("drivers", about="driver")
async def nothing_is_lost_by_a_cancel(env: DriverEnv) -> None:
    """Of a queue's messages, a cancelled consumer has got some and the queue has the rest."""
    beside, channel = await env.channel(), await env.driver_channel()
    queue = await env.queue(beside)
    await beside.publish_all("", queue, [b"m"] * 300)
    await channel.qos(200)
    inbox = await Inbox.consume(channel, queue)
    await inbox.next()
    await channel.cancel(inbox.tag)
    await env.ready(beside, queue, 300 - 1 - inbox.deliveries.qsize())


@case("drivers", about="driver")
async def cancelling_again(env: DriverEnv) -> None:
    """Cancelling what is no consumer any more, whoever cancelled it, is no error."""
    beside, channel = await env.channel(), await env.driver_channel()
    mine, theirs = [await Inbox.consume(channel, await env.queue(beside)) for _ in range(2)]
    for _ in range(2):
        await channel.cancel(mine.tag)
    await beside.queue_delete(theirs.queue)
    await theirs.cancelled.wait()
    await channel.cancel(theirs.tag)
    assert channel.is_open


@case("drivers", about="driver")
async def get_takes_one(env: DriverEnv) -> None:
    """`get` takes one message after the other, and None from an empty queue."""
    beside, channel = await env.channel(), await env.driver_channel()
    queue = await env.queue(beside)
    assert await channel.get(queue) is None
    await beside.publish_all("", queue, [b"1", b"2"])
    taken = [await got(channel, queue) for _ in range(2)]
    assert [(each.tag, each.body, each.redelivered) for each in taken] == [
        (1, b"1", False),
        (2, b"2", False),
    ]
    assert await channel.get(queue) is None


@case("drivers", about="driver")
async def concurrent_gets(env: DriverEnv) -> None:
    """Gets at the same time on one channel each get a message of their own queue, or None."""
    beside, channel = await env.channel(), await env.driver_channel()
    full, empty = await env.queue(beside), await env.queue(beside)
    await beside.publish_all("", full, BODIES)
    found = await asyncio.gather(*(channel.get(q) for _ in BODIES for q in (full, empty)))
    assert [each.body if each else None for each in found[::2]] == BODIES
    assert set(found[1::2]) == {None}


@case("drivers", about="driver")
async def cancelled_get(env: DriverEnv) -> None:
    """A `get` whose caller goes away gives its message back, and the next ones work."""
    beside, channel = await env.channel(), await env.driver_channel()
    full, empty = await env.queue(beside), await env.queue(beside)
    await beside.publish_confirmed("", full, b"m")
    for steps in range(4):
        for queue in (full, empty):
            getting = asyncio.create_task(channel.get(queue))
            for _ in range(steps):
                await asyncio.sleep(0)
            getting.cancel()
            assert await channel.get(empty) is None
    await env.ready(beside, full, 1)
    assert (await got(channel, full)).body == b"m"


@case("drivers", about="driver")
async def get_beside_a_consumer(env: DriverEnv) -> None:
    """A `get` on a channel with a consumer gets its own answer, not the consumer's."""
    beside, channel = await env.channel(), await env.driver_channel()
    queue = await env.queue(beside)
    inbox = await Inbox.consume(channel, await env.queue(beside))
    await beside.publish_all("", queue, BODIES)
    await beside.publish_all("", inbox.queue, BODIES)
    assert [(await got(channel, queue)).body for _ in BODIES] == BODIES
    assert await inbox.bodies(5) == BODIES


@case("drivers", about="driver")
async def get_from_no_queue(env: DriverEnv) -> None:
    """A `get` from a queue that does not exist fails with 404, and so do those that wait."""
    channel = await env.driver_channel()
    gets = [asyncio.create_task(channel.get(env.name)) for _ in range(3)]
    for get in gets:
        async with expect_error(404, "no queue"):
            await get


@case("drivers", about="driver")
async def exclusive_consumer(env: DriverEnv) -> None:
    """A consumer beside an exclusive one is refused with 403, as is an exclusive one beside it."""
    beside, connection = await env.channel(), await env.driver_connection()
    queue = await env.queue(beside)
    first = await Inbox.consume(await connection.channel(), queue, exclusive=True)
    async with expect_closed(beside, 403, "exclusive"):
        await beside.consume(queue)
    async with expect_error(403, "exclusive"):
        await Inbox.consume(await connection.channel(), queue)
    await first.channel.cancel(first.tag)
    await Inbox.consume(await connection.channel(), queue)
    async with expect_error(403, "exclusive"):
        await Inbox.consume(await connection.channel(), queue, exclusive=True)


@case("drivers", about="driver")
async def consumer_arguments(env: DriverEnv) -> None:
    """A consumer's arguments reach the broker: the one of higher priority is served first."""
    beside, channel = await env.channel(), await env.driver_channel()
    queue = await env.queue(beside)
    low = await Inbox.consume(channel, queue)
    high = await Inbox.consume(channel, queue, arguments={"x-priority": 5})
    await beside.publish_all("", queue, BODIES)
    assert await high.bodies(5) == BODIES
    await low.nothing_more()


@case("drivers", about="driver")
async def consuming_no_queue(env: DriverEnv) -> None:
    """A consumer of a queue that does not exist is refused with 404."""
    channel = await env.driver_channel()
    async with expect_error(404, "no queue"):
        await Inbox.consume(channel, env.name)


@case("drivers", about="driver")
async def direct_replies(env: DriverEnv) -> None:
    """What is published to the `reply_to` of a request comes to the channel that published it."""
    beside, channel = await env.channel(), await env.driver_channel()
    queue = await env.queue(beside)
    publishes = await Publishes.on(channel)
    inbox = await Inbox.consume(channel, REPLY_TO, no_ack=True)
    await publishes.publish(queue, b"ask", Properties(reply_to=REPLY_TO, correlation_id="c"))
    asked = await got(await env.driver_channel(), queue)
    assert asked.properties.correlation_id == "c"
    address = asked.properties.reply_to
    assert address is not None
    assert address.startswith(f"{REPLY_TO}.")
    answering = await Publishes.on(await env.driver_channel())
    for body in (b"1", b"2"):
        await answering.publish(address, body, Properties(correlation_id="c"))
        reply = await inbox.next()
        assert (reply.body, reply.properties.correlation_id) == (body, "c")


@case("drivers", about="driver")
async def calls_amid_deliveries(env: DriverEnv) -> None:
    """Calls that are made while messages are being delivered are answered, and none is lost."""
    beside, channel = await env.channel(), await env.driver_channel()
    queue = await env.queue(beside)
    bodies = [b"%d" % number * 100 for number in range(300)]
    await beside.publish_all("", queue, bodies)
    inbox = await Inbox.consume(channel, queue)
    for _ in range(10):
        assert (await channel.declare_queue(queue, passive=True)).name == queue
    assert await inbox.bodies(300) == bodies
