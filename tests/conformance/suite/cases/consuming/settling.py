"""Acknowledging, and giving back (RabbitMQ guide "Consumer Acknowledgements")."""

from __future__ import annotations

from pamqp import commands

from tests.conformance.suite.channel import WireChannel
from tests.conformance.suite.env import (
    QUEUE_TYPES,
    BytesEnv,
    Env,
    expect_closed,
    expect_connection_closed,
)
from tests.conformance.suite.peer import message_bytes
from tests.conformance.suite.suite import case
from tests.conformance.suite.values import Delivery


async def got(channel: WireChannel, queue: str, count: int) -> list[Delivery]:
    """Publish `1`, `2`, ... to a queue and get them, unacknowledged."""
    await channel.publish_all("", queue, [b"%d" % number for number in range(1, count + 1)])
    return [delivery for _ in range(count) if (delivery := await channel.get(queue))]


@case("settling")
async def acked_is_gone(env: Env) -> None:
    """An acked message is gone; the channel's end brings back those that are not acked."""
    for type_ in QUEUE_TYPES:
        channel, other = await env.channel(), await env.channel()
        queue = await env.queue(channel, x_queue_type=type_)
        deliveries = await got(channel, queue, 3)
        await channel.ack(deliveries[1].tag)
        await channel.close()
        await env.ready(other, queue, 2)
        assert await other.bodies(queue) == [b"1", b"3"]


@case("settling")
async def ack_multiple(env: Env) -> None:
    """An ack with `multiple` is for all unacked up to its tag, and for none after it."""
    for type_ in QUEUE_TYPES:
        channel, other = await env.channel(), await env.channel()
        queue = await env.queue(channel, x_queue_type=type_)
        deliveries = await got(channel, queue, 4)
        await channel.ack(deliveries[2].tag, multiple=True)
        await channel.close()
        assert (await env.arrives(other, queue)).body == b"4"
        assert await other.get(queue) is None


@case("settling")
async def ack_all(env: Env) -> None:
    """An ack of tag 0 with `multiple` is for all that the channel has unacked, of every queue."""
    for type_ in QUEUE_TYPES:
        channel, other = await env.channel(), await env.channel()
        queues = [await env.queue(channel, x_queue_type=type_) for _ in range(2)]
        for queue in queues:
            await got(channel, queue, 2)
        await channel.ack(0, multiple=True)
        await channel.close()
        for queue in queues:
            await other.publish_confirmed("", queue, b"last")
            assert await other.bodies(queue) == [b"last"]


@case("settling")
async def ack_all_of_nothing(env: Env) -> None:
    """An ack of tag 0 with `multiple` is no error where nothing is unacked."""
    channel = await env.channel()
    await channel.ack(0, multiple=True)
    await channel.round_trip()


@case("settling")
async def unknown_tag(env: Env) -> None:
    """Acking, nacking or rejecting a tag that was never delivered closes the channel with 406."""
    for act in ("ack", "nack", "reject"):
        channel = await env.channel()
        async with expect_closed(channel, 406, "PRECONDITION_FAILED - unknown delivery tag 9"):
            await getattr(channel, act)(9)


@case("settling")
async def unknown_tag_multiple(env: Env) -> None:
    """Acking up to a tag that was never delivered closes the channel with 406, acking nothing."""
    channel, other = await env.channel(), await env.channel()
    queue = await env.queue(channel)
    await got(channel, queue, 1)
    async with expect_closed(channel, 406, "PRECONDITION_FAILED - unknown delivery tag 9"):
        await channel.ack(9, multiple=True)
    assert (await env.arrives(other, queue)).body == b"1"


@case("settling")
async def tag_zero_is_no_message(env: Env) -> None:
    """Acking tag 0 without `multiple` closes the channel with 406."""
    channel = await env.channel()
    queue = await env.queue(channel)
    await got(channel, queue, 1)
    async with expect_closed(channel, 406, "PRECONDITION_FAILED - unknown delivery tag 0"):
        await channel.ack(0)


@case("settling")
async def ack_twice(env: Env) -> None:
    """Settling a message a second time closes the channel with 406, however it was settled."""
    for first, second in (("ack", "ack"), ("ack", "reject"), ("nack", "ack")):
        channel = await env.channel()
        (delivery,) = await got(channel, await env.queue(channel), 1)
        await getattr(channel, first)(delivery.tag)
        async with expect_closed(channel, 406, "PRECONDITION_FAILED - unknown delivery tag 1"):
            await getattr(channel, second)(delivery.tag)


@case("settling")
async def ack_on_another_channel(env: Env) -> None:
    """A tag is its channel's: acking it on another one closes that one with 406."""
    channel, other = await env.channel(), await env.channel()
    (delivery,) = await got(channel, await env.queue(channel), 1)
    async with expect_closed(other, 406, "PRECONDITION_FAILED - unknown delivery tag 1"):
        await other.ack(delivery.tag)
    await channel.ack(delivery.tag)
    await channel.round_trip()


@case("settling")
async def ack_of_no_ack(env: Env) -> None:
    """Acking what was delivered with no_ack closes the channel with 406."""
    channel = await env.channel()
    queue = await env.queue(channel)
    consumer = await channel.consume(queue, no_ack=True)
    await channel.publish("", queue)
    delivery = await consumer.next()
    async with expect_closed(channel, 406, "PRECONDITION_FAILED - unknown delivery tag 1"):
        await channel.ack(delivery.tag)


@case("settling")
async def ack_after_the_queue(env: Env) -> None:
    """Acking, nacking or rejecting what came from a queue that is deleted by now is no error."""
    for type_ in QUEUE_TYPES:
        channel, other = await env.channel(), await env.channel()
        queue = await env.queue(channel, x_queue_type=type_)
        first, second, third = await got(channel, queue, 3)
        await other.queue_delete(queue)
        await channel.ack(first.tag)
        await channel.nack(second.tag)
        await channel.reject(third.tag, requeue=False)
        await channel.round_trip()


@case("settling")
async def dropped_without_requeue(env: Env) -> None:
    """Nacked or rejected without requeue, a message is gone where the queue has no DLX."""
    for type_ in QUEUE_TYPES:
        channel = await env.channel()
        queue = await env.queue(channel, x_queue_type=type_)
        first, second = await got(channel, queue, 2)
        await channel.nack(first.tag, requeue=False)
        await channel.reject(second.tag, requeue=False)
        await channel.close()
        other = await env.channel()
        await other.publish_confirmed("", queue, b"last")
        assert await other.bodies(queue) == [b"last"]


@case("settling")
async def nack_multiple_drops(env: Env) -> None:
    """A nack with `multiple` and without requeue drops all unacked up to its tag."""
    for type_ in QUEUE_TYPES:
        channel, other = await env.channel(), await env.channel()
        queue = await env.queue(channel, x_queue_type=type_)
        deliveries = await got(channel, queue, 3)
        await channel.nack(deliveries[1].tag, multiple=True, requeue=False)
        await channel.close()
        assert (await env.arrives(other, queue)).body == b"3"
        assert await other.get(queue) is None


@case("settling")
async def requeued_is_redelivered(env: Env) -> None:
    """Nacked or rejected with requeue, a message comes again, with `redelivered` set then."""
    for type_ in QUEUE_TYPES:
        channel = await env.channel()
        queue = await env.queue(channel, x_queue_type=type_)
        consumer = await channel.consume(queue)
        await channel.publish("", queue, b"m")
        flags = []
        for settle in (channel.nack, channel.reject, channel.ack):
            delivery = await consumer.next()
            flags.append(delivery.redelivered)
            await settle(delivery.tag)
        assert flags == [False, True, True]


@case("settling")
async def requeued_goes_to_anyone(env: Env) -> None:
    """What one consumer gives back goes to another one that waits."""
    for type_ in QUEUE_TYPES:
        channel, other = await env.channel(), await env.channel()
        queue = await env.queue(channel, x_queue_type=type_)
        await channel.qos(1)
        consumer = await channel.consume(queue)
        await channel.publish("", queue, b"m")
        delivery = await consumer.next()
        waiting = await other.consume(queue)
        await consumer.cancel()
        await channel.nack(delivery.tag)
        again = await waiting.next()
        assert (again.body, again.redelivered) == (b"m", True)


@case("settling")
async def closing_requeues(env: Env) -> None:
    """What a channel has unacked when it is closed comes again, in order, as redelivered."""
    for type_ in QUEUE_TYPES:
        channel, other = await env.channel(), await env.channel()
        queue = await env.queue(channel, x_queue_type=type_)
        consumer = await channel.consume(queue)
        await channel.publish_all("", queue, [b"1", b"2", b"3"])
        await consumer.take(3)
        await channel.close()
        again = await (await other.consume(queue)).take(3)
        assert [(d.body, d.redelivered) for d in again] == [
            (b"1", True),
            (b"2", True),
            (b"3", True),
        ]


@case("settling", about="bytes")
async def dropped_connection_requeues(env: BytesEnv) -> None:
    """What a client has unacked when its socket is gone comes again, as redelivered."""
    for type_ in QUEUE_TYPES:
        channel = await env.channel()
        queue = await env.queue(channel, x_queue_type=type_)
        peer = await env.peer()
        await peer.open()
        await peer.open_channel()
        await peer.send(commands.Basic.Consume(queue=queue), 1)
        await peer.expect(commands.Basic.ConsumeOk)
        await channel.publish("", queue, b"m")
        await peer.expect(commands.Basic.Deliver)
        await peer.close()
        again = await env.arrives(channel, queue)
        assert (again.body, again.redelivered) == (b"m", True)


@case("settling")
async def closing_the_connection_requeues(env: Env) -> None:
    """What a connection has unacked when it is closed comes again, as redelivered."""
    for type_ in QUEUE_TYPES:
        channel = await env.channel()
        queue = await env.queue(channel, x_queue_type=type_)
        connection = await env.connection()
        await got(await connection.channel(), queue, 1)
        await connection.close()
        again = await env.arrives(channel, queue)
        assert (again.body, again.redelivered) == (b"1", True)


@case("settling")
async def closing_by_error_requeues(env: Env) -> None:
    """What a channel has unacked when the broker closes it comes again, as redelivered."""
    for type_ in QUEUE_TYPES:
        channel, other = await env.channel(), await env.channel()
        queue = await env.queue(channel, x_queue_type=type_)
        await got(channel, queue, 1)
        async with expect_closed(channel, 404):
            await channel.queue_declare(env.name, passive=True)
        again = await env.arrives(other, queue)
        assert (again.body, again.redelivered) == (b"1", True)


@case("settling")
async def recover_requeues(env: Env) -> None:
    """basic.recover brings back all that the channel has unacked, in order, as redelivered."""
    for type_ in QUEUE_TYPES:
        channel = await env.channel()
        queue = await env.queue(channel, x_queue_type=type_)
        await got(channel, queue, 2)
        await channel.recover()
        again = [await env.arrives(channel, queue) for _ in range(2)]
        assert [(d.body, d.redelivered) for d in again] == [(b"1", True), (b"2", True)]


@case("settling")
async def recover_without_requeue(env: Env) -> None:
    """basic.recover without requeue closes the connection with 540 NOT_IMPLEMENTED."""
    channel = await (await env.connection()).channel()
    async with expect_connection_closed(channel, 540, "NOT_IMPLEMENTED"):
        await channel.recover(requeue=False)


@case("settling")
async def purge_leaves_unacked(env: Env) -> None:
    """Purging a queue leaves alone what is unacked: it may come back."""
    for type_ in QUEUE_TYPES:
        channel, other = await env.channel(), await env.channel()
        queue = await env.queue(channel, x_queue_type=type_)
        (delivery,) = await got(channel, queue, 1)
        await channel.publish_confirmed("", queue, b"ready")
        assert await other.queue_purge(queue) == 1
        await channel.nack(delivery.tag)
        assert (await env.arrives(other, queue)).body == b"1"


@case("settling", about="bytes")
async def recover_is_answered_first(env: BytesEnv) -> None:
    """basic.recover is answered before what it gives back is delivered again."""
    peer = await env.opened()
    await peer.send(commands.Queue.Declare(queue=env.name, exclusive=True), 1)
    await peer.expect(commands.Queue.DeclareOk, 1)
    await peer.send(commands.Basic.Consume(queue=env.name), 1)
    await peer.expect(commands.Basic.ConsumeOk, 1)
    await peer.send_bytes(message_bytes(1, env.name, b""))
    await peer.expect(commands.Basic.Deliver, 1)
    await peer.receive()
    await peer.send(commands.Basic.Recover(requeue=True), 1)
    await peer.expect(commands.Basic.RecoverOk, 1)
    assert (await peer.expect(commands.Basic.Deliver, 1)).redelivered
