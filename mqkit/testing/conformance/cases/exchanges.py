"""Exchanges: declaring and deleting (AMQP 0-9-1, section 1.6 "Exchange")."""

from __future__ import annotations

from mqkit.testing.conformance.env import Env, expect_closed
from mqkit.testing.conformance.suite import case


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
