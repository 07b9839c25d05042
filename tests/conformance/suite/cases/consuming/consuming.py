"""Consumers, and what they are told (AMQP 0-9-1, section 1.8 "Basic")."""

from __future__ import annotations

from pamqp import commands

from tests.conformance.suite.env import QUEUE_TYPES, BytesEnv, Env, expect_closed
from tests.conformance.suite.features import Feature
from tests.conformance.suite.suite import case


@case("consuming")
async def deliveries_tell_their_way(env: Env) -> None:
    """A delivery tells its consumer's tag, and with which exchange and key it was published."""
    channel = await env.channel()
    exchange = await env.exchange(channel, "topic")
    consumer = await channel.consume(await env.queue(channel, exchange, "#"), tag="mine")
    await channel.publish(exchange, "a.b", b"m")
    delivery = await consumer.next()
    assert (delivery.consumer_tag, delivery.tag, delivery.redelivered) == ("mine", 1, False)
    assert (delivery.exchange, delivery.routing_key) == (exchange, "a.b")


@case("consuming")
async def tags_count_deliveries(env: Env) -> None:
    """Delivery tags count up from 1 over all that a channel is given, by get as well."""
    channel = await env.channel()
    got, consumed = await env.queue(channel), await env.queue(channel)
    await channel.publish_all("", got, [b"1", b"2"])
    tags = [delivery.tag for delivery in await channel.drain(got)]
    consumer = await channel.consume(consumed)
    await channel.publish("", consumed)
    assert [*tags, (await consumer.next()).tag] == [1, 2, 3]


@case("consuming", about="bytes")
async def generated_tags(env: BytesEnv) -> None:
    """A consumer without a tag is given one, a new one each time."""
    channel = await env.channel()
    queue = await env.queue(channel)
    peer = await env.peer()
    await peer.open()
    await peer.open_channel()
    tags = []
    for _ in range(2):
        await peer.send(commands.Basic.Consume(queue=queue), 1)
        tags.append((await peer.expect(commands.Basic.ConsumeOk)).consumer_tag)
    assert all(str(tag).startswith("amq.ctag-") for tag in tags)
    assert len(set(tags)) == len(tags)


@case("consuming", about="bytes")
async def tag_in_use(env: BytesEnv) -> None:
    """A second consumer with the tag of one on the same channel closes the connection with 530."""
    channel = await env.channel()
    queue = await env.queue(channel)
    peer = await env.peer()
    await peer.open()
    await peer.open_channel()
    await peer.send(commands.Basic.Consume(queue=queue, consumer_tag="t"), 1)
    await peer.expect(commands.Basic.ConsumeOk)
    await peer.send(commands.Basic.Consume(queue=queue, consumer_tag="t"), 1)
    await peer.expect_close(530, "NOT_ALLOWED - attempt to reuse consumer tag")


@case("consuming")
async def equal_tags_on_two_channels(env: Env) -> None:
    """Consumers on different channels may have the same tag."""
    channels = [await env.channel() for _ in range(2)]
    queue = await env.queue(channels[0])
    for channel in channels:
        await channel.consume(queue, tag="t")
    await channels[0].publish_all("", queue, [b"1", b"2"])
    bodies = [(await channel.consumers["t"].next()).body for channel in channels]
    assert sorted(bodies) == [b"1", b"2"]


@case("consuming", about="bytes")
async def cancel_of_no_consumer(env: BytesEnv) -> None:
    """Cancelling a tag that no consumer has is answered with cancel-ok."""
    peer = await env.peer()
    await peer.open()
    await peer.open_channel()
    await peer.send(commands.Basic.Cancel(consumer_tag="nobody"), 1)
    assert (await peer.expect(commands.Basic.CancelOk)).consumer_tag == "nobody"


@case("consuming")
async def consume_from_no_queue(env: Env) -> None:
    """Consuming or getting from a queue that does not exist closes the channel with 404."""
    for act in ("consume", "get"):
        channel = await env.channel()
        async with expect_closed(channel, 404, "NOT_FOUND - no queue"):
            await getattr(channel, act)(env.name)


@case("consuming")
async def empty_name_is_the_last_queue(env: Env) -> None:
    """An empty queue name means the queue that was declared last on the channel."""
    channel = await env.channel()
    await env.queue(channel)
    queue = await env.queue(channel)
    await channel.publish_all("", queue, [b"1", b"2"])
    got = await channel.get("", no_ack=True)
    assert got is not None
    assert got.body == b"1"
    assert (await (await channel.consume("")).next()).body == b"2"


@case("consuming")
async def no_ack_is_settled(env: Env) -> None:
    """What is delivered with no_ack is gone with that: the channel's end brings nothing back."""
    for type_ in QUEUE_TYPES:
        channel, consuming = await env.channel(), await env.channel()
        queue = await env.queue(channel, x_queue_type=type_)
        await channel.publish_all("", queue, [b"1", b"2"])
        consumer = await consuming.consume(queue, no_ack=True)
        assert [delivery.body for delivery in await consumer.take(2)] == [b"1", b"2"]
        await consuming.close()
        await channel.publish_confirmed("", queue, b"3")
        assert await channel.bodies(queue) == [b"3"]


@case("consuming")
async def unacked_is_not_ready(env: Env) -> None:
    """What is delivered and not acked is not ready: it is not counted, and nobody else gets it."""
    for type_ in QUEUE_TYPES:
        channel = await env.channel()
        queue = await env.queue(channel, x_queue_type=type_)
        await channel.publish_all("", queue, [b"1", b"2"])
        await channel.get(queue)
        await env.ready(channel, queue, 1)
        assert await (await env.channel()).bodies(queue) == [b"2"]


@case("consuming")
async def consumers_are_counted(env: Env) -> None:
    """Declaring a queue passively tells how many consumers it has now."""
    for type_ in QUEUE_TYPES:
        channel = await env.channel()
        queue = await env.queue(channel, x_queue_type=type_)
        counts = []
        consumers = [await channel.consume(queue) for _ in range(2)]
        counts.append((await channel.queue_declare(queue, passive=True)).consumers)
        await consumers[0].cancel()
        counts.append((await channel.queue_declare(queue, passive=True)).consumers)
        assert counts == [2, 1]


@case("consuming")
async def exclusive_consumer_is_alone(env: Env) -> None:
    """Consuming from a queue that has an exclusive consumer is refused with 403, until it goes."""
    channel, refused = await env.channel(), await env.channel()
    consumer = await channel.consume(await env.queue(channel), exclusive=True)
    async with expect_closed(refused, 403, "ACCESS_REFUSED"):
        await refused.consume(consumer.queue)
    await consumer.cancel()
    await (await env.channel()).consume(consumer.queue)


@case("consuming")
async def exclusive_consumer_comes_first(env: Env) -> None:
    """An exclusive consumer is refused with 403 where the queue has another one already."""
    channel, refused = await env.channel(), await env.channel()
    consumer = await channel.consume(await env.queue(channel))
    async with expect_closed(refused, 403, "ACCESS_REFUSED"):
        await refused.consume(consumer.queue, exclusive=True)


@case("consuming")
async def quorum_ignores_exclusive(env: Env) -> None:
    """A quorum queue takes no notice of `exclusive`: it gives other consumers their turn."""
    channel = await env.channel()
    queue = await env.queue(channel, x_queue_type="quorum")
    consumers = [await channel.consume(queue, exclusive=True) for _ in range(2)]
    await channel.publish_all("", queue, [b"1", b"2"])
    assert sorted([(await consumer.next()).body for consumer in consumers]) == [b"1", b"2"]


@case("consuming")
async def get_beside_an_exclusive_consumer(env: Env) -> None:
    """Getting from a queue that has an exclusive consumer is not refused."""
    for type_ in QUEUE_TYPES:
        channel, other = await env.channel(), await env.channel()
        queue = await env.queue(channel, x_queue_type=type_)
        await channel.qos(1)
        consumer = await channel.consume(queue, exclusive=True)
        await channel.publish_all("", queue, [b"1", b"2"])
        assert (await consumer.next()).body == b"1"
        assert await other.bodies(queue) == [b"2"]


@case("consuming")
async def cancelled_gets_no_more(env: Env) -> None:
    """A consumer gets nothing after cancel-ok; what comes later stays in the queue."""
    for type_ in QUEUE_TYPES:
        channel = await env.channel()
        consumer = await channel.consume(await env.queue(channel, x_queue_type=type_))
        await consumer.cancel()
        await channel.publish_confirmed("", consumer.queue, b"m")
        await env.nothing_more(consumer)
        assert await channel.bodies(consumer.queue) == [b"m"]


@case("consuming")
async def cancelled_keeps_its_unacked(env: Env) -> None:
    """What a consumer has not acked when it is cancelled stays its channel's, which may ack it."""
    for type_ in QUEUE_TYPES:
        channel, other = await env.channel(), await env.channel()
        queue = await env.queue(channel, x_queue_type=type_)
        await channel.publish_all("", queue, [b"1", b"2"])
        consumer = await channel.consume(queue)
        first, second = await consumer.take(2)
        await consumer.cancel()
        assert await other.get(queue) is None
        await channel.ack(first.tag)
        await channel.nack(second.tag)
        assert (await env.arrives(other, queue)).body == b"2"
        assert await other.get(queue) is None


@case("consuming")
async def deleted_queue_cancels(env: Env) -> None:
    """The broker cancels a consumer whose queue is deleted."""
    for type_ in QUEUE_TYPES:
        channel, other = await env.channel(), await env.channel()
        consumer = await channel.consume(await env.queue(channel, x_queue_type=type_))
        await other.queue_delete(consumer.queue)
        await consumer.cancelled


@case("consuming")
async def cancelled_tag_is_free(env: Env) -> None:
    """The tag of a consumer that the broker has cancelled may be used again."""
    channel, other = await env.channel(), await env.channel()
    consumer = await channel.consume(await env.queue(channel), tag="t")
    await other.queue_delete(consumer.queue)
    await consumer.cancelled
    again = await channel.consume(await env.queue(channel), tag="t")
    await channel.publish("", again.queue, b"m")
    assert (await again.next()).body == b"m"


@case("consuming")
async def consumers_take_turns(env: Env) -> None:
    """Consumers of one queue get its messages in turn."""
    for type_ in QUEUE_TYPES:
        channel = await env.channel()
        queue = await env.queue(channel, x_queue_type=type_)
        consumers = [await (await env.channel()).consume(queue) for _ in range(3)]
        await channel.publish_all("", queue, [b"%d" % number for number in range(6)])
        taken = [[int(d.body) for d in await consumer.take(2)] for consumer in consumers]
        assert sorted(taken) == [[0, 3], [1, 4], [2, 5]]


@case("consuming")
async def higher_priority_goes_first(env: Env) -> None:
    """A consumer of a higher `x-priority` gets all until its prefetch is used up, then the next."""
    for type_ in QUEUE_TYPES:
        channel = await env.channel()
        queue = await env.queue(channel, x_queue_type=type_)
        await channel.qos(2)
        lowest = await channel.consume(queue, arguments={"x-priority": -1})
        default = await channel.consume(queue)
        highest = await channel.consume(queue, arguments={"x-priority": 10})
        await channel.publish_all("", queue, [b"1", b"2", b"3", b"4", b"5"])
        taken = [[d.body for d in await each.take(2)] for each in (highest, default)]
        assert taken == [[b"1", b"2"], [b"3", b"4"]]
        assert (await lowest.next()).body == b"5"


@case("consuming")
async def priority_is_a_number(env: Env) -> None:
    """Consuming with an `x-priority` that is no number closes the channel with 406."""
    channel = await env.channel()
    queue = await env.queue(channel)
    text = f"invalid arg 'x-priority' for queue '{queue}'"
    async with expect_closed(channel, 406, text):
        await channel.consume(queue, arguments={"x-priority": "high"})


@case("consuming", needs={Feature.STREAM_ARGUMENTS})
async def arguments_of_streams(env: Env) -> None:
    """Consuming from a queue with an argument that only streams take closes the channel: 406."""
    arguments: dict[str, object] = {
        "x-stream-offset": "first",
        "x-stream-filter": "f",
        "x-stream-match-unfiltered": True,
    }
    for type_ in QUEUE_TYPES:
        for name, value in arguments.items():
            channel = await env.channel()
            queue = await env.queue(channel, x_queue_type=type_)
            async with expect_closed(channel, 406, f"invalid arg '{name}' for queue '{queue}'"):
                await channel.consume(queue, arguments={name: value})


@case("consuming")
async def other_arguments_are_taken(env: Env) -> None:
    """Arguments of a consumer that mean nothing are taken."""
    for type_ in QUEUE_TYPES:
        channel = await env.channel()
        queue = await env.queue(channel, x_queue_type=type_)
        await channel.consume(queue, arguments={"x-foo": True, "x-bar": 1})
        await channel.round_trip()


@case("consuming")
async def waiting_consumer_is_served(env: Env) -> None:
    """A consumer gets what is in the queue already, then at once what comes, in order."""
    for type_ in QUEUE_TYPES:
        channel = await env.channel()
        queue = await env.queue(channel, x_queue_type=type_)
        await channel.publish_all("", queue, [b"1", b"2"])
        consumer = await channel.consume(queue)
        await channel.publish("", queue, b"3")
        assert [delivery.body for delivery in await consumer.take(3)] == [b"1", b"2", b"3"]


@case("consuming", about="bytes")
async def deleting_is_answered_first(env: BytesEnv) -> None:
    """queue.delete is answered before the queue's consumer on that channel is cancelled."""
    peer = await env.opened()
    await peer.send(commands.Queue.Declare(queue=env.name, exclusive=True), 1)
    await peer.expect(commands.Queue.DeclareOk, 1)
    await peer.send(commands.Basic.Consume(queue=env.name, consumer_tag="mine"), 1)
    await peer.expect(commands.Basic.ConsumeOk, 1)
    await peer.send(commands.Queue.Delete(queue=env.name), 1)
    await peer.expect(commands.Queue.DeleteOk, 1)
    assert (await peer.expect(commands.Basic.Cancel, 1)).consumer_tag == "mine"
