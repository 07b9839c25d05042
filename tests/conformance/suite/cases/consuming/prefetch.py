"""Prefetch: how much a consumer may have unacknowledged (RabbitMQ guide "Consumer Prefetch")."""

from __future__ import annotations

from pamqp import commands

from tests.conformance.suite.env import QUEUE_TYPES, BytesEnv, Env
from tests.conformance.suite.features import Feature
from tests.conformance.suite.suite import case


@case("prefetch")
async def holds_back(env: Env) -> None:
    """A consumer with a prefetch of 2 leaves the third message to others until it has acked."""
    for type_ in QUEUE_TYPES:
        channel = await env.channel()
        queue = await env.queue(channel, x_queue_type=type_)
        await channel.publish_all("", queue, [b"1", b"2", b"3", b"4"])
        await channel.qos(2)
        consumer = await channel.consume(queue)
        first, second = await consumer.take(2)
        assert [first.body, second.body] == [b"1", b"2"]
        assert (await env.arrives(await env.channel(), queue)).body == b"3"
        await channel.ack(first.tag)
        assert (await consumer.next()).body == b"4"


@case("prefetch")
async def every_settling_frees(env: Env) -> None:
    """A consumer gets its next message when it acks, nacks or rejects one, or several at once."""
    for type_ in QUEUE_TYPES:
        channel = await env.channel()
        queue = await env.queue(channel, x_queue_type=type_)
        await channel.publish_all("", queue, [b"%d" % number for number in range(1, 7)])
        await channel.qos(1)
        consumer = await channel.consume(queue)
        await channel.ack((await consumer.next()).tag)
        await channel.nack((await consumer.next()).tag, requeue=False)
        await channel.reject((await consumer.next()).tag, requeue=False)
        await channel.ack((await consumer.next()).tag, multiple=True)
        await channel.nack((await consumer.next()).tag, multiple=True, requeue=False)
        assert (await consumer.next()).body == b"6"


@case("prefetch")
async def many_free_many(env: Env) -> None:
    """An ack of several messages lets as many more come."""
    for type_ in QUEUE_TYPES:
        channel = await env.channel()
        queue = await env.queue(channel, x_queue_type=type_)
        await channel.publish_all("", queue, [b"%d" % number for number in range(6)])
        await channel.qos(3)
        consumer = await channel.consume(queue)
        await channel.ack((await consumer.take(3))[-1].tag, multiple=True)
        assert [delivery.body for delivery in await consumer.take(3)] == [b"3", b"4", b"5"]


@case("prefetch")
async def is_per_consumer(env: Env) -> None:
    """A prefetch holds for each consumer of a channel, not for all of them together."""
    for type_ in QUEUE_TYPES:
        channel = await env.channel()
        queue = await env.queue(channel, x_queue_type=type_)
        await channel.publish_all("", queue, [b"1", b"2", b"3"])
        await channel.qos(1)
        consumers = [await channel.consume(queue) for _ in range(2)]
        assert [(await consumer.next()).body for consumer in consumers] == [b"1", b"2"]
        assert (await env.arrives(await env.channel(), queue)).body == b"3"


@case("prefetch")
async def is_for_later_consumers(env: Env) -> None:
    """A prefetch is that of the consumers that start after it; those before keep theirs."""
    for type_ in QUEUE_TYPES:
        channel = await env.channel()
        one, other = [await env.queue(channel, x_queue_type=type_) for _ in range(2)]
        await channel.qos(1)
        before = await channel.consume(one)
        await channel.qos(2)
        after = await channel.consume(other)
        for queue in (one, other):
            await channel.publish_all("", queue, [b"1", b"2", b"3"])
        assert (await before.next()).body == b"1"
        assert [delivery.body for delivery in await after.take(2)] == [b"1", b"2"]
        beside = await env.channel()
        assert await beside.bodies(one) == [b"2", b"3"]
        assert await beside.bodies(other) == [b"3"]


@case("prefetch")
async def zero_is_no_limit(env: Env) -> None:
    """A prefetch of 0 lets all messages come."""
    for type_ in QUEUE_TYPES:
        channel = await env.channel()
        queue = await env.queue(channel, x_queue_type=type_)
        await channel.publish_all("", queue, [b"m"] * 50)
        await channel.qos(1)
        await channel.qos(0)
        await (await channel.consume(queue)).take(50)


@case("prefetch")
async def not_of_no_ack(env: Env) -> None:
    """A consumer with no_ack gets all messages, whatever the prefetch."""
    for type_ in QUEUE_TYPES:
        channel = await env.channel()
        queue = await env.queue(channel, x_queue_type=type_)
        await channel.publish_all("", queue, [b"m"] * 5)
        await channel.qos(1)
        await (await channel.consume(queue, no_ack=True)).take(5)


@case("prefetch")
async def not_of_get(env: Env) -> None:
    """Getting takes messages whatever the prefetch, and takes nothing of a consumer's."""
    for type_ in QUEUE_TYPES:
        channel = await env.channel()
        queue = await env.queue(channel, x_queue_type=type_)
        await channel.publish_all("", queue, [b"1", b"2", b"3"])
        await channel.qos(1)
        got = [await channel.get(queue), await channel.get(queue)]
        assert [delivery.body for delivery in got if delivery] == [b"1", b"2"]
        assert (await (await channel.consume(queue)).next()).body == b"3"


@case("prefetch")
async def outlives_a_cancel(env: Env) -> None:
    """What a cancelled consumer has not acked takes nothing of the next consumer's prefetch."""
    for type_ in QUEUE_TYPES:
        channel = await env.channel()
        queue = await env.queue(channel, x_queue_type=type_)
        await channel.publish_all("", queue, [b"1", b"2"])
        await channel.qos(1)
        first = await channel.consume(queue)
        assert (await first.next()).body == b"1"
        await first.cancel()
        assert (await (await channel.consume(queue)).next()).body == b"2"


@case("prefetch", about="bytes")
async def size_is_not_implemented(env: BytesEnv) -> None:
    """A prefetch in bytes closes the connection with 540 NOT_IMPLEMENTED."""
    peer = await env.peer()
    await peer.open()
    await peer.open_channel()
    await peer.send(commands.Basic.Qos(prefetch_size=1000), 1)
    await peer.expect_close(540, "NOT_IMPLEMENTED - prefetch_size!=0 (1000)")


@case("prefetch", needs={Feature.PREFETCH_PER_CONSUMER_ONLY})
async def global_is_per_consumer(env: Env) -> None:
    """A prefetch with `global` set holds for each consumer, not for the channel."""
    for type_ in QUEUE_TYPES:
        channel = await (await env.connection()).channel()
        queue = await env.queue(channel, x_queue_type=type_)
        await channel.publish_all("", queue, [b"1", b"2", b"3"])
        await channel.qos(1, global_=True)
        consumers = [await channel.consume(queue) for _ in range(2)]
        assert sorted([(await consumer.next()).body for consumer in consumers]) == [b"1", b"2"]
        assert await (await env.channel()).bodies(queue) == [b"3"]
