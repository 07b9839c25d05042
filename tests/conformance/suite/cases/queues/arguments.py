"""A queue's arguments: what may be in them (https://www.rabbitmq.com/docs/queues)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.conformance.suite.env import Env, expect_closed
from tests.conformance.suite.features import Feature
from tests.conformance.suite.suite import case

TYPES = ("classic", "quorum")

NUMBERS = ("x-message-ttl", "x-expires", "x-max-length", "x-max-length-bytes")

TEN_YEARS = 10 * 365 * 24 * 60 * 60 * 1000
"""Milliseconds: the longest that a message or a queue may be said to live."""


async def refused(env: Env, name: str, value: object, text: str, type_: str) -> None:
    """Claim that a queue with this argument is refused with 406, which names the argument."""
    channel = await env.channel()
    async with expect_closed(channel, 406, text):
        arguments = {"x-queue-type": type_, name: value}
        await channel.queue_declare(env.new_name(), arguments=arguments)
    assert f"'{name}'" in channel.closed.result().text


async def taken(env: Env, arguments: Mapping[str, Any], type_: str) -> None:
    """Claim that a queue with these arguments can be declared."""
    channel = await env.channel()
    await channel.queue_declare(env.new_name(), arguments={"x-queue-type": type_, **arguments})


@case("arguments")
async def numbers_are_numbers(env: Env) -> None:
    """A TTL, an expiry or a length that is a text, a truth value or nothing is refused with 406."""
    values = {"longstr": "5", "bool": True, "void": None}
    for type_ in TYPES:
        for name in NUMBERS:
            for kind, value in values.items():
                await refused(env, name, value, f'"expected integer, got {kind}"', type_)


@case("arguments")
async def numbers_are_not_negative(env: Env) -> None:
    """A TTL, an expiry or a length below 0 is refused with 406."""
    for type_ in TYPES:
        for name in NUMBERS:
            await refused(env, name, -1, "{value_negative,-1}", type_)


@case("arguments")
async def zero(env: Env) -> None:
    """A TTL or a length may be 0, an expiry may not."""
    for type_ in TYPES:
        for name in NUMBERS:
            if name == "x-expires":
                await refused(env, name, 0, "{value_zero,0}", type_)
            else:
                await taken(env, {name: 0}, type_)


@case("arguments")
async def longest_times(env: Env) -> None:
    """A TTL and an expiry may be ten years, and no longer."""
    for type_ in TYPES:
        for name in ("x-message-ttl", "x-expires"):
            await taken(env, {name: TEN_YEARS}, type_)
            await refused(env, name, TEN_YEARS + 1, "{value_too_large,", type_)


@case("arguments")
async def priorities(env: Env) -> None:
    """`x-max-priority` of a classic queue is 0 to 255."""
    for value in (0, 255):
        await taken(env, {"x-max-priority": value}, "classic")
    await refused(env, "x-max-priority", 256, "{max_value_exceeded,256}", "classic")
    await refused(env, "x-max-priority", -1, "{value_negative,-1}", "classic")
    await refused(env, "x-max-priority", "5", '"expected integer, got longstr"', "classic")


@case("arguments")
async def overflow(env: Env) -> None:
    """`x-overflow` is drop-head, reject-publish or, for classic queues, reject-publish-dlx."""
    for type_ in TYPES:
        for value in ("drop-head", "reject-publish"):
            await taken(env, {"x-overflow": value}, type_)
        await refused(env, "x-overflow", "drop-tail", "invalid_overflow", type_)
        await refused(env, "x-overflow", True, "{unacceptable_type,bool}", type_)
    await taken(env, {"x-overflow": "reject-publish-dlx"}, "classic")


@case("arguments")
async def dead_letter_exchange(env: Env) -> None:
    """`x-dead-letter-exchange` is any text: the exchange need not exist, and may be the default."""
    for type_ in TYPES:
        for value in ("", env.name):
            await taken(env, {"x-dead-letter-exchange": value}, type_)
        text = "invalid type 'bool' for arg 'x-dead-letter-exchange' in queue"
        await refused(env, "x-dead-letter-exchange", True, text, type_)


@case("arguments")
async def dead_letter_routing_key(env: Env) -> None:
    """`x-dead-letter-routing-key` without `x-dead-letter-exchange` is refused with 406."""
    for type_ in TYPES:
        text = "routing_key_but_no_dlx_defined"
        await refused(env, "x-dead-letter-routing-key", "key", text, type_)


@case("arguments")
async def single_active_consumer(env: Env) -> None:
    """`x-single-active-consumer` is a truth value; a text is refused with 406."""
    for type_ in TYPES:
        for value in (True, False):
            await taken(env, {"x-single-active-consumer": value}, type_)
        text = "{unacceptable_type,longstr}"
        await refused(env, "x-single-active-consumer", "true", text, type_)


@case("arguments")
async def queue_type(env: Env) -> None:
    """A queue type that there is not is refused with 406."""
    channel = await env.channel()
    async with expect_closed(channel, 406, "\"unsupported queue type 'nonesuch'\""):
        await channel.queue_declare(env.new_name(), arguments={"x-queue-type": "nonesuch"})
    channel = await env.channel()
    async with expect_closed(channel, 406, "{unacceptable_type,bool}"):
        await channel.queue_declare(env.new_name(), arguments={"x-queue-type": True})


@case("arguments", needs={Feature.EMPTY_TYPE_IS_THE_DEFAULT})
async def empty_queue_type(env: Env) -> None:
    """An empty queue type is taken, for the default one."""
    await taken(env, {"x-queue-type": ""}, "")


@case("arguments")
async def of_quorum_queues_only(env: Env) -> None:
    """What only quorum queues have is refused with 406 for a classic queue."""
    strange: dict[str, object] = {
        "x-delivery-limit": 5,
        "x-dead-letter-strategy": "at-least-once",
        "x-quorum-initial-group-size": 1,
    }
    for name, value in strange.items():
        await refused(env, name, value, "of queue type rabbit_classic_queue", "classic")


@case("arguments")
async def of_classic_queues_only(env: Env) -> None:
    """What only classic queues have is refused with 406 for a quorum queue."""
    strange: dict[str, object] = {"x-max-priority": 5, "x-queue-mode": "lazy", "x-queue-version": 2}
    for name, value in strange.items():
        await refused(env, name, value, "of queue type rabbit_quorum_queue", "quorum")


@case("arguments")
async def dead_letter_strategy(env: Env) -> None:
    """`x-dead-letter-strategy` of a quorum queue is at-most-once or at-least-once."""
    for value in ("at-most-once", "at-least-once"):
        await taken(env, {"x-dead-letter-strategy": value}, "quorum")
    await refused(env, "x-dead-letter-strategy", "never", "invalid_dlx_strategy", "quorum")


@case("arguments")
async def delivery_limit(env: Env) -> None:
    """`x-delivery-limit` of a quorum queue may be 0, or below it."""
    for value in (0, 5, -1):
        await taken(env, {"x-delivery-limit": value}, "quorum")


@case("arguments")
async def quorum_queues_are_durable(env: Env) -> None:
    """A quorum queue that is transient, exclusive or auto-delete is refused with 406."""
    flags: dict[str, dict[str, bool]] = {
        "non-durable": {"durable": False},
        "exclusive-owner": {"exclusive": True},
        "auto-delete": {"auto_delete": True},
    }
    for what, flag in flags.items():
        channel = await env.channel()
        async with expect_closed(channel, 406, f"invalid property '{what}' for queue"):
            await channel.queue_declare(
                env.new_name(),
                durable=flag.get("durable", True),
                exclusive=flag.get("exclusive", False),
                auto_delete=flag.get("auto_delete", False),
                arguments={"x-queue-type": "quorum"},
            )


@case("arguments")
async def unknown_ones(env: Env) -> None:
    """An argument that nobody knows is taken, and not compared when declared again."""
    channel = await env.channel()
    queue = await env.queue(channel, x_colour="red")
    await channel.queue_declare(queue, arguments={"x-colour": 1})
    await channel.queue_declare(queue)


@case("arguments")
async def declared_again(env: Env) -> None:
    """Declaring a queue with another argument, one more or one less is a 406 that tells both."""
    differences: list[tuple[dict[str, Any], dict[str, Any], str]] = [
        (
            {"x-overflow": "drop-head"},
            {"x-overflow": "reject-publish"},
            "received 'reject-publish'",
        ),
        ({}, {"x-overflow": "drop-head"}, "received the value 'drop-head' of type 'longstr'"),
        ({"x-overflow": "drop-head"}, {}, "received none but current is the value 'drop-head'"),
        ({"x-max-length": 5}, {"x-max-length": 6}, "received '6' but current is '5'"),
        ({}, {"x-single-active-consumer": False}, "received the value 'false' of type 'bool'"),
    ]
    for first, second, text in differences:
        name = env.new_name()
        await (await env.channel()).queue_declare(name, arguments=first)
        channel = await env.channel()
        async with expect_closed(channel, 406, text):
            await channel.queue_declare(name, arguments=second)


@case("arguments")
async def declared_again_as_another_type(env: Env) -> None:
    """Declaring a queue as another type is refused with 406; no type is the default, classic."""
    channel = await env.channel()
    queue, quorum = await env.queue(channel), await env.queue(channel, x_queue_type="quorum")
    await channel.queue_declare(queue, arguments={"x-queue-type": "classic"})
    again: dict[str, dict[str, Any]] = {queue: {"x-queue-type": "quorum"}, quorum: {}}
    for name, arguments in again.items():
        channel = await env.channel()
        async with expect_closed(channel, 406, "inequivalent arg 'x-queue-type' for queue"):
            await channel.queue_declare(name, arguments=arguments)
