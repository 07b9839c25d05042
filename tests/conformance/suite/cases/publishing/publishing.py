"""Publishing: confirms and returns (RabbitMQ guides "Publishers" and "Publisher Confirms")."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from mqkit.settings import BrokerUrl
from tests.conformance.suite.env import Env, expect_closed
from tests.conformance.suite.features import Feature
from tests.conformance.suite.suite import case
from tests.conformance.suite.values import Confirm, Properties, PropertyFields

EVERYTHING: PropertyFields = {
    "content_type": "text/plain",
    "content_encoding": "utf-8",
    "headers": {"a": "1"},
    "delivery_mode": 2,
    "priority": 9,
    "correlation_id": "correlation",
    "reply_to": "reply",
    "expiration": "600000",
    "message_id": "message",
    "timestamp": 1_700_000_000,
    "type": "type",
    "app_id": "app",
}
"""All properties but `user_id`, which must be the user's."""

HEADERS: dict[str, Any] = {
    "text": "\N{SNOWMAN}",
    "empty": "",
    "true": True,
    "false": False,
    "zero": 0,
    "one": 1,
    "minus": -1,
    "16 bits": 2**15,
    "32 bits": 2**31,
    "64 bits": -(2**63),
    "decimal": Decimal("1.25"),
    "nothing": None,
    "array": [1, "two", None, [True], {"three": 3}],
    "no array": [],
    "table": {"a": {"b": {"c": [1]}}},
    "no table": {},
}
"""What both client libraries can write: no float, binary or timestamp."""


def confirmed(confirms: Iterable[Confirm]) -> set[int]:
    """Return the numbers of the messages that are confirmed; none twice."""
    found: set[int] = set()
    for confirm in confirms:
        first = 1 if confirm.multiple else confirm.tag
        told = set(range(first, confirm.tag + 1)) - found
        assert confirm.tag in told, f"{confirm.tag} is confirmed twice"
        found |= told
    return found


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
    assert confirmed(channel.confirms) == {1, 2, 3}


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


@case("publishing")
async def return_comes_before_confirm(env: Env) -> None:
    """Each unroutable mandatory message is returned before it is confirmed."""
    channel = await env.channel()
    exchange = await env.exchange(channel)
    for count in (1, 2, 3):
        await channel.publish_confirmed(exchange, "nobody", mandatory=True)
        assert len(channel.returns) == count


@case("publishing")
async def mandatory_and_routed(env: Env) -> None:
    """A mandatory message that reached a queue is not returned."""
    channel = await env.channel()
    queue = await env.queue(channel)
    await channel.publish_confirmed("", queue, b"m", mandatory=True)
    assert channel.returns == []
    assert await channel.bodies(queue) == [b"m"]


@case("publishing")
async def mandatory_on_the_default_exchange(env: Env) -> None:
    """A mandatory message for a queue that does not exist is returned, exchange and key as sent."""
    channel = await env.channel()
    await channel.publish_confirmed("", env.name, b"m", mandatory=True)
    (returned,) = channel.returns
    assert (returned.code, returned.exchange, returned.routing_key) == (312, "", env.name)


@case("publishing")
async def returned_without_confirms(env: Env) -> None:
    """A mandatory message is returned on a channel without confirms, too."""
    channel = await env.channel()
    await channel.publish("", env.name, b"m", mandatory=True)
    await channel.round_trip()
    assert [returned.body for returned in channel.returns] == [b"m"]
    assert channel.confirms == []


@case("publishing")
async def returned_as_it_was(env: Env) -> None:
    """A returned message has all of its properties and its body, of several frames, as sent."""
    channel = await env.channel()
    body = bytes(range(256)) * 1200
    await channel.publish_confirmed("", env.name, body, mandatory=True, **EVERYTHING)
    (returned,) = channel.returns
    assert returned.properties == Properties(**EVERYTHING)
    assert returned.body == body


@case("publishing")
async def confirms_many_in_flight(env: Env) -> None:
    """Each of many messages in flight is confirmed once, alone or with all of those before it."""
    channel = await env.channel()
    queues = [await env.queue(channel, x_queue_type=kind) for kind in ("classic", "quorum")]
    await channel.confirm_select()
    count = 300
    for number in range(count):
        await channel.publish("", queues[number % 2], b"%d" % number)
    await channel.publish_confirmed("", queues[0])

    async def all_confirmed() -> bool:
        return len(confirmed(channel.confirms)) == count + 1

    await env.eventually(all_confirmed, "every message is confirmed")
    assert all(confirm.acked for confirm in channel.confirms)


@case("publishing")
async def confirms_for_each_channel(env: Env) -> None:
    """Confirms are numbered for each channel by itself, and come on that channel."""
    one, other = await env.channel(), await env.channel()
    queue = await env.queue(one)
    await one.publish_all("", queue, [b"1", b"2"])
    await other.publish_confirmed("", queue, b"3")
    assert confirmed(one.confirms) == {1, 2}
    assert confirmed(other.confirms) == {1}


@case("publishing")
async def confirm_select_twice(env: Env) -> None:
    """Doing confirm.select again changes nothing: the numbers go on."""
    channel = await env.channel()
    queue = await env.queue(channel)
    await channel.publish_confirmed("", queue)
    await channel.confirm_select()
    await channel.publish_confirmed("", queue)
    assert confirmed(channel.confirms) == {1, 2}


@case("publishing")
async def user_id_of_another(env: Env) -> None:
    """Publishing with the `user_id` of another user closes the channel with 406."""
    channel = await env.channel()
    async with expect_closed(channel, 406, f"user_id property set to '{env.name}' but"):
        await channel.publish("", "key", user_id=env.name)


@case("publishing")
async def user_id_of_the_user(env: Env) -> None:
    """Publishing with the user's own `user_id` is taken, and delivered with it."""
    channel = await env.channel()
    queue, user = await env.queue(channel), BrokerUrl.parse(env.url).username
    await channel.publish_confirmed("", queue, user_id=user)
    (delivery,) = await channel.drain(queue)
    assert delivery.properties.user_id == user


@case("publishing")
async def invalid_expiration(env: Env) -> None:
    """An `expiration` that is no whole number of milliseconds, 0 to ten years, is a 406."""
    most = 10 * 365 * 24 * 3600 * 1000
    wrong = {
        "soon": "no_integer",
        "-1": "{value_negative,-1}",
        "1.5": '{leftover_string,".5"}',
        " 5": "no_integer",
        "0x10": '{leftover_string,"x10"}',
        str(most + 1): f"{{value_too_large,{most + 1}}}",
    }
    for expiration, why in wrong.items():
        channel = await env.channel()
        async with expect_closed(channel, 406, f"invalid expiration '{expiration}': {why}"):
            await channel.publish("amq.direct", "key", expiration=expiration)
    channel = await env.channel()
    for expiration in ("0", "+5", str(most)):
        assert await channel.publish_confirmed("amq.direct", "key", expiration=expiration) == "ack"


@case("publishing")
async def longest_expiration(env: Env) -> None:
    """An `expiration` may be ten years."""
    channel = await env.channel()
    queue, years = await env.queue(channel), str(10 * 365 * 24 * 3600 * 1000)
    await channel.publish_confirmed("", queue, expiration=years)
    (delivery,) = await channel.drain(queue)
    assert delivery.properties.expiration == years


@case("publishing")
async def empty_body(env: Env) -> None:
    """A message without a body is delivered as that, with its properties."""
    channel = await env.channel()
    queue = await env.queue(channel)
    await channel.publish_confirmed("", queue, b"", message_id="m-1")
    (delivery,) = await channel.drain(queue)
    assert (delivery.body, delivery.properties.message_id) == (b"", "m-1")


@case("publishing")
async def body_of_several_frames(env: Env) -> None:
    """A body larger than a frame is delivered byte for byte."""
    channel = await env.channel()
    body = bytes(range(256)) * 4096
    for kind in ("classic", "quorum"):
        consumer = await channel.consume(await env.queue(channel, x_queue_type=kind), no_ack=True)
        await channel.publish_confirmed("", consumer.queue, body)
        assert (await consumer.next()).body == body


@case("publishing", needs={Feature.NO_COUNT_AT_FIRST})
async def all_properties(env: Env) -> None:
    """All properties of a message are delivered as they were sent."""
    channel = await env.channel()
    for kind in ("classic", "quorum"):
        queue = await env.queue(channel, x_queue_type=kind)
        await channel.publish_confirmed("", queue, **EVERYTHING)
        (delivery,) = await channel.drain(queue)
        assert delivery.properties == Properties(**EVERYTHING)


@case("publishing", needs={Feature.NO_COUNT_AT_FIRST})
async def no_properties(env: Env) -> None:
    """A message without properties is delivered without any."""
    channel = await env.channel()
    for kind in ("classic", "quorum"):
        queue = await env.queue(channel, x_queue_type=kind)
        await channel.publish_confirmed("", queue)
        (delivery,) = await channel.drain(queue)
        assert delivery.properties == Properties()


@case("publishing", needs={Feature.NO_COUNT_AT_FIRST})
async def header_values(env: Env) -> None:
    """Header values of every kind are delivered as they were sent."""
    channel = await env.channel()
    for kind in ("classic", "quorum"):
        queue = await env.queue(channel, x_queue_type=kind)
        await channel.publish_confirmed("", queue, headers=HEADERS)
        (delivery,) = await channel.drain(queue)
        assert delivery.headers == HEADERS
        types = {name: type(value) for name, value in delivery.headers.items()}
        assert types["true"] is bool
        assert types["one"] is int


@case("publishing")
async def after_an_error_nothing_counts(env: Env) -> None:
    """What was sent behind a publish that closed the channel is dropped."""
    channel, other = await env.channel(), await env.channel()
    queue = await env.queue(other)
    async with expect_closed(channel, 404):
        await channel.publish(env.name, "key")
        await channel.publish("", queue, b"dropped")
    assert await other.bodies(queue) == []
