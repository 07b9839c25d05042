"""Consumers, and what they are told (AMQP 0-9-1, section 1.8 "Basic")."""

from __future__ import annotations

from mqkit.testing.conformance.env import Env, expect_closed
from mqkit.testing.conformance.features import Feature
from mqkit.testing.conformance.suite import case


@case("consuming")
async def prefetch_holds_back(env: Env) -> None:
    """A consumer with a prefetch of 2 gets a third message only after it has acked one."""
    channel = await env.channel()
    queue = await env.queue(channel)
    await channel.publish_all("", queue, [b"1", b"2", b"3"])
    await channel.qos(2)
    consumer = await channel.consume(queue)
    first, second = await consumer.take(2)
    assert [first.body, second.body] == [b"1", b"2"]
    await env.nothing_more(consumer)
    await channel.ack(first.tag)
    assert (await consumer.next()).body == b"3"


@case("consuming", needs={Feature.PREFETCH_PER_CONSUMER_ONLY})
async def global_prefetch_is_per_consumer(env: Env) -> None:
    """A prefetch with `global` set holds for each consumer, not for the channel."""
    channel = await env.channel()
    queue = await env.queue(channel)
    await channel.publish_all("", queue, [b"1", b"2", b"3"])
    await channel.qos(1, global_=True)
    consumers = [await channel.consume(queue) for _ in range(2)]
    assert sorted([(await consumer.next()).body for consumer in consumers]) == [b"1", b"2"]


@case("consuming")
async def deleted_queue_cancels(env: Env) -> None:
    """The broker cancels a consumer whose queue is deleted."""
    channel, other = await env.channel(), await env.channel()
    consumer = await channel.consume(await env.queue(channel))
    await other.queue_delete(consumer.queue)
    await consumer.cancelled


@case("consuming")
async def unknown_tag(env: Env) -> None:
    """Acking a delivery tag that was never delivered closes the channel with 406."""
    channel = await env.channel()
    async with expect_closed(channel, 406, "PRECONDITION_FAILED - unknown delivery tag 9"):
        await channel.ack(9)
