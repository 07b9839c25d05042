"""Messages and queues that expire (RabbitMQ guide "Time-To-Live and Expiration")."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from tests.conformance.suite.env import QUEUE_TYPES, Env, expect_closed
from tests.conformance.suite.suite import case
from tests.conformance.suite.values import ChannelClosedError, ConnectionClosedError

SHORT = 100
"""Milliseconds that are over after `WAIT`."""

WAIT = 0.3
"""Seconds."""

LONG = 60_000
"""Milliseconds that are never over."""

TICK = 12.0
"""Seconds in which a quorum queue, which looks every 5 seconds, sees that it has expired."""


INTERNAL_ERROR = 541


async def gone(env: Env, queue: str) -> Callable[[], Awaitable[bool]]:
    """Make a check that there is no such queue, by binding it: that does not count as its use."""
    channel = await (await env.connection()).channel()

    async def check() -> bool:
        nonlocal channel
        try:
            await channel.queue_bind(queue, "amq.direct", queue)
        except ChannelClosedError:
            return True
        except ConnectionClosedError as error:
            if error.code != INTERNAL_ERROR:
                raise
            # RabbitMQ fails now and then on a queue that is just being deleted: ask it again.
            channel = await (await env.connection()).channel()
        return False

    return check


@case("expiry")
async def queue_ttl(env: Env) -> None:
    """A message that waits longer than its queue's `x-message-ttl` is gone."""
    for type_ in QUEUE_TYPES:
        channel = await env.channel()
        queue = await env.queue(channel, x_queue_type=type_, x_message_ttl=SHORT)
        await channel.publish_confirmed("", queue, b"m")
        await env.pass_time(WAIT)
        await env.ready(channel, queue, 0)
        assert await channel.get(queue) is None


@case("expiry")
async def message_expiration(env: Env) -> None:
    """A message that waits longer than its own `expiration` is gone; one without stays."""
    for type_ in QUEUE_TYPES:
        channel = await env.channel()
        queue = await env.queue(channel, x_queue_type=type_)
        await channel.publish_confirmed("", queue, b"short", expiration=str(SHORT))
        await channel.publish_confirmed("", queue, b"stays")
        await env.pass_time(WAIT)
        assert await channel.bodies(queue) == [b"stays"]


@case("expiry")
async def the_shorter_one_counts(env: Env) -> None:
    """Of the queue's TTL and the message's expiration, the shorter one counts."""
    for type_ in QUEUE_TYPES:
        channel = await env.channel()
        for ttl, expiration in ((SHORT, LONG), (LONG, SHORT)):
            queue = await env.queue(channel, x_queue_type=type_, x_message_ttl=ttl)
            await channel.publish_confirmed("", queue, b"m", expiration=str(expiration))
            await env.pass_time(WAIT)
            await env.ready(channel, queue, 0)


@case("expiry")
async def zero_expires_at_once(env: Env) -> None:
    """With a TTL of 0, in the queue or in the message, what no consumer waits for is gone."""
    for type_ in QUEUE_TYPES:
        channel = await env.channel()
        of_queue = await env.queue(channel, x_queue_type=type_, x_message_ttl=0)
        of_message = await env.queue(channel, x_queue_type=type_)
        await channel.publish_confirmed("", of_queue, b"m")
        await channel.publish_confirmed("", of_message, b"m", expiration="0")
        for queue in (of_queue, of_message):
            assert await channel.get(queue) is None


@case("expiry")
async def zero_reaches_a_waiting_consumer(env: Env) -> None:
    """With a TTL of 0 a message reaches a consumer that waits for it."""
    for type_ in QUEUE_TYPES:
        channel = await env.channel()
        queue = await env.queue(channel, x_queue_type=type_, x_message_ttl=0)
        consumer = await channel.consume(queue)
        await channel.publish("", queue, b"m")
        assert (await consumer.next()).body == b"m"


@case("expiry")
async def only_at_the_head(env: Env) -> None:
    """Behind a message with a long life one that has expired stays and counts, until its turn."""
    for type_ in QUEUE_TYPES:
        channel = await env.channel()
        queue = await env.queue(channel, x_queue_type=type_)
        await channel.publish_confirmed("", queue, b"long", expiration=str(LONG))
        await channel.publish_confirmed("", queue, b"short", expiration=str(SHORT))
        await env.pass_time(WAIT)
        await env.ready(channel, queue, 2)
        assert await channel.bodies(queue) == [b"long"]


@case("expiry")
async def what_a_consumer_has_stays(env: Env) -> None:
    """What a consumer holds does not expire: it can be acked, and no dead letter is made."""
    for type_ in QUEUE_TYPES:
        channel = await env.channel()
        exchange, dead = await env.dead_letters(channel)
        queue = await env.queue(
            channel, x_queue_type=type_, x_message_ttl=SHORT, x_dead_letter_exchange=exchange
        )
        consumer = await channel.consume(queue)
        await channel.publish("", queue, b"m")
        delivery = await consumer.next()
        await env.pass_time(WAIT)
        await channel.ack(delivery.tag)
        await channel.publish_confirmed("", queue, b"later")
        assert await channel.get(dead) is None


@case("expiry")
async def requeued_keeps_its_time(env: Env) -> None:
    """A message that comes back after its time has passed is gone; its time began at publishing."""
    for type_ in QUEUE_TYPES:
        channel = await env.channel()
        queue = await env.queue(channel, x_queue_type=type_)
        await channel.publish_confirmed("", queue, b"m", expiration="1000")
        delivery = await channel.get(queue)
        assert delivery is not None
        await env.pass_time(1.2)
        await channel.nack(delivery.tag)
        await channel.publish_confirmed("", queue, b"later")
        await env.ready(channel, queue, 1)
        assert await channel.bodies(queue) == [b"later"]


@case("expiry")
async def expiration_reaches_the_consumer(env: Env) -> None:
    """A message that has not expired is delivered with the `expiration` it was published with."""
    for type_ in QUEUE_TYPES:
        channel = await env.channel()
        queue = await env.queue(channel, x_queue_type=type_, x_message_ttl=LONG)
        await channel.publish_confirmed("", queue, b"m", expiration=str(2 * LONG))
        (delivery,) = await channel.drain(queue)
        assert delivery.properties.expiration == str(2 * LONG)


@case("expiry")
async def expiration_is_a_number(env: Env) -> None:
    """Publishing with an `expiration` that is no natural number closes the channel with 406."""
    for expiration in ("soon", "-1", "1.5"):
        channel = await env.channel()
        queue = await env.queue(channel)
        async with expect_closed(channel, 406, "PRECONDITION_FAILED"):
            await channel.publish("", queue, b"m", expiration=expiration)


@case("expiry")
async def unused_queue_goes(env: Env) -> None:
    """A queue that nobody used for its `x-expires` is deleted, with what is in it."""
    for type_ in QUEUE_TYPES:
        channel = await env.channel()
        queue = await env.queue(channel, x_queue_type=type_, x_expires=SHORT)
        await channel.publish_confirmed("", queue, b"m")
        await env.pass_time(WAIT)
        await env.eventually(await gone(env, queue), "the queue is deleted", TICK)
        async with expect_closed(channel, 404, "NOT_FOUND - no queue"):
            await channel.queue_declare(queue, passive=True)


@case("expiry")
async def consumer_keeps_a_queue(env: Env) -> None:
    """A queue with a consumer does not expire; when it has gone, the time begins."""
    channel = await env.channel()
    consumer = await channel.consume(await env.queue(channel, x_expires=SHORT))
    await env.pass_time(WAIT)
    await channel.publish("", consumer.queue, b"m")
    assert (await consumer.next()).body == b"m"
    await consumer.cancel()
    await env.pass_time(WAIT)
    await env.eventually(await gone(env, consumer.queue), "the queue is deleted")


@case("expiry")
async def use_postpones(env: Env) -> None:
    """Getting from a queue or declaring it again, passively as well, begins `x-expires` anew."""
    channel = await env.channel()
    queue = await env.queue(channel, x_expires=2000)
    await env.pass_time(1.2)
    await channel.queue_declare(queue, arguments={"x-expires": 2000})
    await env.pass_time(1.2)
    await channel.get(queue)
    await env.pass_time(1.2)
    await channel.queue_declare(queue, passive=True)
    await env.pass_time(1.2)
    await channel.queue_declare(queue, passive=True)


@case("expiry")
async def publishing_is_no_use(env: Env) -> None:
    """Publishing to a queue does not begin its `x-expires` anew."""
    channel = await env.channel()
    queue = await env.queue(channel, x_expires=2000)
    await env.pass_time(1.5)
    await channel.publish_confirmed("", queue)
    await env.pass_time(1.0)
    await env.eventually(await gone(env, queue), "the queue is deleted", within=0.5)
