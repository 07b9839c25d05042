"""How often a quorum queue delivers a message (RabbitMQ guide "Quorum Queues", Poison Messages)."""

from __future__ import annotations

from typing import Literal

from tests.conformance.suite.channel import WireChannel
from tests.conformance.suite.consumer import Consumer
from tests.conformance.suite.env import Env, expect_closed
from tests.conformance.suite.features import Feature
from tests.conformance.suite.suite import case
from tests.conformance.suite.values import Delivery

Act = Literal["reject", "nack"]


async def limited(env: Env, channel: WireChannel, limit: int | None) -> tuple[str, str]:
    """Declare a quorum queue with a delivery limit, and where its dead letters go."""
    exchange, dead = await env.dead_letters(channel)
    arguments = {} if limit is None else {"x_delivery_limit": limit}
    queue = await env.queue(
        channel, "", x_queue_type="quorum", x_dead_letter_exchange=exchange, **arguments
    )
    return queue, dead


async def give_back(consumer: Consumer, act: Act, times: int) -> list[Delivery]:
    """Reject or nack the next message, so many times."""
    deliveries = []
    for _ in range(times):
        deliveries.append(await consumer.next())
        await getattr(consumer.channel, act)(deliveries[-1].tag)
    return deliveries


@case("delivery limits")
async def limit_dead_letters(env: Env) -> None:
    """A message is delivered once and `x-delivery-limit` times again, then dead-lettered."""
    channel = await env.channel()
    queue, dead = await limited(env, channel, 2)
    consumer = await channel.consume(queue)
    await channel.publish("", queue, b"m")
    await give_back(consumer, "reject", 3)
    letter = await env.arrives(channel, dead)
    assert letter.headers["x-death"][0]["reason"] == "delivery_limit"
    await env.nothing_more(consumer)


@case("delivery limits")
async def limit_of_zero(env: Env) -> None:
    """With an `x-delivery-limit` of 0 the first return dead-letters."""
    channel = await env.channel()
    queue, dead = await limited(env, channel, 0)
    consumer = await channel.consume(queue)
    await channel.publish("", queue, b"m")
    await give_back(consumer, "reject", 1)
    assert (await env.arrives(channel, dead)).body == b"m"


@case("delivery limits")
async def drops_without_exchange(env: Env) -> None:
    """Over its delivery limit a message is dropped where the queue has no DLX; others go on."""
    channel = await env.channel()
    queue = await env.queue(channel, x_queue_type="quorum", x_delivery_limit=1)
    consumer = await channel.consume(queue)
    await channel.publish("", queue, b"poison")
    await give_back(consumer, "reject", 2)
    await channel.publish("", queue, b"next")
    assert (await consumer.next()).body == b"next"


@case("delivery limits", needs={Feature.DEFAULT_DELIVERY_LIMIT})
async def default_limit(env: Env) -> None:
    """A quorum queue without `x-delivery-limit` has one of 20."""
    channel = await env.channel()
    queue, dead = await limited(env, channel, None)
    consumer = await channel.consume(queue)
    await channel.publish("", queue, b"m")
    await give_back(consumer, "reject", 21)
    assert (await env.arrives(channel, dead)).headers["x-first-death-reason"] == "delivery_limit"


@case("delivery limits", needs={Feature.DEFAULT_DELIVERY_LIMIT})
async def no_limit(env: Env) -> None:
    """With an `x-delivery-limit` of -1 a message comes again without limit."""
    channel = await env.channel()
    queue, _ = await limited(env, channel, -1)
    consumer = await channel.consume(queue)
    await channel.publish("", queue, b"m")
    await give_back(consumer, "reject", 25)
    assert (await consumer.next()).body == b"m"


@case("delivery limits", needs={Feature.NACKS_DO_NOT_COUNT})
async def nack_does_not_count(env: Env) -> None:
    """Nacking with requeue does not count towards the delivery limit."""
    channel = await env.channel()
    queue, _ = await limited(env, channel, 1)
    consumer = await channel.consume(queue)
    await channel.publish("", queue, b"m")
    await give_back(consumer, "nack", 5)
    assert "x-delivery-count" not in (await consumer.next()).headers


@case("delivery limits", needs={Feature.NACKS_DO_NOT_COUNT})
async def recover_does_not_count(env: Env) -> None:
    """basic.recover does not count towards the delivery limit."""
    channel = await env.channel()
    queue, _ = await limited(env, channel, 1)
    consumer = await channel.consume(queue)
    await channel.publish("", queue, b"m")
    for _ in range(3):
        await consumer.next()
        await channel.recover()
    assert "x-delivery-count" not in (await consumer.next()).headers


@case("delivery limits")
async def closing_counts(env: Env) -> None:
    """What a channel or connection has unacked when it closes counts towards the delivery limit."""
    channel = await env.channel()
    queue, dead = await limited(env, channel, 1)
    connection = await env.connection()
    first = await connection.channel()
    await channel.publish("", queue, b"m")
    await (await first.consume(queue)).next()
    await first.close()
    second = await connection.channel()
    assert (await (await second.consume(queue)).next()).headers["x-delivery-count"] == 1
    await connection.close()
    letter = await env.arrives(channel, dead)
    assert letter.headers["x-death"][0]["reason"] == "delivery_limit"


@case("delivery limits")
async def cancelling_does_not_count(env: Env) -> None:
    """Cancelling a consumer counts nothing: what it has unacked can be acked."""
    channel = await env.channel()
    queue, dead = await limited(env, channel, 0)
    consumer = await channel.consume(queue)
    await channel.publish("", queue, b"m")
    delivery = await consumer.next()
    await consumer.cancel()
    await channel.ack(delivery.tag)
    await channel.publish_confirmed("", queue, b"next")
    assert await channel.bodies(queue) == [b"next"]
    assert await channel.get(dead) is None


@case("delivery limits")
async def delivery_count_tells(env: Env) -> None:
    """`x-delivery-count` is not there at first, then 1, 2, ... for each time that it came back."""
    channel = await env.channel()
    queue, _ = await limited(env, channel, 10)
    consumer = await channel.consume(queue)
    await channel.publish("", queue, b"m")
    deliveries = await give_back(consumer, "reject", 3)
    counts = [delivery.headers.get("x-delivery-count") for delivery in deliveries]
    assert counts == [None, 1, 2]
    assert [delivery.redelivered for delivery in deliveries] == [False, True, True]


@case("delivery limits", needs={Feature.ACQUIRED_COUNT})
async def acquired_count_tells(env: Env) -> None:
    """`x-acquired-count` counts every time that a message came back, by a nack as well."""
    channel = await env.channel()
    queue, _ = await limited(env, channel, 10)
    consumer = await channel.consume(queue)
    await channel.publish("", queue, b"m")
    deliveries = [
        *await give_back(consumer, "nack", 2),
        *await give_back(consumer, "reject", 1),
        *await give_back(consumer, "nack", 1),
    ]
    names = ("x-acquired-count", "x-delivery-count")
    counts = [tuple(delivery.headers.get(name) for name in names) for delivery in deliveries]
    assert counts == [(None, None), (1, None), (2, None), (3, 1)]


@case("delivery limits")
async def dead_letters_count_anew(env: Env) -> None:
    """A dead letter carries neither `x-delivery-count` nor `x-acquired-count`."""
    channel = await env.channel()
    queue, dead = await limited(env, channel, 1)
    consumer = await channel.consume(queue)
    await channel.publish("", queue, b"m")
    await give_back(consumer, "reject", 2)
    headers = (await env.arrives(channel, dead)).headers
    assert not {"x-delivery-count", "x-acquired-count"} & set(headers)


@case("delivery limits")
async def classic_has_none(env: Env) -> None:
    """A classic queue delivers again without limit, and counts nothing."""
    channel = await env.channel()
    queue = await env.queue(channel)
    consumer = await channel.consume(queue)
    await channel.publish("", queue, b"m")
    await give_back(consumer, "reject", 30)
    assert "x-delivery-count" not in (await consumer.next()).headers


@case("delivery limits")
async def classic_takes_no_limit(env: Env) -> None:
    """A classic queue with `x-delivery-limit` is refused with 406."""
    channel = await env.channel()
    async with expect_closed(channel, 406, "PRECONDITION_FAILED"):
        await env.queue(channel, x_delivery_limit=3)


@case("delivery limits")
async def quorum_must_be_durable(env: Env) -> None:
    """A quorum queue that is not durable, or is exclusive or auto-delete, is refused with 406."""
    for properties in ({"durable": False}, {"exclusive": True}, {"auto_delete": True}):
        channel = await env.channel()
        async with expect_closed(channel, 406, "PRECONDITION_FAILED - invalid property"):
            await channel.queue_declare(
                env.name, arguments={"x-queue-type": "quorum"}, **properties
            )


@case("delivery limits")
async def quorum_takes_no_max_priority(env: Env) -> None:
    """A quorum queue with `x-max-priority` is refused with 406."""
    channel = await env.channel()
    async with expect_closed(channel, 406, "PRECONDITION_FAILED - invalid arg 'x-max-priority'"):
        await env.queue(channel, x_queue_type="quorum", x_max_priority=5)


@case("delivery limits")
async def quorum_keeps_transient_messages(env: Env) -> None:
    """A quorum queue delivers a transient message as such, whatever it does to keep it."""
    channel = await env.channel()
    queue = await env.queue(channel, x_queue_type="quorum")
    await channel.publish_confirmed("", queue, delivery_mode=1)
    (delivery,) = await channel.drain(queue)
    assert delivery.properties.delivery_mode == 1
