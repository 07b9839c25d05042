"""Which messages become dead letters, and where to (RabbitMQ guide "Dead Letter Exchanges")."""

from __future__ import annotations

from tests.conformance.suite.channel import WireChannel
from tests.conformance.suite.env import QUEUE_TYPES, Env, expect_closed
from tests.conformance.suite.features import Feature
from tests.conformance.suite.suite import case


async def die(channel: WireChannel, queue: str, body: bytes = b"m") -> None:
    """Publish a message to a queue, get it, and reject it without requeue."""
    await channel.publish_confirmed("", queue, body)
    delivery = await channel.get(queue)
    assert delivery is not None
    await channel.reject(delivery.tag, requeue=False)


async def at_least_once_queue(
    env: Env, channel: WireChannel, exchange: str, **arguments: object
) -> str:
    """Declare a queue that dead-letters at least once."""
    return await env.queue(
        channel,
        "",
        x_queue_type="quorum",
        x_dead_letter_exchange=exchange,
        x_dead_letter_strategy="at-least-once",
        x_overflow="reject-publish",
        **arguments,
    )


@case("dead letters")
async def rejected(env: Env) -> None:
    """What is rejected or nacked without requeue goes to the dead letter exchange, in order."""
    for type_ in QUEUE_TYPES:
        channel = await env.channel()
        exchange, dead = await env.dead_letters(channel)
        queue = await env.queue(channel, x_queue_type=type_, x_dead_letter_exchange=exchange)
        await channel.publish_all("", queue, [b"1", b"2", b"3", b"4"])
        deliveries = [delivery for _ in range(4) if (delivery := await channel.get(queue))]
        await channel.reject(deliveries[0].tag, requeue=False)
        await channel.nack(deliveries[3].tag, multiple=True, requeue=False)
        letters = [await env.arrives(channel, dead) for _ in deliveries]
        assert [letter.body for letter in letters] == [b"1", b"2", b"3", b"4"]
        assert {letter.headers["x-death"][0]["reason"] for letter in letters} == {"rejected"}


@case("dead letters")
async def expired(env: Env) -> None:
    """What expires, by the queue's TTL or its own, goes to the dead letter exchange."""
    for type_ in QUEUE_TYPES:
        channel = await env.channel()
        exchange, dead = await env.dead_letters(channel)
        queue = await env.queue(
            channel, x_queue_type=type_, x_message_ttl=100, x_dead_letter_exchange=exchange
        )
        await channel.publish_confirmed("", queue, b"1", expiration="50")
        await channel.publish_confirmed("", queue, b"2")
        await env.pass_time(0.3)
        letters = [await env.arrives(channel, dead) for _ in range(2)]
        assert [letter.body for letter in letters] == [b"1", b"2"]
        assert {letter.headers["x-death"][0]["reason"] for letter in letters} == {"expired"}


@case("dead letters")
async def acked_is_none(env: Env) -> None:
    """What is acked, purged or requeued, or goes with its queue, is not dead-lettered."""
    for type_ in QUEUE_TYPES:
        channel = await env.channel()
        exchange, dead = await env.dead_letters(channel)
        queue = await env.queue(channel, x_queue_type=type_, x_dead_letter_exchange=exchange)
        await channel.publish_all("", queue, [b"1", b"2", b"3"])
        first, second = await channel.get(queue), await channel.get(queue)
        assert first is not None
        assert second is not None
        await channel.ack(first.tag)
        await channel.nack(second.tag)
        await channel.queue_purge(queue)
        await channel.publish_confirmed("", queue, b"4")
        await channel.queue_delete(queue)
        await channel.publish_confirmed(exchange, "", b"last")
        assert await channel.bodies(dead) == [b"last"]


@case("dead letters")
async def keeps_its_routing_key(env: Env) -> None:
    """A dead letter has the message's routing key where its queue has no other for it."""
    for type_ in QUEUE_TYPES:
        channel = await env.channel()
        source = await env.exchange(channel, "topic")
        exchange, dead = await env.dead_letters(channel)
        queue = await env.queue(
            channel, source, "#", x_queue_type=type_, x_dead_letter_exchange=exchange
        )
        await channel.publish_confirmed(source, "a.b", b"m")
        delivery = await channel.get(queue)
        assert delivery is not None
        await channel.reject(delivery.tag, requeue=False)
        letter = await env.arrives(channel, dead)
        assert (letter.exchange, letter.routing_key) == (exchange, "a.b")


@case("dead letters")
async def is_given_a_routing_key(env: Env) -> None:
    """A dead letter has the routing key of its queue's `x-dead-letter-routing-key`."""
    for type_ in QUEUE_TYPES:
        channel = await env.channel()
        exchange = await env.exchange(channel, "direct")
        dead, other = [await env.queue(channel, exchange, key) for key in ("dead", "other")]
        queue = await env.queue(
            channel,
            x_queue_type=type_,
            x_dead_letter_exchange=exchange,
            x_dead_letter_routing_key="dead",
        )
        await die(channel, queue)
        assert (await env.arrives(channel, dead)).routing_key == "dead"
        assert await channel.bodies(other) == []


@case("dead letters")
async def through_the_default_exchange(env: Env) -> None:
    """With the default exchange as dead letter exchange, the routing key names the queue."""
    for type_ in QUEUE_TYPES:
        channel = await env.channel()
        dead = await env.queue(channel)
        queue = await env.queue(
            channel, x_queue_type=type_, x_dead_letter_exchange="", x_dead_letter_routing_key=dead
        )
        await die(channel, queue)
        letter = await env.arrives(channel, dead)
        assert (letter.body, letter.exchange, letter.routing_key) == (b"m", "", dead)


@case("dead letters")
async def to_every_queue(env: Env) -> None:
    """A dead letter is routed as any message: to every queue that is bound for it."""
    channel = await env.channel()
    exchange, dead = await env.dead_letters(channel)
    other = await env.queue(channel, exchange, x_queue_type="quorum")
    await die(channel, await env.queue(channel, x_dead_letter_exchange=exchange))
    assert [(await env.arrives(channel, each)).body for each in (dead, other)] == [b"m", b"m"]


@case("dead letters")
async def exchange_may_come_later(env: Env) -> None:
    """Without its dead letter exchange a queue drops what dies; it need not be there before."""
    for type_ in QUEUE_TYPES:
        channel = await env.channel()
        exchange = env.new_name("x")
        queue = await env.queue(channel, x_queue_type=type_, x_dead_letter_exchange=exchange)
        await die(channel, queue, b"dropped")
        await env.ready(channel, queue, 0)
        await channel.exchange_declare(exchange, "fanout")
        dead = await env.queue(channel, exchange)
        await die(channel, queue, b"kept")
        assert (await env.arrives(channel, dead)).body == b"kept"
        assert await channel.get(dead) is None


@case("dead letters")
async def is_the_message_itself(env: Env) -> None:
    """A dead letter has the message's properties and headers, but not its expiration."""
    for type_ in QUEUE_TYPES:
        channel = await env.channel()
        exchange, dead = await env.dead_letters(channel)
        queue = await env.queue(channel, x_queue_type=type_, x_dead_letter_exchange=exchange)
        await channel.publish_confirmed(
            "",
            queue,
            b"m",
            message_id="id",
            content_type="text/plain",
            delivery_mode=2,
            priority=3,
            headers={"a": "b"},
            expiration="60000",
        )
        delivery = await channel.get(queue)
        assert delivery is not None
        await channel.reject(delivery.tag, requeue=False)
        letter = await env.arrives(channel, dead)
        found = letter.properties
        assert (letter.body, found.message_id, found.content_type) == (b"m", "id", "text/plain")
        assert (found.delivery_mode, found.priority) == (2, 3)
        assert letter.headers["a"] == "b"
        assert found.expiration is None


@case("dead letters")
async def does_not_expire_again(env: Env) -> None:
    """A message that died of its own expiration stays where it goes then."""
    for type_ in QUEUE_TYPES:
        channel = await env.channel()
        exchange, dead = await env.dead_letters(channel)
        queue = await env.queue(channel, x_queue_type=type_, x_dead_letter_exchange=exchange)
        await channel.publish_confirmed("", queue, b"m", expiration="100")
        await env.pass_time(0.3)
        await env.ready(channel, dead, 1)
        await env.pass_time(0.3)
        assert await channel.bodies(dead) == [b"m"]


@case("dead letters")
async def cycle_without_rejection(env: Env) -> None:
    """A message that would come back to a queue where it expired is dropped."""
    for type_ in QUEUE_TYPES:
        channel = await env.channel()
        queue = await env.queue(channel, x_queue_type=type_, x_dead_letter_exchange="")
        # Its expiration goes with its first death: coming back, it would stay.
        await channel.publish_confirmed("", queue, expiration="100")
        await env.pass_time(0.3)
        await env.ready(channel, queue, 0)
        assert await channel.get(queue) is None


@case("dead letters")
async def cycle_of_two(env: Env) -> None:
    """A message that expires from queue to queue is dropped before one that it has been in."""
    for type_ in QUEUE_TYPES:
        channel = await env.channel()
        one = env.new_name()
        two = await env.queue(
            channel,
            x_queue_type=type_,
            x_message_ttl=100,
            x_dead_letter_exchange="",
            x_dead_letter_routing_key=one,
        )
        arguments = {
            "x-queue-type": type_,
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": two,
        }
        await channel.queue_declare(one, arguments=arguments)
        await channel.publish_confirmed("", one, expiration="100")
        await env.pass_time(0.3)
        await env.ready(channel, one, 0)
        await env.pass_time(0.3)
        await env.ready(channel, two, 0)
        assert await channel.get(one) is None


@case("dead letters")
async def cycle_with_a_rejection(env: Env) -> None:
    """A message that is rejected on its way round goes on, and its deaths are counted."""
    for type_ in QUEUE_TYPES:
        channel = await env.channel()
        work = env.new_name()
        wait = await env.queue(
            channel,
            x_queue_type=type_,
            x_message_ttl=50,
            x_dead_letter_exchange="",
            x_dead_letter_routing_key=work,
        )
        arguments = {
            "x-queue-type": type_,
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": wait,
        }
        await channel.queue_declare(work, arguments=arguments)
        consumer = await channel.consume(work)
        await channel.publish("", work, b"m")
        for count in range(3):
            delivery = await consumer.next()
            deaths = [(d["queue"], d["count"]) for d in delivery.headers.get("x-death", [])]
            assert deaths == ([(wait, count), (work, count)] if count else [])
            await channel.reject(delivery.tag, requeue=False)
            await env.ready(channel, work, 0)
            await env.pass_time(0.2)


@case("dead letters")
async def rejected_into_itself(env: Env) -> None:
    """A message that is rejected in a queue which is its own dead letter target comes back."""
    for type_ in QUEUE_TYPES:
        channel = await env.channel()
        queue = await env.queue(channel, x_queue_type=type_, x_dead_letter_exchange="")
        await die(channel, queue)
        assert (await env.arrives(channel, queue)).body == b"m"


@case("dead letters")
async def routing_key_needs_an_exchange(env: Env) -> None:
    """An `x-dead-letter-routing-key` without an exchange closes the channel with 406."""
    for type_ in QUEUE_TYPES:
        channel = await env.channel()
        async with expect_closed(channel, 406, "PRECONDITION_FAILED"):
            await env.queue(channel, x_queue_type=type_, x_dead_letter_routing_key="dead")


@case("dead letters")
async def at_least_once(env: Env) -> None:
    """Dead-lettered at least once, messages reach the queue that they are routed to."""
    channel = await env.channel()
    exchange, dead = await env.dead_letters(channel)
    queue = await at_least_once_queue(env, channel, exchange)
    for body in (b"1", b"2"):
        await die(channel, queue, body)
    letters = [await env.arrives(channel, dead) for _ in range(2)]
    assert sorted(letter.body for letter in letters) == [b"1", b"2"]
    assert {letter.headers["x-death"][0]["reason"] for letter in letters} == {"rejected"}


@case("dead letters")
async def at_least_once_keeps(env: Env) -> None:
    """Dead-lettered at least once, what finds no queue is kept, and counts as in its queue."""
    channel = await env.channel()
    queue = await at_least_once_queue(env, channel, await env.exchange(channel), x_max_length=1)
    await die(channel, queue)

    async def has_no_room() -> bool:
        verdict = await channel.publish_confirmed("", queue)
        await channel.drain(queue)
        return verdict == "nack"

    await env.eventually(has_no_room, "the queue is full, with nothing ready in it")


@case("dead letters")
async def full_target_refuses(env: Env) -> None:
    """Dead-lettered at most once, a message that its target refuses is gone."""
    for type_ in QUEUE_TYPES:
        channel = await env.channel()
        exchange = await env.exchange(channel, "fanout")
        full = await env.queue(channel, exchange, x_max_length=0, x_overflow="reject-publish")
        other = await env.queue(channel, exchange)
        queue = await env.queue(channel, x_queue_type=type_, x_dead_letter_exchange=exchange)
        await die(channel, queue)
        assert (await env.arrives(channel, other)).body == b"m"
        assert await channel.get(full) is None


@case("dead letters", needs={Feature.STRICT_QUORUM_PRIORITIES})
async def keeps_its_priority(env: Env) -> None:
    """A dead letter has the priority that the message had, in its target as well."""
    for arguments in ({"x_max_priority": 9}, {"x_queue_type": "quorum"}):
        channel = await env.channel()
        dead = await env.queue(channel, **arguments)
        queue = await env.queue(channel, x_dead_letter_exchange="", x_dead_letter_routing_key=dead)
        for priority in (5, 9):
            await channel.publish_confirmed("", queue, b"%d" % priority, priority=priority)
            delivery = await channel.get(queue)
            assert delivery is not None
            await channel.reject(delivery.tag, requeue=False)
        await env.ready(channel, dead, 2)
        assert await channel.bodies(dead) == [b"9", b"5"]
