"""In which order messages come (AMQP 0-9-1, section 4.7; RabbitMQ guide "Queues", Ordering)."""

from __future__ import annotations

from tests.conformance.suite.env import QUEUE_TYPES, Env
from tests.conformance.suite.features import Feature
from tests.conformance.suite.suite import case

BODIES = [b"1", b"2", b"3", b"4"]


@case("ordering")
async def publish_order_is_kept(env: Env) -> None:
    """What one channel publishes comes in that order, however much it is."""
    for type_ in QUEUE_TYPES:
        channel = await env.channel()
        queue = await env.queue(channel, x_queue_type=type_)
        bodies = [b"%d" % number for number in range(300)]
        await channel.publish_all("", queue, bodies[:150])
        consumer = await channel.consume(queue, no_ack=True)
        await channel.publish_all("", queue, bodies[150:])
        assert [delivery.body for delivery in await consumer.take(300)] == bodies


@case("ordering")
async def over_exchanges(env: Env) -> None:
    """What one channel publishes to different exchanges comes to one queue in that order."""
    channel = await env.channel()
    one, other = await env.exchange(channel, "fanout"), await env.exchange(channel, "topic")
    queue = await env.queue(channel, one)
    await channel.queue_bind(queue, other, "#")
    for number, exchange in enumerate((one, other, "", one, "", other)):
        await channel.publish_confirmed(exchange, queue, b"%d" % number)
    assert [int(body) for body in await channel.bodies(queue)] == list(range(6))


@case("ordering")
async def each_queue_has_the_order(env: Env) -> None:
    """Every queue that one exchange routes to has the messages in the order of publishing."""
    channel = await env.channel()
    exchange = await env.exchange(channel, "fanout")
    queues = [await env.queue(channel, exchange, x_queue_type=type_) for type_ in QUEUE_TYPES]
    await channel.publish_all(exchange, "", BODIES)
    assert [await channel.bodies(queue) for queue in queues] == [BODIES, BODIES]


@case("ordering")
async def classic_takes_back_to_the_place(env: Env) -> None:
    """In a classic queue what comes back takes its old place, whatever came back before it."""
    channel = await env.channel()
    queue = await env.queue(channel)
    await channel.publish_all("", queue, BODIES)
    deliveries = [delivery for _ in range(3) if (delivery := await channel.get(queue))]
    for index in (2, 0, 1):
        await channel.nack(deliveries[index].tag)
    assert await channel.bodies(queue) == BODIES


@case("ordering", needs={Feature.RETURNS_FIRST})
async def quorum_takes_back_to_the_front(env: Env) -> None:
    """In a quorum queue what comes back goes before the rest, in the order of coming back."""
    channel = await env.channel()
    queue = await env.queue(channel, x_queue_type="quorum")
    await channel.publish_all("", queue, BODIES)
    deliveries = [delivery for _ in range(3) if (delivery := await channel.get(queue))]
    for index in (2, 0, 1):
        await channel.nack(deliveries[index].tag)
    await env.ready(channel, queue, 4)
    assert await channel.bodies(queue) == [b"3", b"1", b"2", b"4"]


@case("ordering", needs={Feature.RETURNS_FIRST})
async def nack_multiple_keeps_the_order(env: Env) -> None:
    """What one nack with `multiple` gives back comes again in the old order, before the rest."""
    for type_ in QUEUE_TYPES:
        channel = await env.channel()
        queue = await env.queue(channel, x_queue_type=type_)
        await channel.publish_all("", queue, BODIES)
        deliveries = [delivery for _ in range(3) if (delivery := await channel.get(queue))]
        await channel.nack(deliveries[-1].tag, multiple=True)
        await env.ready(channel, queue, 4)
        assert await channel.bodies(queue) == BODIES


@case("ordering")
async def closing_keeps_the_order(env: Env) -> None:
    """What a channel has unacked when it closes comes again in the old order, before the rest."""
    for type_ in QUEUE_TYPES:
        channel, other = await env.channel(), await env.channel()
        queue = await env.queue(channel, x_queue_type=type_)
        await channel.publish_all("", queue, BODIES)
        await channel.qos(3)
        await (await channel.consume(queue)).take(3)
        await channel.close()
        await env.ready(other, queue, 4)
        assert await other.bodies(queue) == BODIES


@case("ordering")
async def transient_among_persistent(env: Env) -> None:
    """Transient and persistent messages come in the order of publishing, with their mode."""
    for type_ in QUEUE_TYPES:
        channel = await env.channel()
        queue = await env.queue(channel, x_queue_type=type_)
        modes = [1, 2, 2, 1]
        for mode in modes:
            await channel.publish_confirmed("", queue, delivery_mode=mode)
        found = [delivery.properties.delivery_mode for delivery in await channel.drain(queue)]
        assert found == modes
