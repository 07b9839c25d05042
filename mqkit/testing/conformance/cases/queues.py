"""Queues: declaring, deleting, looking into them (AMQP 0-9-1, section 1.7 "Queue")."""

from __future__ import annotations

from mqkit.testing.conformance.env import Env, expect_closed
from mqkit.testing.conformance.suite import case


@case("queues")
async def get_from_an_empty_queue(env: Env) -> None:
    """Getting from an empty queue is answered with get-empty."""
    channel = await env.channel()
    assert await channel.get(await env.queue(channel)) is None


@case("queues")
async def get_tells_what_is_left(env: Env) -> None:
    """Getting a message tells how many more are ready behind it."""
    channel = await env.channel()
    queue = await env.queue(channel)
    await channel.publish_all("", queue, [b"1", b"2", b"3"])
    assert [d.message_count for d in await channel.drain(queue)] == [2, 1, 0]


@case("queues")
async def redeclare_equally(env: Env) -> None:
    """Declaring a queue again with equal arguments tells its messages and consumers."""
    channel = await env.channel()
    queue = await env.queue(channel, x_max_length=5)
    await channel.publish_all("", queue, [b"1", b"2"])
    await channel.consume(await env.queue(channel))
    ok = await channel.queue_declare(queue, arguments={"x-max-length": 5})
    assert (ok.name, ok.messages, ok.consumers) == (queue, 2, 0)


@case("queues")
async def redeclare_otherwise(env: Env) -> None:
    """Declaring a queue again with other arguments closes the channel with 406."""
    queue = await env.queue(await env.channel(), x_max_length=5)
    for arguments in ({"x-max-length": 6}, {}, {"x-max-length": 5, "x-expires": 60_000}):
        channel = await env.channel()
        async with expect_closed(channel, 406, "PRECONDITION_FAILED - inequivalent arg"):
            await channel.queue_declare(queue, arguments=arguments)


@case("queues")
async def passive_declare_of_no_queue(env: Env) -> None:
    """Declaring passively a queue that does not exist closes the channel with 404."""
    channel = await env.channel()
    async with expect_closed(channel, 404, "NOT_FOUND - no queue"):
        await channel.queue_declare(env.name, passive=True)


@case("queues")
async def amq_names_are_reserved(env: Env) -> None:
    """Declaring a queue under a new name that begins with `amq.` is refused with 403."""
    channel = await env.channel()
    async with expect_closed(channel, 403, "ACCESS_REFUSED"):
        await channel.queue_declare(f"amq.{env.name}")


@case("queues")
async def exclusive_is_locked(env: Env) -> None:
    """A queue that another connection declared exclusive is locked: 405 for whatever is done."""
    owner = await env.channel()
    queue = env.new_name()
    await owner.queue_declare(queue, durable=False, exclusive=True)
    stranger = await env.connection()
    for act in ("queue_declare", "consume", "get", "queue_purge", "queue_delete"):
        channel = await stranger.channel()
        async with expect_closed(channel, 405, "RESOURCE_LOCKED"):
            await getattr(channel, act)(queue)


@case("queues")
async def delete_if_unused(env: Env) -> None:
    """Deleting a queue that has a consumer, if unused, closes the channel with 406."""
    consuming, channel = await env.channel(), await env.channel()
    queue = await env.queue(channel)
    await consuming.consume(queue)
    async with expect_closed(channel, 406, "PRECONDITION_FAILED"):
        await channel.queue_delete(queue, if_unused=True)
    assert (await consuming.queue_declare(queue, passive=True)).consumers == 1


@case("queues")
async def delete_if_empty(env: Env) -> None:
    """Deleting a queue that has messages, if empty, closes the channel with 406."""
    channel = await env.channel()
    queue = await env.queue(channel)
    await channel.publish_confirmed("", queue, b"m")
    async with expect_closed(channel, 406, "PRECONDITION_FAILED"):
        await channel.queue_delete(queue, if_empty=True)
    assert await (await env.channel()).bodies(queue) == [b"m"]


@case("queues")
async def delete_tells_its_messages(env: Env) -> None:
    """Deleting a queue tells how many messages went with it; of no queue, 0."""
    channel = await env.channel()
    queue = await env.queue(channel)
    bodies = [b"1", b"2"]
    await channel.publish_all("", queue, bodies)
    assert await channel.queue_delete(queue) == len(bodies)
    assert await channel.queue_delete(queue) == 0
