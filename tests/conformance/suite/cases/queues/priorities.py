"""Messages that go before others (RabbitMQ guides "Priority Queues" and "Quorum Queues")."""

from __future__ import annotations

from tests.conformance.suite.channel import WireChannel
from tests.conformance.suite.env import Env, expect_closed
from tests.conformance.suite.features import Feature
from tests.conformance.suite.suite import case


async def in_order(channel: WireChannel, queue: str, *priorities: int | None) -> list[int | None]:
    """Publish a message with each of these priorities; returns them in the order of coming."""
    for priority in priorities:
        if priority is None:
            await channel.publish_confirmed("", queue)
        else:
            await channel.publish_confirmed("", queue, priority=priority)
    return [delivery.properties.priority for delivery in await channel.drain(queue)]


@case("priorities")
async def higher_goes_first(env: Env) -> None:
    """In a queue with `x-max-priority` messages of a higher priority come first."""
    channel = await env.channel()
    queue = await env.queue(channel, x_max_priority=5)
    assert await in_order(channel, queue, 1, 5, 3, 2, 4) == [5, 4, 3, 2, 1]


@case("priorities")
async def none_is_lowest(env: Env) -> None:
    """In a classic queue a message without a priority has priority 0."""
    channel = await env.channel()
    queue = await env.queue(channel, x_max_priority=5)
    assert await in_order(channel, queue, None, 0, None, 1) == [1, None, 0, None]


@case("priorities")
async def above_the_maximum(env: Env) -> None:
    """A priority above the queue's `x-max-priority` counts as that, and is delivered as it was."""
    channel = await env.channel()
    queue = await env.queue(channel, x_max_priority=3)
    assert await in_order(channel, queue, 2, 3, 200, 3) == [3, 200, 3, 2]


@case("priorities")
async def not_without_a_maximum(env: Env) -> None:
    """In a classic queue without `x-max-priority`, priorities are delivered, and change nothing."""
    channel = await env.channel()
    assert await in_order(channel, await env.queue(channel), 1, 9, 5) == [1, 9, 5]


@case("priorities")
async def order_within_a_priority(env: Env) -> None:
    """Messages of one priority come in the order of publishing."""
    channel = await env.channel()
    queue = await env.queue(channel, x_max_priority=2)
    for body, priority in ((b"a", 1), (b"b", 2), (b"c", 1), (b"d", 2)):
        await channel.publish_confirmed("", queue, body, priority=priority)
    assert await channel.bodies(queue) == [b"b", b"d", b"a", b"c"]


@case("priorities")
async def requeued_keeps_its_priority(env: Env) -> None:
    """A message that comes back goes before those of lower priority, and behind higher ones."""
    channel = await env.channel()
    queue = await env.queue(channel, x_max_priority=3)
    await channel.publish_confirmed("", queue, b"2", priority=2)
    delivery = await channel.get(queue)
    assert delivery is not None
    for priority in (1, 2, 3):
        await channel.publish_confirmed("", queue, b"new %d" % priority, priority=priority)
    await channel.nack(delivery.tag)
    assert await channel.bodies(queue) == [b"new 3", b"2", b"new 2", b"new 1"]


@case("priorities")
async def expires_in_its_turn(env: Env) -> None:
    """In a classic queue, one that has expired stays and counts behind one of higher priority."""
    channel = await env.channel()
    queue = await env.queue(channel, x_max_priority=9)
    await channel.publish_confirmed("", queue, b"high", priority=9)
    await channel.publish_confirmed("", queue, b"low", priority=1, expiration="100")
    await env.pass_time(0.3)
    await env.ready(channel, queue, 2)
    assert await channel.bodies(queue) == [b"high"]


@case("priorities", needs={Feature.STRICT_QUORUM_PRIORITIES})
async def quorum_expires_in_each(env: Env) -> None:
    """In a quorum queue, one that is first of its priority expires behind those of higher ones."""
    channel = await env.channel()
    queue = await env.queue(channel, x_queue_type="quorum")
    await channel.publish_confirmed("", queue, b"high", priority=9)
    await channel.publish_confirmed("", queue, b"low", priority=1, expiration="100")
    await env.pass_time(0.3)
    await env.ready(channel, queue, 1)
    assert await channel.bodies(queue) == [b"high"]


@case("priorities")
async def maximum_is_limited(env: Env) -> None:
    """An `x-max-priority` above 255 or below 0 closes the channel with 406."""
    for maximum in (256, -1):
        channel = await env.channel()
        async with expect_closed(channel, 406, "PRECONDITION_FAILED"):
            await env.queue(channel, x_max_priority=maximum)


@case("priorities", needs={Feature.STRICT_QUORUM_PRIORITIES})
async def quorum_is_strict(env: Env) -> None:
    """In a quorum queue messages of a higher priority come first, for priorities 0 to 31."""
    channel = await env.channel()
    queue = await env.queue(channel, x_queue_type="quorum")
    assert await in_order(channel, queue, 1, 31, 5, 4, 0) == [31, 5, 4, 1, 0]


@case("priorities", needs={Feature.STRICT_QUORUM_PRIORITIES})
async def quorum_default(env: Env) -> None:
    """In a quorum queue a message without a priority has priority 4."""
    channel = await env.channel()
    queue = await env.queue(channel, x_queue_type="quorum")
    assert await in_order(channel, queue, 3, None, 4, None, 5) == [5, None, 4, None, 3]


@case("priorities", needs={Feature.STRICT_QUORUM_PRIORITIES})
async def quorum_above_the_maximum(env: Env) -> None:
    """In a quorum queue a priority above 31 counts as 31, and is delivered as it was."""
    channel = await env.channel()
    queue = await env.queue(channel, x_queue_type="quorum")
    assert await in_order(channel, queue, 30, 31, 200, 31) == [31, 200, 31, 30]
