"""Queues: declaring, deleting, looking into them (AMQP 0-9-1, section 1.7 "Queue")."""

from __future__ import annotations

from tests.conformance.suite.env import Env, expect_closed, expect_connection_closed
from tests.conformance.suite.suite import case
from tests.conformance.suite.values import ChannelClosedError

NOT_FOUND = 404


async def gone(env: Env, queue: str) -> None:
    """Claim that there soon is no such queue."""

    async def is_gone() -> bool:
        channel = await env.channel()
        try:
            await channel.queue_declare(queue, passive=True)
        except ChannelClosedError as error:
            return error.code == NOT_FOUND
        # Asking is a use, from which a queue's expiry is counted anew.
        await env.pass_time(0.5)
        return False

    await env.eventually(is_gone, f"{queue} is gone")


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
async def exclusive_is_not_unbound(env: Env) -> None:
    """Unbinding another connection's exclusive queue is a 405; of what is not bound, nothing."""
    owner = await env.channel()
    queue = env.new_name()
    await owner.queue_declare(queue, durable=False, exclusive=True)
    await owner.queue_bind(queue, "amq.direct", queue)
    channel = await (await env.connection()).channel()
    await channel.queue_unbind(queue, "amq.direct", f"{queue}.other")
    async with expect_closed(channel, 405, "RESOURCE_LOCKED"):
        await channel.queue_unbind(queue, "amq.direct", queue)


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


@case("queues")
async def server_named(env: Env) -> None:
    """An empty name gets one of the broker's own, `amq.gen-` and more, another each time."""
    channel = await (await env.connection()).channel()
    names = [(await channel.queue_declare(exclusive=True)).name for _ in range(2)]
    assert all(name.startswith("amq.gen-") for name in names)
    assert names[0] != names[1]
    assert (await channel.queue_declare(names[0], passive=True)).name == names[0]


@case("queues")
async def server_named_is_not_declared_again(env: Env) -> None:
    """A queue that the broker named cannot be declared again by that name, only passively: 403."""
    channel = await (await env.connection()).channel()
    name = (await channel.queue_declare(exclusive=True)).name
    async with expect_closed(channel, 403, f"queue name '{name}' contains reserved prefix"):
        await channel.queue_declare(name, exclusive=True)


@case("queues")
async def declare_tells_messages_and_consumers(env: Env) -> None:
    """Declaring tells the ready messages, without the unacknowledged, and the consumers."""
    channel, other = await env.channel(), await env.channel()
    queue = await env.queue(channel)
    ok = await channel.queue_declare(queue)
    assert (ok.messages, ok.consumers) == (0, 0)
    await channel.publish_all("", queue, [b"1", b"2", b"3"])
    assert await channel.get(queue) is not None
    ok = await other.queue_declare(queue, passive=True)
    assert (ok.messages, ok.consumers) == (2, 0)
    consumer = await channel.consume(queue)
    await consumer.take(2)
    ok = await other.queue_declare(queue, passive=True)
    assert (ok.messages, ok.consumers) == (0, 1)


@case("queues")
async def passive_declare_compares_nothing(env: Env) -> None:
    """Declaring passively a queue that exists succeeds, whatever it is said to be like."""
    channel = await env.channel()
    queue = await env.queue(channel, x_max_length=5)
    ok = await channel.queue_declare(queue, passive=True, durable=False, auto_delete=True)
    assert ok.name == queue


@case("queues")
async def redeclare_with_other_flags(env: Env) -> None:
    """Declaring a queue again as (not) durable or auto-delete closes the channel with 406."""
    queue = await env.queue(await env.channel())
    channel = await env.channel()
    async with expect_closed(channel, 406, "inequivalent arg 'durable' for queue"):
        await channel.queue_declare(queue, durable=False)
    channel = await env.channel()
    async with expect_closed(channel, 406, "inequivalent arg 'auto_delete' for queue"):
        await channel.queue_declare(queue, auto_delete=True)


@case("queues")
async def redeclare_as_exclusive(env: Env) -> None:
    """Declaring a queue again as exclusive, or no longer as that, closes the channel with 405."""
    connection = await env.connection()
    channel = await connection.channel()
    shared, own = await env.queue(channel), env.new_name()
    await channel.queue_declare(own, exclusive=True)
    for queue, exclusive in ((shared, True), (own, False)):
        channel = await connection.channel()
        async with expect_closed(channel, 405, "RESOURCE_LOCKED - cannot obtain exclusive access"):
            await channel.queue_declare(queue, exclusive=exclusive)


@case("queues")
async def exclusive_for_all_channels(env: Env) -> None:
    """An exclusive queue may be used by all channels of its connection."""
    connection = await env.connection()
    owner, other = await connection.channel(), await connection.channel()
    queue = env.new_name()
    await owner.queue_declare(queue, exclusive=True)
    await other.publish_confirmed("", queue, b"m")
    assert await other.bodies(queue) == [b"m"]


@case("queues")
async def exclusive_takes_from_everybody(env: Env) -> None:
    """Other connections may publish to an exclusive queue."""
    owner = await (await env.connection()).channel()
    queue = env.new_name()
    await owner.queue_declare(queue, exclusive=True)
    await (await env.channel()).publish_confirmed("", queue, b"m")
    assert await owner.bodies(queue) == [b"m"]


@case("queues")
async def exclusive_goes_with_its_connection(env: Env) -> None:
    """An exclusive queue, durable or not, is deleted when its connection closes."""
    connection = await env.connection()
    owner = await connection.channel()
    queues = [env.new_name(), env.new_name()]
    for queue, durable in zip(queues, (True, False), strict=True):
        await owner.queue_declare(queue, exclusive=True, durable=durable)
    await connection.close()
    for queue in queues:
        await gone(env, queue)


@case("queues")
async def exclusive_outlives_its_channel(env: Env) -> None:
    """An exclusive queue stays when the channel closes that declared it."""
    connection = await env.connection()
    channel = await connection.channel()
    queue = env.new_name()
    await channel.queue_declare(queue, exclusive=True)
    await channel.close()
    await (await connection.channel()).queue_declare(queue, passive=True)


@case("queues")
async def auto_delete_with_its_last_consumer(env: Env) -> None:
    """An auto-delete queue goes when its last consumer is cancelled, with its messages."""
    channel = await env.channel()
    queue = env.new_name()
    await channel.queue_declare(queue, auto_delete=True)
    await channel.publish_confirmed("", queue)
    consumers = [await channel.consume(queue) for _ in range(2)]
    await consumers[0].cancel()
    await channel.queue_declare(queue, passive=True)
    await consumers[1].cancel()
    await gone(env, queue)


@case("queues")
async def auto_delete_with_a_channel(env: Env) -> None:
    """An auto-delete queue goes when the channel of its last consumer closes."""
    channel = await env.channel()
    queue = env.new_name()
    await channel.queue_declare(queue, auto_delete=True)
    await channel.consume(queue)
    await channel.close()
    await gone(env, queue)


@case("queues")
async def auto_delete_waits_for_a_consumer(env: Env) -> None:
    """An auto-delete queue that never had a consumer stays, though its connection closes."""
    connection = await env.connection()
    queue = env.new_name()
    channel = await connection.channel()
    await channel.queue_declare(queue, auto_delete=True)
    assert await channel.get(queue) is None
    await connection.close()
    await (await env.channel()).queue_declare(queue, passive=True)


@case("queues")
async def deleting_no_queue(env: Env) -> None:
    """Deleting a queue that does not exist succeeds, whatever the conditions."""
    channel = await env.channel()
    assert await channel.queue_delete(env.name) == 0
    assert await channel.queue_delete(env.name, if_unused=True, if_empty=True) == 0


@case("queues")
async def delete_unused_and_empty(env: Env) -> None:
    """Deleting a queue that has no consumer and no message, if unused and empty, deletes it."""
    channel = await env.channel()
    queue = await env.queue(channel)
    await channel.queue_delete(queue, if_unused=True, if_empty=True)
    await gone(env, queue)


@case("queues")
async def quorum_delete_takes_no_conditions(env: Env) -> None:
    """Deleting a quorum queue if unused or if empty closes the connection with 540."""
    queue = await env.queue(await env.channel(), x_queue_type="quorum")
    for condition in ("if_unused", "if_empty"):
        channel = await (await env.connection()).channel()
        flag = condition.replace("_", "-")
        async with expect_connection_closed(channel, 540, f"{flag} flag set are not supported"):
            await channel.queue_delete(queue, **{condition: True})


@case("queues")
async def purge(env: Env) -> None:
    """Purging drops what is ready and tells how much it was; what is unacknowledged stays."""
    for type_ in ("classic", "quorum"):
        channel = await env.channel()
        queue = await env.queue(channel, x_queue_type=type_)
        await channel.publish_all("", queue, [b"1", b"2", b"3"])
        held = await channel.get(queue)
        assert held is not None
        left = 2
        assert await channel.queue_purge(queue) == left
        assert await channel.queue_purge(queue) == 0
        await channel.nack(held.tag)
        assert (await env.arrives(channel, queue)).body == b"1"


@case("queues")
async def purge_of_no_queue(env: Env) -> None:
    """Purging a queue that does not exist closes the channel with 404."""
    channel = await env.channel()
    async with expect_closed(channel, 404, f"no queue '{env.name}'"):
        await channel.queue_purge(env.name)


@case("queues")
async def get_and_consume_from_no_queue(env: Env) -> None:
    """Getting or consuming from a queue that does not exist closes the channel with 404."""
    for act in ("get", "consume"):
        channel = await env.channel()
        async with expect_closed(channel, 404, f"no queue '{env.name}'"):
            await getattr(channel, act)(env.name)


@case("queues")
async def expires_unused(env: Env) -> None:
    """A queue with `x-expires` that nobody uses for so long is deleted, messages or not."""
    channel = await env.channel()
    queue = await env.queue(channel, x_expires=200)
    await channel.publish_confirmed("", queue)
    await env.pass_time(0.3)
    await gone(env, queue)


@case("queues")
async def expires_not_while_consumed(env: Env) -> None:
    """A queue with `x-expires` stays as long as it has a consumer, and goes that long after."""
    channel = await env.channel()
    consumer = await channel.consume(await env.queue(channel, x_expires=200))
    await env.pass_time(0.4)
    assert (await channel.queue_declare(consumer.queue, passive=True)).consumers == 1
    await consumer.cancel()
    await env.pass_time(0.3)
    await gone(env, consumer.queue)
