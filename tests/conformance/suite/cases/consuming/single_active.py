"""Queues with one active consumer (RabbitMQ guide "Consumers", Single Active Consumer)."""

from __future__ import annotations

from tests.conformance.suite.consumer import Consumer
from tests.conformance.suite.env import QUEUE_TYPES, Env, expect_closed
from tests.conformance.suite.features import Feature
from tests.conformance.suite.suite import case


async def two(env: Env, type_: str, prefetch: int = 0) -> tuple[str, Consumer, Consumer]:
    """Declare a queue with a single active consumer; the first one of two is that."""
    channel, other = await env.channel(), await (await env.connection()).channel()
    queue = await env.queue(channel, x_queue_type=type_, x_single_active_consumer=True)
    for each in (channel, other):
        await each.qos(prefetch)
    # The second one is on a connection of its own: it is the one that may break.
    return queue, await other.consume(queue), await channel.consume(queue)


@case("single active consumer")
async def first_is_active(env: Env) -> None:
    """The consumer that came first gets all messages; the other one waits."""
    for type_ in QUEUE_TYPES:
        queue, active, waiting = await two(env, type_)
        await waiting.channel.publish_all("", queue, [b"1", b"2", b"3"])
        assert [delivery.body for delivery in await active.take(3)] == [b"1", b"2", b"3"]
        await env.nothing_more(waiting)


@case("single active consumer")
async def waits_though_active_is_full(env: Env) -> None:
    """The other consumer gets nothing though the active one has used up its prefetch."""
    for type_ in QUEUE_TYPES:
        queue, active, waiting = await two(env, type_, prefetch=1)
        await waiting.channel.publish_all("", queue, [b"1", b"2"])
        first = await active.next()
        await env.ready(waiting.channel, queue, 1)
        await active.channel.ack(first.tag)
        assert (await active.next()).body == b"2"
        await env.nothing_more(waiting)


@case("single active consumer")
async def takes_over_at_cancel(env: Env) -> None:
    """When the active consumer is cancelled the next one gets what comes."""
    for type_ in QUEUE_TYPES:
        queue, active, waiting = await two(env, type_)
        await active.cancel()
        await waiting.channel.publish("", queue, b"m")
        assert (await waiting.next()).body == b"m"


@case("single active consumer")
async def cancelled_keeps_its_unacked(env: Env) -> None:
    """What the active consumer has unacked when it is cancelled stays its channel's."""
    for type_ in QUEUE_TYPES:
        queue, active, waiting = await two(env, type_)
        await waiting.channel.publish_all("", queue, [b"1", b"2"])
        first, second = await active.take(2)
        await active.cancel()
        await active.channel.ack(first.tag)
        await active.channel.nack(second.tag)
        again = await waiting.next()
        assert (again.body, again.redelivered) == (b"2", True)


@case("single active consumer")
async def takes_over_at_close(env: Env) -> None:
    """When the active consumer's channel closes the next one gets what it had, then the rest."""
    for type_ in QUEUE_TYPES:
        queue, active, waiting = await two(env, type_, prefetch=2)
        await waiting.channel.publish_all("", queue, [b"1", b"2", b"3"])
        await active.take(2)
        # By an error: pika cancels its consumers before it closes a channel itself.
        async with expect_closed(active.channel, 404):
            await active.channel.queue_declare(env.name, passive=True)
        first, second = await waiting.take(2)
        assert [(d.body, d.redelivered) for d in (first, second)] == [(b"1", True), (b"2", True)]
        await waiting.channel.ack(second.tag, multiple=True)
        assert (await waiting.next()).body == b"3"


@case("single active consumer")
async def takes_over_at_connection_loss(env: Env) -> None:
    """When the active consumer's connection is gone the next one gets what it had."""
    for type_ in QUEUE_TYPES:
        channel, connection = await env.channel(), await env.connection()
        queue = await env.queue(channel, x_queue_type=type_, x_single_active_consumer=True)
        active = await (await connection.channel()).consume(queue)
        waiting = await channel.consume(queue)
        await channel.publish("", queue, b"m")
        await active.next()
        await connection.close()
        again = await waiting.next()
        assert (again.body, again.redelivered) == (b"m", True)


@case("single active consumer")
async def next_in_order_of_coming(env: Env) -> None:
    """The consumers become active in the order in which they came."""
    for type_ in QUEUE_TYPES:
        channel = await env.channel()
        queue = await env.queue(channel, x_queue_type=type_, x_single_active_consumer=True)
        consumers = [await (await env.channel()).consume(queue, no_ack=True) for _ in range(3)]
        for consumer in consumers:
            await channel.publish("", queue, b"m")
            assert (await consumer.next()).body == b"m"
            await consumer.cancel()


@case("single active consumer")
async def exclusive_is_refused(env: Env) -> None:
    """An exclusive consumer of such a classic queue is refused with 403."""
    channel = await env.channel()
    queue = await env.queue(channel, x_single_active_consumer=True)
    async with expect_closed(channel, 403, "ACCESS_REFUSED"):
        await channel.consume(queue, exclusive=True)


@case("single active consumer")
async def get_from_classic(env: Env) -> None:
    """Getting from such a classic queue is answered, whoever is active."""
    queue, active, waiting = await two(env, "classic", prefetch=1)
    await waiting.channel.publish_all("", queue, [b"1", b"2"])
    assert (await active.next()).body == b"1"
    assert (await env.arrives(waiting.channel, queue)).body == b"2"


@case("single active consumer")
async def get_from_quorum(env: Env) -> None:
    """Getting from such a quorum queue is refused with 405 RESOURCE_LOCKED."""
    channel = await env.channel()
    queue = await env.queue(channel, x_queue_type="quorum", x_single_active_consumer=True)
    async with expect_closed(channel, 405, "RESOURCE_LOCKED"):
        await channel.get(queue)


@case("single active consumer")
async def classic_ignores_later_priority(env: Env) -> None:
    """In a classic queue a later consumer with a higher `x-priority` does not become active."""
    channel, other = await env.channel(), await env.channel()
    queue = await env.queue(channel, x_single_active_consumer=True)
    active = await channel.consume(queue, no_ack=True)
    later = await other.consume(queue, arguments={"x-priority": 10})
    await channel.publish_all("", queue, [b"1", b"2"])
    assert [delivery.body for delivery in await active.take(2)] == [b"1", b"2"]
    await env.nothing_more(later)


@case("single active consumer", needs={Feature.PRIORITY_TAKEOVER})
async def quorum_higher_priority_takes_over(env: Env) -> None:
    """In a quorum queue a later consumer with a higher `x-priority` becomes the active one."""
    channel, other = await env.channel(), await env.channel()
    queue = await env.queue(channel, x_queue_type="quorum", x_single_active_consumer=True)
    active = await channel.consume(queue)
    higher = await other.consume(queue, arguments={"x-priority": 10})
    await channel.publish("", queue, b"m")
    assert (await higher.next()).body == b"m"
    await env.nothing_more(active)


@case("single active consumer", needs={Feature.PRIORITY_TAKEOVER})
async def quorum_takeover_waits(env: Env) -> None:
    """A higher priority takes over when the active consumer has settled what it has."""
    channel, other = await env.channel(), await env.channel()
    queue = await env.queue(channel, x_queue_type="quorum", x_single_active_consumer=True)
    await channel.qos(1)
    active = await channel.consume(queue)
    await channel.publish_all("", queue, [b"1", b"2"])
    first = await active.next()
    higher = await other.consume(queue, arguments={"x-priority": 10})
    await env.ready(other, queue, 1)
    await env.nothing_more(higher)
    await channel.ack(first.tag)
    assert (await higher.next()).body == b"2"
