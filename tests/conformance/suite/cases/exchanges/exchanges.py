"""Exchanges: declaring and deleting (AMQP 0-9-1, section 1.6 "Exchange")."""

from __future__ import annotations

from typing import Any

from tests.conformance.suite.env import Env, expect_closed
from tests.conformance.suite.features import Feature
from tests.conformance.suite.suite import case


@case("exchanges")
async def redeclare_as_another_type(env: Env) -> None:
    """Declaring an exchange again as another type closes the channel with 406."""
    channel = await env.channel()
    exchange = await env.exchange(channel, "topic")
    await channel.exchange_declare(exchange, "topic")
    async with expect_closed(channel, 406, "PRECONDITION_FAILED - inequivalent arg 'type'"):
        await channel.exchange_declare(exchange, "direct")


@case("exchanges")
async def passive_declare_of_no_exchange(env: Env) -> None:
    """Declaring passively an exchange that does not exist closes the channel with 404."""
    channel = await env.channel()
    async with expect_closed(channel, 404, "NOT_FOUND - no exchange"):
        await channel.exchange_declare(env.name, passive=True)


@case("exchanges")
async def amq_names_are_reserved(env: Env) -> None:
    """Declaring an exchange under a new name that begins with `amq.` is refused with 403."""
    channel = await env.channel()
    async with expect_closed(channel, 403, "ACCESS_REFUSED"):
        await channel.exchange_declare(f"amq.{env.name}")


@case("exchanges")
async def delete_if_unused(env: Env) -> None:
    """Deleting an exchange that has a binding, if unused, closes the channel with 406."""
    channel = await env.channel()
    exchange = await env.exchange(channel)
    await env.queue(channel, exchange, "key")
    async with expect_closed(channel, 406, "PRECONDITION_FAILED"):
        await channel.exchange_delete(exchange, if_unused=True)


@case("exchanges")
async def declare_equally_again(env: Env) -> None:
    """Declaring an exchange again with equal properties changes nothing: its bindings stay."""
    channel = await env.channel()
    exchange = await env.exchange(channel)
    queue = await env.queue(channel, exchange, "key")
    await channel.exchange_declare(exchange)
    await channel.publish_confirmed(exchange, "key", b"m")
    assert await channel.bodies(queue) == [b"m"]


@case("exchanges")
async def redeclare_with_other_flags(env: Env) -> None:
    """Declaring an exchange again as (not) durable, auto-delete or internal is a 406 naming it."""
    exchange = await env.exchange(await env.channel())
    others: list[dict[str, Any]] = [{"durable": False}, {"auto_delete": True}, {"internal": True}]
    for other in others:
        (flag,) = other
        channel = await env.channel()
        async with expect_closed(channel, 406, f"inequivalent arg '{flag}' for exchange"):
            await channel.exchange_declare(exchange, **other)


@case("exchanges")
async def redeclare_with_another_alternate(env: Env) -> None:
    """Declaring an exchange again with another alternate exchange, or without, is a 406."""
    exchange = env.new_name("x")
    channel = await env.channel()
    await channel.exchange_declare(exchange, arguments={"alternate-exchange": "amq.fanout"})
    for arguments in ({"alternate-exchange": "amq.direct"}, {}):
        channel = await env.channel()
        async with expect_closed(channel, 406, "inequivalent arg 'alternate-exchange'"):
            await channel.exchange_declare(exchange, arguments=arguments)


@case("exchanges")
async def other_arguments_are_not_compared(env: Env) -> None:
    """Arguments that mean nothing to an exchange are taken, and not compared."""
    channel = await env.channel()
    exchange = env.new_name("x")
    await channel.exchange_declare(exchange, arguments={"colour": "red"})
    await channel.exchange_declare(exchange, arguments={"colour": 1})
    await channel.exchange_declare(exchange)


@case("exchanges")
async def passive_declare_compares_nothing(env: Env) -> None:
    """Declaring passively an exchange that exists succeeds, whatever type it is said to be."""
    channel = await env.channel()
    exchange = await env.exchange(channel, "fanout")
    await channel.exchange_declare(exchange, "topic", passive=True, durable=False)


@case("exchanges")
async def predeclared(env: Env) -> None:
    """Every virtual host has amq.direct, .fanout, .topic, .headers and .match, durable."""
    channel = await env.channel()
    for kind in ("direct", "fanout", "topic", "headers"):
        await channel.exchange_declare(f"amq.{kind}", kind)
    await channel.exchange_declare("amq.match", "headers")


@case("exchanges")
async def predeclared_stay_as_they_are(env: Env) -> None:
    """Declaring a predeclared exchange as another type is refused with 406."""
    channel = await env.channel()
    async with expect_closed(channel, 406, "inequivalent arg 'type' for exchange 'amq.direct'"):
        await channel.exchange_declare("amq.direct", "topic")


@case("exchanges", needs={Feature.UNKNOWN_TYPE_CLOSES_THE_CHANNEL})
async def unknown_type(env: Env) -> None:
    """Declaring an exchange of a type that there is not closes the channel with 406."""
    channel = await (await env.connection()).channel()
    async with expect_closed(channel, 406, "unknown exchange type 'nonesuch'"):
        await channel.exchange_declare(env.new_name("x"), "nonesuch")


@case("exchanges", needs={Feature.UNKNOWN_TYPE_CLOSES_THE_CHANNEL})
async def type_of_a_plugin(env: Env) -> None:
    """Declaring an exchange of a plugin's type without the plugin closes the channel with 406."""
    channel = await (await env.connection()).channel()
    async with expect_closed(channel, 406, "unknown exchange type 'x-delayed-message'"):
        await channel.exchange_declare(env.new_name("x"), "x-delayed-message")


@case("exchanges", needs={Feature.LOCAL_RANDOM})
async def local_random_goes_to_one(env: Env) -> None:
    """An exchange of type `x-local-random` routes a message to one queue, whatever its key."""
    channel = await (await env.connection()).channel()
    exchange = await env.exchange(channel, "x-local-random")
    await channel.publish_confirmed(exchange, "k", b"nowhere", mandatory=True)
    assert [returned.body for returned in channel.returns] == [b"nowhere"]
    queues = [await env.queue(channel, exchange) for _ in range(2)]
    for number in range(40):
        verdict = await channel.publish_confirmed(
            exchange, f"k{number}", b"%d" % number, mandatory=True
        )
        assert verdict == "ack"
    found = [await channel.bodies(queue) for queue in queues]
    assert sorted(int(body) for bodies in found for body in bodies) == list(range(40))
    assert all(found), "40 of 40 to one of two"


@case("exchanges", needs={Feature.LOCAL_RANDOM})
async def local_random_takes_classic_queues(env: Env) -> None:
    """To `x-local-random` only classic queues are bound, without a key; else it is 406."""
    channel = await (await env.connection()).channel()
    exchange = await env.exchange(channel, "x-local-random")
    classic = await env.queue(channel)
    quorum = await env.queue(channel, x_queue_type="quorum")
    async with expect_closed(channel, 406, "Non empty binding 'k' key not permitted"):
        await channel.queue_bind(classic, exchange, "k")
    channel = await env.channel()
    async with expect_closed(channel, 406, "Queue type rabbit_quorum_queue not valid"):
        await channel.queue_bind(quorum, exchange)
    for key, text in (("", "Destination not found"), ("k", "Non empty binding 'k' key")):
        channel = await env.channel()
        async with expect_closed(channel, 406, text):
            await channel.exchange_bind("amq.fanout", exchange, key)


@case("exchanges", needs={Feature.MODULUS_HASH})
async def modulus_hash_goes_by_the_key(env: Env) -> None:
    """An exchange of type `x-modulus-hash` routes to one queue, the same for the same keys."""
    channel = await (await env.connection()).channel()
    exchange = await env.exchange(channel, "x-modulus-hash")
    await channel.publish_confirmed(exchange, "k", b"nowhere", mandatory=True)
    assert [returned.body for returned in channel.returns] == [b"nowhere"]
    queues = [await env.queue(channel, exchange, f"any{number}") for number in range(3)]
    rounds = []
    for _ in range(2):
        for number in range(60):
            await channel.publish_confirmed(exchange, f"k{number}", b"%d" % number)
        rounds.append([await channel.bodies(queue) for queue in queues])
    first, second = rounds
    assert sorted(int(body) for bodies in first for body in bodies) == list(range(60))
    assert all(first), "none of 60 keys to one of three"
    assert second == first


@case("exchanges")
async def default_exchange_is_not_declared(env: Env) -> None:
    """Declaring the default exchange, passively or not, is refused with 403."""
    for passive in (True, False):
        channel = await env.channel()
        async with expect_closed(channel, 403, "operation not permitted on the default exchange"):
            await channel.exchange_declare("", passive=passive)


@case("exchanges")
async def default_exchange_is_not_deleted(env: Env) -> None:
    """Deleting the default exchange is refused with 403."""
    channel = await env.channel()
    async with expect_closed(channel, 403, "operation not permitted on the default exchange"):
        await channel.exchange_delete("")


@case("exchanges")
async def predeclared_is_not_deleted(env: Env) -> None:
    """Deleting an exchange whose name begins with `amq.` is refused with 403."""
    channel = await env.channel()
    async with expect_closed(channel, 403, "deletion of system exchange 'amq.topic'"):
        await channel.exchange_delete("amq.topic")


@case("exchanges")
async def deleting_no_exchange(env: Env) -> None:
    """Deleting an exchange that does not exist succeeds."""
    await (await env.channel()).exchange_delete(env.name)


@case("exchanges")
async def delete_unused(env: Env) -> None:
    """Deleting an exchange that is the source of no binding, if unused, deletes it."""
    channel = await env.channel()
    exchange, source = await env.exchange(channel), await env.exchange(channel)
    await channel.exchange_bind(exchange, source)
    await channel.exchange_delete(exchange, if_unused=True)
    async with expect_closed(channel, 404):
        await channel.exchange_declare(exchange, passive=True)


@case("exchanges")
async def auto_delete_with_its_last_binding(env: Env) -> None:
    """An auto-delete exchange goes when its last binding does, and not before its first one."""
    channel = await env.channel()
    exchange = env.new_name("x")
    await channel.exchange_declare(exchange, auto_delete=True)
    await channel.exchange_declare(exchange, passive=True)
    queue = await env.queue(channel, exchange, "one", "two")
    await channel.queue_unbind(queue, exchange, "one")
    await channel.exchange_declare(exchange, passive=True)
    await channel.queue_unbind(queue, exchange, "two")
    async with expect_closed(channel, 404):
        await channel.exchange_declare(exchange, passive=True)


@case("exchanges")
async def auto_delete_with_its_last_queue(env: Env) -> None:
    """An auto-delete exchange goes when the last queue that was bound to it is deleted."""
    channel = await env.channel()
    exchange = env.new_name("x")
    await channel.exchange_declare(exchange, auto_delete=True)
    await channel.queue_delete(await env.queue(channel, exchange))
    async with expect_closed(channel, 404):
        await channel.exchange_declare(exchange, passive=True)


@case("exchanges")
async def auto_delete_runs_along_bindings(env: Env) -> None:
    """An auto-delete exchange that goes takes another one with it whose last target it was."""
    channel = await env.channel()
    first, second = env.new_name("x"), env.new_name("x")
    for exchange in (first, second):
        await channel.exchange_declare(exchange, auto_delete=True)
    await channel.exchange_bind(second, first)
    await channel.queue_delete(await env.queue(channel, second))
    async with expect_closed(channel, 404):
        await channel.exchange_declare(first, passive=True)


@case("exchanges")
async def internal_takes_no_publishes(env: Env) -> None:
    """Publishing to an internal exchange closes the channel with 403."""
    channel = await env.channel()
    exchange = env.new_name("x")
    await channel.exchange_declare(exchange, internal=True)
    async with expect_closed(channel, 403, "cannot publish to internal exchange"):
        await channel.publish(exchange, "key")


@case("exchanges")
async def internal_takes_from_other_exchanges(env: Env) -> None:
    """An internal exchange gets what another exchange routes to it."""
    channel = await env.channel()
    outer, inner = await env.exchange(channel, "fanout"), env.new_name("x")
    await channel.exchange_declare(inner, "fanout", internal=True)
    await channel.exchange_bind(inner, outer)
    queue = await env.queue(channel, inner)
    await channel.publish_confirmed(outer, "", b"m")
    assert await channel.bodies(queue) == [b"m"]


@case("exchanges")
async def deleting_takes_publishing_away(env: Env) -> None:
    """Publishing to an exchange that has been deleted closes the channel with 404."""
    channel = await env.channel()
    exchange = await env.exchange(channel)
    await channel.exchange_delete(exchange)
    async with expect_closed(channel, 404, f"no exchange '{exchange}'"):
        await channel.publish(exchange, "key")


@case("exchanges")
async def deleted_and_declared_anew(env: Env) -> None:
    """An exchange declared under the name of a deleted one has none of its bindings."""
    channel = await env.channel()
    exchange = await env.exchange(channel, "fanout")
    queue = await env.queue(channel, exchange)
    await channel.exchange_delete(exchange)
    await channel.exchange_declare(exchange, "topic")
    await channel.publish_confirmed(exchange, "")
    assert await channel.bodies(queue) == []
