"""Bindings: what is the same one, and when they go (AMQP 0-9-1, 1.7.2.3; RabbitMQ's e2e)."""

from __future__ import annotations

from typing import Any

from tests.conformance.suite.env import Env, expect_closed
from tests.conformance.suite.suite import case


@case("bindings")
async def twice_is_once(env: Env) -> None:
    """Binding twice with the same key is one binding: one unbind ends it."""
    channel = await env.channel()
    exchange = await env.exchange(channel)
    queue = await env.queue(channel, exchange, "key", "key")
    await channel.publish_confirmed(exchange, "key", b"1")
    assert await channel.bodies(queue) == [b"1"]
    await channel.queue_unbind(queue, exchange, "key")
    await channel.publish_confirmed(exchange, "key", b"2")
    assert await channel.bodies(queue) == []


@case("bindings")
async def arguments_are_part_of_them(env: Env) -> None:
    """Bindings of one key with different arguments are two: unbinding one leaves the other."""
    channel = await env.channel()
    exchange = await env.exchange(channel)
    queue = await env.queue(channel)
    for arguments in ({}, {"a": 1}):
        await channel.queue_bind(queue, exchange, "key", arguments)
    await channel.queue_unbind(queue, exchange, "key")
    await channel.publish_confirmed(exchange, "key", b"1")
    await channel.queue_unbind(queue, exchange, "key", {"a": 1})
    await channel.publish_confirmed(exchange, "key", b"2")
    assert await channel.bodies(queue) == [b"1"]


@case("bindings")
async def order_of_arguments_does_not_matter(env: Env) -> None:
    """A binding is found again by the same arguments in another order."""
    channel = await env.channel()
    exchange = await env.exchange(channel)
    queue = await env.queue(channel)
    await channel.queue_bind(queue, exchange, "key", {"a": 1, "b": 2})
    await channel.queue_unbind(queue, exchange, "key", {"b": 2, "a": 1})
    await channel.publish_confirmed(exchange, "key")
    assert await channel.bodies(queue) == []


@case("bindings")
async def unbinding_what_is_not_bound(env: Env) -> None:
    """Unbinding a binding that does not exist succeeds."""
    channel = await env.channel()
    queue, exchange = await env.queue(channel), await env.exchange(channel)
    await channel.queue_unbind(queue, exchange, "key")
    await channel.exchange_unbind(exchange, "amq.direct", "key")


@case("bindings")
async def unbinding_what_is_not_there(env: Env) -> None:
    """Unbinding a queue or an exchange that does not exist succeeds."""
    channel = await env.channel()
    queue, exchange = await env.queue(channel), await env.exchange(channel)
    await channel.queue_unbind(env.name, exchange, "key")
    await channel.queue_unbind(queue, env.name, "key")
    await channel.exchange_unbind(env.name, exchange, "key")


@case("bindings")
async def of_no_queue(env: Env) -> None:
    """Binding a queue that does not exist closes the channel with 404."""
    channel = await env.channel()
    exchange = await env.exchange(channel)
    async with expect_closed(channel, 404, f"no queue '{env.name}'"):
        await channel.queue_bind(env.name, exchange, "key")


@case("bindings")
async def to_no_exchange(env: Env) -> None:
    """Binding to an exchange that does not exist closes the channel with 404."""
    channel = await env.channel()
    queue = await env.queue(channel)
    async with expect_closed(channel, 404, f"no exchange '{env.name}'"):
        await channel.queue_bind(queue, env.name, "key")


@case("bindings")
async def between_exchanges_one_missing(env: Env) -> None:
    """Binding exchanges of which one does not exist closes the channel with 404, either way."""
    exchange = await env.exchange(await env.channel())
    for destination, source in ((env.name, exchange), (exchange, env.name)):
        channel = await env.channel()
        async with expect_closed(channel, 404, f"no exchange '{env.name}'"):
            await channel.exchange_bind(destination, source, "key")


@case("bindings")
async def between_exchanges_and_the_default(env: Env) -> None:
    """Binding an exchange to the default exchange, or that to it, is refused with 403."""
    exchange = await env.exchange(await env.channel())
    for destination, source in (("", exchange), (exchange, "")):
        channel = await env.channel()
        async with expect_closed(channel, 403, "operation not permitted on the default exchange"):
            await channel.exchange_bind(destination, source, "key")


@case("bindings")
async def between_exchanges(env: Env) -> None:
    """An exchange bound to another gets what its key lets through, and routes it on by the same."""
    channel = await env.channel()
    source, destination = await env.exchange(channel, "topic"), await env.exchange(channel)
    await channel.exchange_bind(destination, source, "a.*")
    queue = await env.queue(channel, destination, "a.b", "c.d")
    for key in ("a.b", "c.d", "a.x"):
        await channel.publish_confirmed(source, key, key.encode())
    (delivery,) = await channel.drain(queue)
    assert (delivery.body, delivery.exchange, delivery.routing_key) == (b"a.b", source, "a.b")


@case("bindings")
async def between_exchanges_undone(env: Env) -> None:
    """An exchange that was unbound from another gets nothing more from it."""
    channel = await env.channel()
    source, destination = [await env.exchange(channel, "fanout") for _ in range(2)]
    queue = await env.queue(channel, destination)
    await channel.exchange_bind(destination, source, "key")
    await channel.exchange_unbind(destination, source, "key")
    await channel.publish_confirmed(source, "")
    assert await channel.bodies(queue) == []


@case("bindings")
async def in_a_circle(env: Env) -> None:
    """Exchanges bound in a circle route a message to each queue once."""
    channel = await env.channel()
    one, other = [await env.exchange(channel, "fanout") for _ in range(2)]
    await channel.exchange_bind(one, other)
    await channel.exchange_bind(other, one)
    await channel.exchange_bind(one, one)
    queues = [await env.queue(channel, exchange) for exchange in (one, other)]
    await channel.publish_confirmed(one, "", b"m")
    assert [await channel.bodies(queue) for queue in queues] == [[b"m"], [b"m"]]


@case("bindings")
async def two_ways_to_one_queue(env: Env) -> None:
    """A queue that a message reaches through two exchanges gets it once."""
    channel = await env.channel()
    first, left, right = [await env.exchange(channel, "fanout") for _ in range(3)]
    queue = await env.queue(channel)
    for exchange in (left, right):
        await channel.exchange_bind(exchange, first)
        await channel.queue_bind(queue, exchange)
    await channel.publish_confirmed(first, "", b"m")
    assert await channel.bodies(queue) == [b"m"]


@case("bindings")
async def to_an_exchange_that_goes(env: Env) -> None:
    """Deleting an exchange ends the bindings that lead to it: what came that way is returned."""
    channel = await env.channel()
    source, destination = [await env.exchange(channel, "fanout") for _ in range(2)]
    await env.queue(channel, destination)
    await channel.exchange_bind(destination, source)
    await channel.exchange_delete(destination)
    await channel.exchange_declare(destination, "fanout")
    await channel.publish_confirmed(source, "", mandatory=True)
    assert len(channel.returns) == 1


@case("bindings")
async def of_a_queue_that_goes(env: Env) -> None:
    """Deleting a queue ends its bindings: one declared under its name again has none."""
    channel = await env.channel()
    exchange = await env.exchange(channel, "fanout")
    queue = await env.queue(channel, exchange)
    await channel.queue_delete(queue)
    await channel.queue_declare(queue)
    await channel.publish_confirmed(exchange, "", mandatory=True)
    assert len(channel.returns) == 1
    assert await channel.bodies(queue) == []


@case("bindings")
async def empty_name_is_the_last_declared_queue(env: Env) -> None:
    """An empty queue name means the queue that this channel declared last, in every method."""
    channel = await env.channel()
    exchange = await env.exchange(channel)
    await env.queue(channel)
    queue = await env.queue(channel)
    await channel.queue_bind("", exchange, "key")
    await channel.publish_all(exchange, "key", [b"1", b"2"])
    got = await channel.get("", no_ack=True)
    assert got is not None
    assert got.body == b"1"
    assert await channel.queue_purge("") == 1
    await channel.queue_unbind("", exchange, "key")
    await channel.publish_confirmed(exchange, "key", mandatory=True)
    assert len(channel.returns) == 1
    await channel.queue_delete("")
    other = await env.channel()
    async with expect_closed(other, 404, f"no queue '{queue}'"):
        await other.queue_declare(queue, passive=True)


@case("bindings")
async def empty_name_and_key(env: Env) -> None:
    """Binding an empty queue name with an empty key binds the last queue with its name as key."""
    channel = await env.channel()
    exchange = await env.exchange(channel)
    queue = await env.queue(channel)
    await channel.queue_bind("", exchange, "")
    await channel.publish_confirmed(exchange, queue, b"name")
    await channel.publish_confirmed(exchange, "", b"empty")
    assert await channel.bodies(queue) == [b"name"]


@case("bindings")
async def empty_key_of_a_named_queue(env: Env) -> None:
    """Binding a named queue with an empty key binds it with the empty key."""
    channel = await env.channel()
    exchange = await env.exchange(channel)
    queue = await env.queue(channel, exchange, "")
    await channel.publish_confirmed(exchange, queue, b"name")
    await channel.publish_confirmed(exchange, "", b"empty")
    assert await channel.bodies(queue) == [b"empty"]


@case("bindings")
async def empty_name_with_none_declared(env: Env) -> None:
    """An empty queue name on a channel that declared none closes it with 404."""
    channel = await env.channel()
    async with expect_closed(channel, 404, "no previously declared queue"):
        await channel.queue_bind("", "amq.fanout")


@case("bindings")
async def unknown_header_match(env: Env) -> None:
    """Binding to a headers exchange with an unknown `x-match` closes the channel with 406."""
    values: list[Any] = ["some", 1]
    for value in values:
        channel = await env.channel()
        queue = await env.queue(channel)
        async with expect_closed(channel, 406, "x-match"):
            await channel.queue_bind(queue, "amq.headers", arguments={"x-match": value})


@case("bindings")
async def header_match_means_nothing_elsewhere(env: Env) -> None:
    """An `x-match` that is none is taken by exchanges that are no headers exchanges."""
    channel = await env.channel()
    queue, exchange = await env.queue(channel), await env.exchange(channel)
    await channel.queue_bind(queue, exchange, "key", {"x-match": "some"})
