"""What a dead letter tells of its deaths (RabbitMQ guide "Dead Letter Exchanges", Effects)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.conformance.suite.channel import WireChannel
from tests.conformance.suite.env import QUEUE_TYPES, Env
from tests.conformance.suite.features import Feature
from tests.conformance.suite.suite import case
from tests.conformance.suite.values import Delivery


async def rejected(
    env: Env, channel: WireChannel, queue: str, dead: str, headers: Mapping[str, Any] | None = None
) -> Delivery:
    """Publish a message, reject it, and take its dead letter."""
    await channel.publish_confirmed("", queue, b"m", headers=dict(headers or {}))
    delivery = await channel.get(queue)
    assert delivery is not None
    await channel.reject(delivery.tag, requeue=False)
    return await env.arrives(channel, dead)


async def chain(env: Env, channel: WireChannel, type_: str) -> tuple[str, str, str]:
    """Declare a queue, the one that its dead letters expire in, and where those go: itself."""
    exchange, end = await env.dead_letters(channel)
    second = await env.queue(
        channel, x_queue_type=type_, x_message_ttl=50, x_dead_letter_exchange=exchange
    )
    first = await env.queue(
        channel, x_queue_type=type_, x_dead_letter_exchange="", x_dead_letter_routing_key=second
    )
    return first, second, end


@case("deaths")
async def x_death_tells_all(env: Env) -> None:
    """`x-death` tells of a death its count, reason, queue, time, and how it was published."""
    for type_ in QUEUE_TYPES:
        channel = await env.channel()
        source = await env.exchange(channel, "topic")
        exchange, dead = await env.dead_letters(channel)
        queue = await env.queue(
            channel, source, "#", x_queue_type=type_, x_dead_letter_exchange=exchange
        )
        await channel.publish_confirmed(source, "a.b")
        delivery = await channel.get(queue)
        assert delivery is not None
        await channel.reject(delivery.tag, requeue=False)
        (death,) = (await env.arrives(channel, dead)).headers["x-death"]
        told = {name: value for name, value in death.items() if name != "time"}
        assert told == {
            "count": 1,
            "reason": "rejected",
            "queue": queue,
            "exchange": source,
            "routing-keys": ["a.b"],
        }
        assert "time" in death


@case("deaths")
async def original_expiration(env: Env) -> None:
    """`x-death` tells the expiration that the message had, however it died."""
    for type_ in QUEUE_TYPES:
        channel = await env.channel()
        exchange, dead = await env.dead_letters(channel)
        queue = await env.queue(channel, x_queue_type=type_, x_dead_letter_exchange=exchange)
        await channel.publish_confirmed("", queue, expiration="60000")
        delivery = await channel.get(queue)
        assert delivery is not None
        await channel.reject(delivery.tag, requeue=False)
        (death,) = (await env.arrives(channel, dead)).headers["x-death"]
        assert death["original-expiration"] == "60000"


@case("deaths", needs={Feature.LAST_DEATH})
async def first_and_last(env: Env) -> None:
    """`x-first-death-*` tell of the first death and stay; `x-last-death-*` of the latest."""
    for type_ in QUEUE_TYPES:
        channel = await env.channel()
        first, second, end = await chain(env, channel, type_)
        await channel.publish_confirmed("", first)
        delivery = await channel.get(first)
        assert delivery is not None
        await channel.reject(delivery.tag, requeue=False)
        await env.pass_time(0.2)
        headers = (await env.arrives(channel, end)).headers
        names = [
            f"x-{which}-death-{of}" for which in ("first", "last") for of in ("queue", "reason")
        ]
        assert [headers[name] for name in names] == [first, "rejected", second, "expired"]
        assert (headers["x-first-death-exchange"], headers["x-last-death-exchange"]) == ("", "")


@case("deaths")
async def latest_comes_first(env: Env) -> None:
    """A death in another queue is another entry of `x-death`, before those that were there."""
    for type_ in QUEUE_TYPES:
        channel = await env.channel()
        first, second, end = await chain(env, channel, type_)
        await channel.publish_confirmed("", first)
        delivery = await channel.get(first)
        assert delivery is not None
        await channel.reject(delivery.tag, requeue=False)
        await env.pass_time(0.2)
        deaths = (await env.arrives(channel, end)).headers["x-death"]
        assert [death["queue"] for death in deaths] == [second, first]
        assert [death["reason"] for death in deaths] == ["expired", "rejected"]
        assert [death["routing-keys"] for death in deaths] == [[second], [first]]


@case("deaths")
async def same_again_is_counted(env: Env) -> None:
    """A death in the same queue for the same reason counts its entry up."""
    for type_ in QUEUE_TYPES:
        channel = await env.channel()
        queue = await env.queue(channel, x_queue_type=type_, x_dead_letter_exchange="")
        await channel.publish_confirmed("", queue)
        for count in (1, 2):
            await env.ready(channel, queue, 1)
            delivery = await channel.get(queue)
            assert delivery is not None
            await channel.reject(delivery.tag, requeue=False)
            await env.ready(channel, queue, 1)
            delivery = await channel.get(queue)
            assert delivery is not None
            (death,) = delivery.headers["x-death"]
            assert death["count"] == count
            await channel.nack(delivery.tag)


@case("deaths")
async def another_reason_is_another_entry(env: Env) -> None:
    """A death in the same queue for another reason is another entry of `x-death`."""
    for type_ in QUEUE_TYPES:
        channel = await env.channel()
        exchange, dead = await env.dead_letters(channel)
        queue = await env.queue(
            channel,
            exchange,
            x_queue_type=type_,
            x_message_ttl=1000,
            x_dead_letter_exchange=exchange,
        )
        await rejected(env, channel, queue, dead)
        await env.ready(channel, queue, 1)
        await env.pass_time(1.2)
        deaths = (await env.arrives(channel, dead)).headers["x-death"]
        assert [(d["reason"], d["count"]) for d in deaths] == [("expired", 1), ("rejected", 1)]


@case("deaths", needs={Feature.OWN_DEATHS_ONLY})
async def sent_by_a_client(env: Env) -> None:
    """An `x-death` that a client publishes is delivered, but a real death begins it anew."""
    for type_ in QUEUE_TYPES:
        channel = await env.channel()
        exchange, dead = await env.dead_letters(channel)
        queue = await env.queue(channel, x_queue_type=type_, x_dead_letter_exchange=exchange)
        letter = await rejected(env, channel, queue, dead)
        again = await rejected(env, channel, queue, dead, letter.headers)
        (death,) = again.headers["x-death"]
        assert death["count"] == 1


@case("deaths")
async def cc_stays(env: Env) -> None:
    """A dead letter with its own routing key keeps its CC header, whose keys route it as well."""
    for type_ in QUEUE_TYPES:
        channel = await env.channel()
        exchange = await env.exchange(channel, "direct")
        copied = await env.queue(channel, exchange, "copied")
        queue = await env.queue(channel, x_queue_type=type_, x_dead_letter_exchange=exchange)
        letter = await rejected(env, channel, queue, copied, {"CC": ["copied"]})
        assert letter.headers["CC"] == ["copied"]
        assert letter.headers["x-death"][0]["routing-keys"] == [queue, "copied"]


@case("deaths", needs={Feature.KEEPS_CC})
async def cc_no_longer_routes(env: Env) -> None:
    """A dead letter that is given a routing key is routed by that alone; its CC header stays."""
    for type_ in QUEUE_TYPES:
        channel = await env.channel()
        exchange = await env.exchange(channel, "direct")
        dead = await env.queue(channel, exchange, "dead")
        copied = await env.queue(channel, exchange, "copied")
        queue = await env.queue(
            channel,
            x_queue_type=type_,
            x_dead_letter_exchange=exchange,
            x_dead_letter_routing_key="dead",
        )
        letter = await rejected(env, channel, queue, dead, {"CC": ["copied"]})
        assert letter.headers["CC"] == ["copied"]
        assert letter.headers["x-death"][0]["routing-keys"] == [queue, "copied"]
        assert await channel.get(copied) is None
