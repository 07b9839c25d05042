"""Alternate exchanges (https://www.rabbitmq.com/docs/ae)."""

from __future__ import annotations

from tests.conformance.suite.channel import WireChannel
from tests.conformance.suite.env import Env, expect_closed
from tests.conformance.suite.suite import case


async def with_alternate(env: Env, channel: WireChannel, alternate: str) -> str:
    """Declare a direct exchange that has an alternate one."""
    exchange = env.new_name("x")
    await channel.exchange_declare(exchange, arguments={"alternate-exchange": alternate})
    return exchange


@case("alternates")
async def gets_what_is_not_routed(env: Env) -> None:
    """An alternate exchange gets what no binding of the first one takes, and only that."""
    channel = await env.channel()
    alternate = await env.exchange(channel, "fanout")
    exchange = await with_alternate(env, channel, alternate)
    routed, left = await env.queue(channel, exchange, "known"), await env.queue(channel, alternate)
    await channel.publish_all(exchange, "known", [b"1"])
    await channel.publish_all(exchange, "unknown", [b"2"])
    assert await channel.bodies(routed) == [b"1"]
    assert await channel.bodies(left) == [b"2"]


@case("alternates")
async def keeps_exchange_and_key(env: Env) -> None:
    """A message that went through an alternate exchange names the one it was published to."""
    channel = await env.channel()
    alternate = await env.exchange(channel, "fanout")
    exchange = await with_alternate(env, channel, alternate)
    queue = await env.queue(channel, alternate)
    await channel.publish_confirmed(exchange, "key")
    (delivery,) = await channel.drain(queue)
    assert (delivery.exchange, delivery.routing_key) == (exchange, "key")


@case("alternates")
async def form_a_chain(env: Env) -> None:
    """An alternate exchange that cannot route either hands on to its own alternate."""
    channel = await env.channel()
    last = await env.exchange(channel, "fanout")
    middle = await with_alternate(env, channel, last)
    first = await with_alternate(env, channel, middle)
    queue = await env.queue(channel, last)
    await channel.publish_confirmed(first, "key", b"m")
    assert await channel.bodies(queue) == [b"m"]


@case("alternates")
async def loop_ends(env: Env) -> None:
    """Alternates in a circle are each asked once: a message that none routes is returned."""
    channel = await env.channel()
    one, other = env.new_name("x"), env.new_name("x")
    await channel.exchange_declare(one, arguments={"alternate-exchange": other})
    await channel.exchange_declare(other, arguments={"alternate-exchange": one})
    assert await channel.publish_confirmed(one, "key", mandatory=True) == "ack"
    assert [returned.code for returned in channel.returns] == [312]


@case("alternates")
async def counts_as_routed(env: Env) -> None:
    """A mandatory message that only an alternate exchange routed is not returned."""
    channel = await env.channel()
    alternate = await env.exchange(channel, "fanout")
    exchange = await with_alternate(env, channel, alternate)
    queue = await env.queue(channel, alternate)
    await channel.publish_confirmed(exchange, "key", b"m", mandatory=True)
    assert channel.returns == []
    assert await channel.bodies(queue) == [b"m"]


@case("alternates")
async def need_not_exist(env: Env) -> None:
    """An alternate exchange that does not exist is taken, and its messages are returned."""
    channel = await env.channel()
    exchange = await with_alternate(env, channel, env.new_name("x"))
    await channel.publish_confirmed(exchange, "key", mandatory=True)
    assert [returned.code for returned in channel.returns] == [312]


@case("alternates")
async def of_an_exchange_that_is_bound_to(env: Env) -> None:
    """An exchange that another one routes to uses its own alternate for what it cannot route."""
    channel = await env.channel()
    alternate, outer = [await env.exchange(channel, "fanout") for _ in range(2)]
    inner = await with_alternate(env, channel, alternate)
    await channel.exchange_bind(inner, outer)
    queue = await env.queue(channel, alternate)
    await channel.publish_confirmed(outer, "key", b"m")
    assert await channel.bodies(queue) == [b"m"]


@case("alternates")
async def is_not_asked_behind_a_binding(env: Env) -> None:
    """An exchange that routed to another one does not use its alternate, though that one did not.

    What counts is whether a binding took the message, not whether it reached a queue.
    """
    channel = await env.channel()
    alternate, inner = await env.exchange(channel, "fanout"), await env.exchange(channel, "fanout")
    exchange = await with_alternate(env, channel, alternate)
    await channel.exchange_bind(inner, exchange, "key")
    queue = await env.queue(channel, alternate)
    await channel.publish_confirmed(exchange, "key", mandatory=True)
    assert await channel.bodies(queue) == []
    assert [returned.code for returned in channel.returns] == [312]


@case("alternates")
async def name_must_be_text(env: Env) -> None:
    """An alternate exchange that is named with a number is refused with 406."""
    channel = await env.channel()
    async with expect_closed(channel, 406, "for arg 'alternate-exchange' in exchange"):
        await channel.exchange_declare(env.new_name("x"), arguments={"alternate-exchange": 1})
