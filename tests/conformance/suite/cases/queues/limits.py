"""Queues with a limit (RabbitMQ guide "Queue Length Limit")."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Literal

from tests.conformance.suite.channel import WireChannel
from tests.conformance.suite.env import QUEUE_TYPES, Env
from tests.conformance.suite.features import Feature
from tests.conformance.suite.suite import case

BODIES = [b"1", b"2", b"3"]


def answers(
    channel: WireChannel, queue: str, verdict: Literal["ack", "nack"]
) -> Callable[[], Awaitable[bool]]:
    """Make a check that the queue answers a publish with this verdict."""

    async def check() -> bool:
        return await channel.publish_confirmed("", queue) == verdict

    return check


@case("limits")
async def max_length_drops_the_oldest(env: Env) -> None:
    """Above `x-max-length` a queue drops from its head; every publish is acked."""
    for type_ in QUEUE_TYPES:
        channel = await env.channel()
        queue = await env.queue(channel, x_queue_type=type_, x_max_length=2)
        assert await channel.publish_all("", queue, BODIES) == ["ack", "ack", "ack"]
        assert await channel.bodies(queue) == [b"2", b"3"]


@case("limits")
async def max_length_bytes_counts_bodies(env: Env) -> None:
    """Above `x-max-length-bytes`, counted over the bodies, a queue drops from its head."""
    for type_ in QUEUE_TYPES:
        channel = await env.channel()
        queue = await env.queue(channel, x_queue_type=type_, x_max_length_bytes=1000)
        bodies = [bytes([number]) * 400 for number in range(4)]
        await channel.publish_all("", queue, bodies)
        assert await channel.bodies(queue) == bodies[2:]


@case("limits")
async def the_first_limit_counts(env: Env) -> None:
    """With both limits a queue drops what exceeds either of them."""
    for type_ in QUEUE_TYPES:
        channel = await env.channel()
        queue = await env.queue(
            channel, x_queue_type=type_, x_max_length=2, x_max_length_bytes=1000
        )
        await channel.publish_all("", queue, BODIES)
        assert await channel.bodies(queue) == [b"2", b"3"]
        await channel.publish_all("", queue, [bytes(600), bytes(700)])
        assert await channel.bodies(queue) == [bytes(700)]


@case("limits")
async def dropped_is_dead_lettered(env: Env) -> None:
    """What is dropped from the head goes to the dead letter exchange, for the reason `maxlen`."""
    for type_ in QUEUE_TYPES:
        channel = await env.channel()
        exchange, dead = await env.dead_letters(channel)
        queue = await env.queue(
            channel, x_queue_type=type_, x_max_length=1, x_dead_letter_exchange=exchange
        )
        await channel.publish_all("", queue, BODIES)
        letters = [await env.arrives(channel, dead) for _ in range(2)]
        assert [letter.body for letter in letters] == [b"1", b"2"]
        assert [letter.headers["x-death"][0]["reason"] for letter in letters] == ["maxlen"] * 2


@case("limits")
async def unacked_does_not_count(env: Env) -> None:
    """What is unacked does not count towards `x-max-length`."""
    for type_ in QUEUE_TYPES:
        channel = await env.channel()
        queue = await env.queue(channel, x_queue_type=type_, x_max_length=2)
        await channel.publish_confirmed("", queue, b"0")
        await channel.get(queue)
        await channel.publish_all("", queue, BODIES)
        assert await channel.bodies(queue) == [b"2", b"3"]


@case("limits", needs={Feature.RETURNS_FIRST})
async def requeued_counts_again(env: Env) -> None:
    """What comes back to a full queue counts again: the head is dropped."""
    for type_ in QUEUE_TYPES:
        channel = await env.channel()
        queue = await env.queue(channel, x_queue_type=type_, x_max_length=2)
        await channel.publish_confirmed("", queue, b"0")
        delivery = await channel.get(queue)
        assert delivery is not None
        await channel.publish_all("", queue, BODIES)
        await channel.nack(delivery.tag)
        await channel.publish_confirmed("", queue, b"4")
        assert await channel.bodies(queue) == [b"3", b"4"]


@case("limits")
async def reject_publish_nacks(env: Env) -> None:
    """With `reject-publish`, what a full queue has no room for is nacked and not taken."""
    channel = await env.channel()
    queue = await env.queue(channel, x_max_length=2, x_overflow="reject-publish")
    assert await channel.publish_all("", queue, BODIES) == ["ack", "ack", "nack"]
    assert await channel.bodies(queue) == [b"1", b"2"]


@case("limits")
async def reject_publish_of_quorum(env: Env) -> None:
    """With `reject-publish`, a full quorum queue nacks, if not from the very first that is over."""
    channel = await env.channel()
    queue = await env.queue(
        channel, x_queue_type="quorum", x_max_length=2, x_overflow="reject-publish"
    )
    await env.eventually(answers(channel, queue, "nack"), "a full queue nacks")
    taken = sum(confirm.acked for confirm in channel.confirms)
    assert len(await channel.bodies(queue)) == taken


@case("limits")
async def room_is_taken_again(env: Env) -> None:
    """With `reject-publish`, a queue that was full takes messages again when it has room."""
    for type_ in QUEUE_TYPES:
        channel = await env.channel()
        queue = await env.queue(
            channel, x_queue_type=type_, x_max_length=1, x_overflow="reject-publish"
        )
        await env.eventually(answers(channel, queue, "nack"), "a full queue nacks")
        await channel.queue_purge(queue)
        await env.eventually(answers(channel, queue, "ack"), "an empty queue acks")


@case("limits")
async def reject_publish_makes_no_dead_letters(env: Env) -> None:
    """With `reject-publish`, what is nacked is not dead-lettered."""
    channel = await env.channel()
    exchange, dead = await env.dead_letters(channel)
    queue = await env.queue(
        channel, x_max_length=1, x_overflow="reject-publish", x_dead_letter_exchange=exchange
    )
    assert await channel.publish_all("", queue, BODIES) == ["ack", "nack", "nack"]
    assert await channel.bodies(dead) == []


@case("limits")
async def reject_publish_dlx(env: Env) -> None:
    """With `reject-publish-dlx`, a full classic queue nacks and dead-letters, as `maxlen`."""
    channel = await env.channel()
    exchange, dead = await env.dead_letters(channel)
    queue = await env.queue(
        channel, x_max_length=1, x_overflow="reject-publish-dlx", x_dead_letter_exchange=exchange
    )
    assert await channel.publish_all("", queue, BODIES) == ["ack", "nack", "nack"]
    letters = [await env.arrives(channel, dead) for _ in range(2)]
    assert [letter.body for letter in letters] == [b"2", b"3"]
    assert {letter.headers["x-first-death-reason"] for letter in letters} == {"maxlen"}
    assert await channel.bodies(queue) == [b"1"]


@case("limits", needs={Feature.QUORUM_REJECT_PUBLISH_DLX})
async def reject_publish_dlx_of_quorum(env: Env) -> None:
    """A quorum queue takes `reject-publish-dlx`, but drops from its head all the same."""
    channel = await env.channel()
    queue = await env.queue(
        channel, x_queue_type="quorum", x_max_length=1, x_overflow="reject-publish-dlx"
    )
    assert await channel.publish_all("", queue, BODIES) == ["ack", "ack", "ack"]
    assert await channel.bodies(queue) == [b"3"]


@case("limits")
async def one_full_queue_nacks_for_all(env: Env) -> None:
    """A message that one of its queues refuses is nacked, and is in the others all the same."""
    channel = await env.channel()
    exchange = await env.exchange(channel, "fanout")
    await env.queue(channel, exchange, x_max_length=0, x_overflow="reject-publish")
    other = await env.queue(channel, exchange)
    assert await channel.publish_confirmed(exchange, "", b"m") == "nack"
    assert await channel.bodies(other) == [b"m"]


@case("limits")
async def none_may_wait(env: Env) -> None:
    """With an `x-max-length` of 0 nothing waits, but a consumer that is free gets what comes."""
    for type_ in QUEUE_TYPES:
        channel = await env.channel()
        queue = await env.queue(channel, x_queue_type=type_, x_max_length=0)
        await channel.publish_confirmed("", queue, b"1")
        assert await channel.get(queue) is None
        consumer = await channel.consume(queue)
        await channel.publish("", queue, b"2")
        assert (await consumer.next()).body == b"2"
