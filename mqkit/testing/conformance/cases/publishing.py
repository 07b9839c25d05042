"""Publishing: confirms and returns (RabbitMQ guides "Publishers" and "Publisher Confirms")."""

from __future__ import annotations

from mqkit.testing.conformance.env import Env, expect_closed
from mqkit.testing.conformance.suite import case
from mqkit.testing.conformance.values import Confirm


@case("publishing")
async def confirm_of_a_routed_message(env: Env) -> None:
    """A message that reached its queue is confirmed with an ack, and is there by then."""
    channel = await env.channel()
    queue = await env.queue(channel)
    assert await channel.publish_confirmed("", queue, b"m") == "ack"
    other = await env.channel()
    assert await other.bodies(queue) == [b"m"]


@case("publishing")
async def confirms_count_from_one(env: Env) -> None:
    """Confirms are numbered from 1, from confirm.select on, and leave out no publish."""
    channel = await env.channel()
    queue = await env.queue(channel)
    await channel.publish("", queue, b"before")
    await channel.publish_all("", queue, [b"1", b"2", b"3"])
    told: set[int] = set()
    for confirm in channel.confirms:
        told |= set(range(1, confirm.tag + 1)) if confirm.multiple else {confirm.tag}
    assert told == {1, 2, 3}


@case("publishing")
async def unroutable_is_dropped_and_acked(env: Env) -> None:
    """A message that no queue is bound for, published without `mandatory`, is acked and dropped."""
    channel = await env.channel()
    exchange = await env.exchange(channel)
    assert await channel.publish_confirmed(exchange, "nobody") == "ack"
    assert channel.returns == []
    assert channel.confirms == [Confirm(1, multiple=False, acked=True)]


@case("publishing")
async def mandatory_is_returned(env: Env) -> None:
    """An unroutable mandatory message comes back whole, with 312 NO_ROUTE, then is acked."""
    channel = await env.channel()
    exchange = await env.exchange(channel)
    verdict = await channel.publish_confirmed(
        exchange, "nobody", b"body", mandatory=True, message_id="m-1", headers={"a": "b"}
    )
    assert verdict == "ack"
    (returned,) = channel.returns
    assert (returned.code, returned.text) == (312, "NO_ROUTE")
    assert (returned.exchange, returned.routing_key) == (exchange, "nobody")
    assert returned.body == b"body"
    assert returned.properties.message_id == "m-1"
    assert returned.properties.headers == {"a": "b"}


@case("publishing")
async def publish_to_no_exchange(env: Env) -> None:
    """Publishing to an exchange that does not exist closes the channel with 404."""
    channel = await env.channel()
    async with expect_closed(channel, 404, "NOT_FOUND - no exchange"):
        await channel.publish(env.name, "key")
