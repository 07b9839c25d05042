"""Which queues a message goes to (AMQP 0-9-1, section 3.1.3 "Exchange Types")."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.conformance.suite.env import Env, expect_closed
from tests.conformance.suite.suite import case

Headers = Mapping[str, Any]


async def topic(env: Env, binding: str, *keys: str) -> list[str]:
    """Return the keys that a topic exchange routes to a queue bound with the pattern."""
    channel = await env.channel()
    exchange = await env.exchange(channel, "topic")
    queue = await env.queue(channel, exchange, binding)
    for key in keys:
        await channel.publish_confirmed(exchange, key)
    return [delivery.routing_key for delivery in await channel.drain(queue)]


async def headers(env: Env, arguments: Headers, *sent: Headers) -> list[Headers]:
    """Return the headers that a headers exchange routes to a queue bound with the arguments."""
    channel = await env.channel()
    exchange = await env.exchange(channel, "headers")
    queue = await env.queue(channel)
    await channel.queue_bind(queue, exchange, "", arguments)
    for table in sent:
        await channel.publish_confirmed(exchange, "", headers=table)
    return [delivery.headers for delivery in await channel.drain(queue)]


@case("routing")
async def direct_by_equal_key(env: Env) -> None:
    """A direct exchange routes a message to the queues bound with exactly its routing key."""
    channel = await env.channel()
    exchange = await env.exchange(channel, "direct")
    one = await env.queue(channel, exchange, "red")
    both = await env.queue(channel, exchange, "red", "blue")
    other = await env.queue(channel, exchange, "Red")
    for key in ("red", "blue", "re", "red.x", ""):
        await channel.publish_confirmed(exchange, key, key.encode())
    assert await channel.bodies(one) == [b"red"]
    assert await channel.bodies(both) == [b"red", b"blue"]
    assert await channel.bodies(other) == []


@case("routing")
async def direct_takes_no_wildcards(env: Env) -> None:
    """A direct exchange takes `*` and `#` in a binding literally."""
    channel = await env.channel()
    exchange = await env.exchange(channel, "direct")
    queue = await env.queue(channel, exchange, "#", "*")
    for key in ("a", "#", "*"):
        await channel.publish_confirmed(exchange, key, key.encode())
    assert await channel.bodies(queue) == [b"#", b"*"]


@case("routing")
async def fanout_ignores_keys(env: Env) -> None:
    """A fanout exchange routes every message to every bound queue, whatever the keys."""
    channel = await env.channel()
    exchange = await env.exchange(channel, "fanout")
    queues = [await env.queue(channel, exchange, key) for key in ("", "x")]
    await channel.publish_confirmed(exchange, "y", b"m")
    assert [await channel.bodies(queue) for queue in queues] == [[b"m"], [b"m"]]


@case("routing")
async def one_copy_for_many_bindings(env: Env) -> None:
    """A queue gets one copy of a message, however many of its bindings match."""
    channel = await env.channel()
    exchange = await env.exchange(channel, "topic")
    queue = await env.queue(channel, exchange, "a.b", "a.*", "#", "*.b")
    await channel.publish_confirmed(exchange, "a.b", b"m")
    assert await channel.bodies(queue) == [b"m"]


@case("routing")
async def topic_star_is_one_word(env: Env) -> None:
    """In a topic binding, `*` stands for exactly one word."""
    assert await topic(env, "a.*.c", "a.b.c", "a.c", "a.b.b.c", "b.b.c") == ["a.b.c"]


@case("routing")
async def topic_star_matches_an_empty_word(env: Env) -> None:
    """In a topic binding, `*` matches the empty word between two dots, but not the empty key."""
    assert await topic(env, "a.*.c", "a..c") == ["a..c"]
    assert await topic(env, "*", "", "a", "a.b") == ["a"]


@case("routing")
async def topic_hash_is_any_words(env: Env) -> None:
    """In a topic binding, `#` stands for zero or more words."""
    within = ["a.b", "a.x.b", "a.x.y.z.b", "a.b.b"]
    beyond = ["a", "b", "a.x", "x.a.b", "a.b.c"]
    assert await topic(env, "a.#.b", *within, *beyond) == within


@case("routing")
async def topic_hash_matches_all(env: Env) -> None:
    """A topic binding of `#` alone matches every key, the empty one too."""
    assert await topic(env, "#", "", "a", "a.b.c") == ["", "a", "a.b.c"]


@case("routing")
async def topic_trailing_hash(env: Env) -> None:
    """A topic binding of `a.#` matches `a` itself and whatever is below it, but not `ab`."""
    assert await topic(env, "a.#", "a", "a.b", "a.b.c", "ab", "b.a") == ["a", "a.b", "a.b.c"]


@case("routing")
async def topic_wildcards_together(env: Env) -> None:
    """`*` and `#` together match at least as many words as there are `*`."""
    assert await topic(env, "*.#.*", "a", "a.b", "a.b.c") == ["a.b", "a.b.c"]
    assert await topic(env, "#.#", "", "a") == ["", "a"]


@case("routing")
async def topic_wildcards_are_whole_words(env: Env) -> None:
    """In a topic binding, `*` and `#` inside a word are taken literally."""
    assert await topic(env, "a*.b#", "ax.by", "a*.b#") == ["a*.b#"]


@case("routing")
async def headers_all(env: Env) -> None:
    """A headers binding with `x-match: all` needs every one of its headers, with its value."""
    right = {"a": 1, "b": "two", "c": 3}
    wrong: list[Headers] = [{"a": 1}, {"a": 1, "b": "three"}, {}]
    found = await headers(env, {"x-match": "all", "a": 1, "b": "two"}, right, *wrong)
    assert found == [right]


@case("routing")
async def headers_all_is_the_default(env: Env) -> None:
    """A headers binding without `x-match` is one with `x-match: all`."""
    right = {"a": "1", "b": "2"}
    assert await headers(env, {"a": "1", "b": "2"}, right, {"a": "1"}) == [right]


@case("routing")
async def headers_any(env: Env) -> None:
    """A headers binding with `x-match: any` needs one of its headers, with its value."""
    right: list[Headers] = [{"a": "1"}, {"b": "2", "a": "0"}]
    wrong: list[Headers] = [{"a": "2", "b": "1"}, {"c": "1"}, {}]
    found = await headers(env, {"x-match": "any", "a": "1", "b": "2"}, *right, *wrong)
    assert found == right


@case("routing")
async def headers_with_x(env: Env) -> None:
    """`all` and `any` pass over headers that begin with `x-`; `all-with-x`, `any-with-x` do not."""
    plain = {"a": "1"}
    full = {"a": "1", "x-b": "2"}
    assert await headers(env, {"x-match": "all", **full}, plain, full) == [plain, full]
    assert await headers(env, {"x-match": "all-with-x", **full}, plain, full) == [full]
    only_x = {"x-b": "2"}
    assert await headers(env, {"x-match": "any", **full}, plain, only_x) == [plain]
    assert await headers(env, {"x-match": "any-with-x", **full}, plain, only_x) == [plain, only_x]


@case("routing")
async def default_exchange_routes_by_queue_name(env: Env) -> None:
    """The default exchange routes a message to the queue that its routing key names."""
    channel = await env.channel()
    one, other = await env.queue(channel), await env.queue(channel)
    await channel.publish_confirmed("", one, b"m")
    assert await channel.bodies(one) == [b"m"]
    assert await channel.bodies(other) == []


@case("routing")
async def default_exchange_takes_no_bindings(env: Env) -> None:
    """Binding a queue to the default exchange is refused with 403."""
    channel = await env.channel()
    queue = await env.queue(channel)
    async with expect_closed(channel, 403, "ACCESS_REFUSED"):
        await channel.queue_bind(queue, "", "key")


@case("routing")
async def headers_without_a_value(env: Env) -> None:
    """A headers binding to nothing (void) asks for the header to be there, with any value."""
    right: list[Headers] = [{"a": 1}, {"a": "x", "b": 1}]
    assert await headers(env, {"x-match": "all", "a": None}, *right, {"b": 1}) == right


@case("routing")
async def headers_none_at_all(env: Env) -> None:
    """A headers binding without headers takes every message with `all`, and none with `any`."""
    messages: list[Headers] = [{}, {"a": 1}]
    assert await headers(env, {"x-match": "all"}, *messages) == messages
    assert await headers(env, {}, *messages) == messages
    assert await headers(env, {"x-match": "any"}, *messages) == []


@case("routing")
async def headers_of_another_type(env: Env) -> None:
    """A headers binding tells a number from its text and from a truth value."""
    wrong: list[Headers] = [{"a": "1"}, {"a": True}]
    assert await headers(env, {"x-match": "all", "a": 1}, {"a": 1}, *wrong) == [{"a": 1}]


@case("routing")
async def headers_ignore_the_key(env: Env) -> None:
    """A headers exchange does not look at routing keys."""
    channel = await env.channel()
    exchange = await env.exchange(channel, "headers")
    queue = await env.queue(channel)
    await channel.queue_bind(queue, exchange, "key", {"a": 1})
    await channel.publish_confirmed(exchange, "another", b"m", headers={"a": 1})
    assert await channel.bodies(queue) == [b"m"]


@case("routing")
async def fanout_ignores_the_key(env: Env) -> None:
    """A fanout exchange does not look at routing keys."""
    channel = await env.channel()
    exchange = await env.exchange(channel, "fanout")
    queue = await env.queue(channel, exchange, "key")
    await channel.publish_confirmed(exchange, "another", b"m")
    assert await channel.bodies(queue) == [b"m"]


@case("routing")
async def carbon_copies(env: Env) -> None:
    """A message is routed by the keys in its `CC` and `BCC` headers as well as by its own."""
    channel = await env.channel()
    exchange = await env.exchange(channel)
    queues = [await env.queue(channel, exchange, key) for key in ("to", "cc", "bcc")]
    copies = {"CC": ["cc"], "BCC": ["bcc", "nobody"]}
    await channel.publish_confirmed(exchange, "to", b"m", headers=copies)
    for queue in queues:
        (delivery,) = await channel.drain(queue)
        assert (delivery.body, delivery.routing_key) == (b"m", "to")


@case("routing")
async def blind_copies_are_not_told(env: Env) -> None:
    """The `BCC` header is taken out of what is delivered, the `CC` header stays."""
    channel = await env.channel()
    queue = await env.queue(channel)
    copies = {"CC": ["someone"], "BCC": ["nobody"], "a": 1}
    await channel.publish_confirmed("", queue, headers=copies)
    (delivery,) = await channel.drain(queue)
    assert delivery.headers == {"CC": ["someone"], "a": 1}


@case("routing")
async def copies_must_be_lists(env: Env) -> None:
    """A `CC` or `BCC` header that is no array closes the channel with 406."""
    for name in ("CC", "BCC"):
        channel = await env.channel()
        async with expect_closed(channel, 406, "unacceptable_type_in_header"):
            await channel.publish("amq.direct", "key", headers={name: "someone"})


@case("routing")
async def copies_that_are_no_text(env: Env) -> None:
    """What is no text in a `CC` header is passed over, and is delivered as it was."""
    channel = await env.channel()
    queue = await env.queue(channel)
    await channel.publish_confirmed("", "nobody", b"m", headers={"CC": [1, queue, None]})
    (delivery,) = await channel.drain(queue)
    assert delivery.headers == {"CC": [1, queue, None]}


@case("routing")
async def copies_to_one_queue(env: Env) -> None:
    """A queue that the routing key and a copy's key both reach gets the message once."""
    channel = await env.channel()
    exchange = await env.exchange(channel)
    queue = await env.queue(channel, exchange, "to", "cc")
    await channel.publish_confirmed(exchange, "to", b"m", headers={"CC": ["cc", "to"]})
    assert await channel.bodies(queue) == [b"m"]
