"""What mqkit asks of its drivers (`mqkit.drivers.base`): exchanges, queues and bindings."""

from __future__ import annotations

import re

from mqkit.drivers.base import QueueState
from tests.conformance.suite.driver import closed_with, expect_error
from tests.conformance.suite.env import DriverEnv, expect_closed
from tests.conformance.suite.suite import case


@case("drivers", about="driver")
async def queue_state_counts(env: DriverEnv) -> None:
    """A declared queue's state tells its name, its ready messages and its consumers."""
    beside, channel = await env.channel(), await env.driver_channel()
    queue = env.undeclared()
    assert await channel.declare_queue(queue) == QueueState(queue, 0, 0)
    await beside.publish_all("", queue, [b"1", b"2", b"3"])
    held = await beside.get(queue)
    assert held is not None
    assert await channel.declare_queue(queue) == QueueState(queue, 2, 0)
    await beside.consume(await env.queue(beside))
    await beside.qos(1)
    for _ in range(2):
        await beside.consume(queue)
    state = await channel.declare_queue(queue, passive=True)
    assert (state.name, state.consumers) == (queue, 2)


@case("drivers", about="driver")
async def server_named_queue(env: DriverEnv) -> None:
    """A queue that is declared without a name is told the broker's name for it."""
    channel = await env.driver_channel()
    first = await channel.declare_queue("", durable=False, exclusive=True)
    second = await channel.declare_queue("", durable=False, exclusive=True)
    assert first.name.startswith("amq.gen-")
    assert first.name != second.name
    assert await channel.declare_queue(first.name, passive=True) == first


@case("drivers", about="driver")
async def names_are_taken_as_they_are(env: DriverEnv) -> None:
    """Any name that the broker takes reaches it unchanged."""
    beside, channel = await env.channel(), await env.driver_channel()
    for rest in ("café", "a b", "$/!#*%2F", "'\"\\", "n" * 200):
        name = f"{env.undeclared()}.{rest}"
        assert (await channel.declare_queue(name, exclusive=True)).name == name
        await channel.bind_queue(name, "amq.direct", name)
        await beside.publish_confirmed("amq.direct", name, b"m")
        assert (await channel.declare_queue(name, passive=True)).messages == 1


@case("drivers", about="driver")
async def queue_is_durable_by_default(env: DriverEnv) -> None:
    """A queue is durable, shared and stays, unless it is asked for otherwise."""
    beside, channel = await env.channel(), await env.driver_channel()
    queue = env.undeclared()
    await channel.declare_queue(queue)
    await beside.queue_declare(queue, durable=True, exclusive=False, auto_delete=False)


@case("drivers", about="driver")
async def exclusive_queue(env: DriverEnv) -> None:
    """An exclusive queue is refused to another connection with 405, and goes with its own."""
    beside, connection = await env.channel(), await env.driver_connection()
    channel, queue = await connection.channel(), env.undeclared()
    await channel.declare_queue(queue, durable=False, exclusive=True)
    async with expect_closed(beside, 405, "RESOURCE_LOCKED"):
        await beside.queue_declare(queue, passive=True)
    await channel.declare_queue(queue, passive=True)
    await connection.close()
    beside = await env.channel()
    async with expect_closed(beside, 404):
        await beside.queue_declare(queue, passive=True)


@case("drivers", about="driver")
async def queue_that_deletes_itself(env: DriverEnv) -> None:
    """A queue that is declared with `auto_delete` goes with its last consumer."""
    channel, queue = await env.driver_channel(), env.undeclared()
    await channel.declare_queue(queue, auto_delete=True)
    tag = await channel.consume(queue, lambda _: None, lambda: None)
    await channel.cancel(tag)
    async with expect_error(404):
        await channel.declare_queue(queue, passive=True)


@case("drivers", about="driver")
async def queue_arguments(env: DriverEnv) -> None:
    """A queue's arguments reach the broker with their types, and do what they say."""
    beside, channel, queue = await env.channel(), await env.driver_channel(), env.undeclared()
    arguments = {
        "x-queue-type": "classic",
        "x-max-length": 2,
        "x-message-ttl": 10**10,
        "x-single-active-consumer": False,
        "x-dead-letter-exchange": env.name,
    }
    await channel.declare_queue(queue, arguments=arguments)
    await beside.queue_declare(queue, arguments=arguments)
    await beside.publish_all("", queue, [b"1", b"2", b"3"])
    assert await beside.bodies(queue) == [b"2", b"3"]


@case("drivers", about="driver")
async def inequivalent_queue(env: DriverEnv) -> None:
    """A queue that is there otherwise is refused with 406 and the words for what differs."""
    queue = await env.queue(await env.channel(), x_max_length=5)
    channel = await env.driver_channel()
    async with expect_error(406, f"inequivalent arg 'x-max-length' for queue '{queue}'"):
        await channel.declare_queue(queue, arguments={"x-max-length": 6})
    text = (await closed_with(channel, 406)).text
    assert re.search("received .*'?6'?.* but current is .*'?5'?", text), text


@case("drivers", about="driver")
async def passive_declares_nothing(env: DriverEnv) -> None:
    """A passive declaration asks only for the name, and fails with 404 where there is none."""
    queue = await env.queue(await env.channel(), x_max_length=5)
    exchange = await env.exchange(await env.channel(), "topic")
    connection = await env.driver_connection()
    channel = await connection.channel()
    await channel.declare_queue(queue, durable=False, passive=True)
    await channel.declare_exchange(exchange, "topic", durable=False, passive=True)
    for _ in range(2):
        async with expect_error(404, f"no exchange '{env.name}'"):
            await (await connection.channel()).declare_exchange(env.name, "topic", passive=True)
        async with expect_error(404, f"no queue '{env.name}'"):
            await (await connection.channel()).declare_queue(env.name, passive=True)


@case("drivers", about="driver")
async def exchange_is_durable_by_default(env: DriverEnv) -> None:
    """An exchange has the type that is asked for, and is durable, unless asked for otherwise."""
    beside, channel = await env.channel(), await env.driver_channel()
    for type_ in ("direct", "fanout", "topic", "headers"):
        exchange = env.undeclared("exchange")
        await channel.declare_exchange(exchange, type_)
        await beside.exchange_declare(exchange, type_, durable=True)
    transient = env.undeclared("exchange")
    await channel.declare_exchange(transient, "direct", durable=False)
    await beside.exchange_declare(transient, "direct", durable=False)


@case("drivers", about="driver")
async def exchange_that_deletes_itself(env: DriverEnv) -> None:
    """An exchange that is declared with `auto_delete` goes with its last binding."""
    beside, channel = await env.channel(), await env.driver_channel()
    exchange, queue = env.undeclared("exchange"), await env.queue(beside)
    await channel.declare_exchange(exchange, "fanout", auto_delete=True)
    await channel.bind_queue(queue, exchange, "")
    await beside.queue_delete(queue)
    async with expect_error(404):
        await channel.declare_exchange(exchange, "fanout", passive=True)


@case("drivers", about="driver")
async def internal_exchange(env: DriverEnv) -> None:
    """An exchange that is declared with `internal` refuses a publish with 403."""
    beside, channel = await env.channel(), await env.driver_channel()
    exchange = env.undeclared("exchange")
    await channel.declare_exchange(exchange, "fanout", internal=True)
    async with expect_closed(beside, 403, "internal"):
        await beside.publish(exchange, "")


@case("drivers", about="driver")
async def exchange_arguments(env: DriverEnv) -> None:
    """An exchange's arguments reach the broker: what nothing is bound for goes to the alternate."""
    beside, channel = await env.channel(), await env.driver_channel()
    alternate, exchange = await env.exchange(beside, "fanout"), env.undeclared("exchange")
    queue = await env.queue(beside, alternate)
    await channel.declare_exchange(exchange, "topic", arguments={"alternate-exchange": alternate})
    await beside.publish_confirmed(exchange, "k", b"m")
    assert await beside.bodies(queue) == [b"m"]


@case("drivers", about="driver")
async def queue_is_bound(env: DriverEnv) -> None:
    """A queue is bound by the key and arguments that are given; a binding may be made again."""
    beside, channel = await env.channel(), await env.driver_channel()
    topic, headers = await env.exchange(beside, "topic"), await env.exchange(beside, "headers")
    by_key, by_header = await env.queue(beside), await env.queue(beside)
    for _ in range(2):
        await channel.bind_queue(by_key, topic, "a.*")
        await channel.bind_queue(by_header, headers, "", {"x-match": "all", "n": 1, "on": True})
    for key in ("a.b", "b.a"):
        await beside.publish_confirmed(topic, key, key.encode())
    for number in (1, 2):
        fitting = {"n": number, "on": True}
        await beside.publish_confirmed(headers, "", b"%d" % number, headers=fitting)
    assert await beside.bodies(by_key) == [b"a.b"]
    assert await beside.bodies(by_header) == [b"1"]


@case("drivers", about="driver")
async def exchange_is_bound(env: DriverEnv) -> None:
    """The second exchange of `bind_exchange` gives to the first what fits key and arguments."""
    beside, channel = await env.channel(), await env.driver_channel()
    source, destination = await env.exchange(beside, "topic"), await env.exchange(beside, "fanout")
    headers, queue = await env.exchange(beside, "headers"), await env.queue(beside, destination)
    await channel.bind_exchange(destination, source, "a.#")
    await channel.bind_exchange(destination, headers, "", {"x-match": "all", "n": 1})
    await beside.publish_confirmed(source, "a.b", b"fits")
    await beside.publish_confirmed(source, "b.a", b"fits not")
    await beside.publish_confirmed(headers, "", b"fits", headers={"n": 1})
    await beside.publish_confirmed(headers, "", b"fits not", headers={"n": 2})
    assert await beside.bodies(queue) == [b"fits", b"fits"]


@case("drivers", about="driver")
async def binding_what_is_not_there(env: DriverEnv) -> None:
    """Binding to an exchange or a queue that does not exist fails with 404."""
    connection = await env.driver_connection()
    queue = await env.queue(await env.channel())
    async with expect_error(404, "no exchange"):
        await (await connection.channel()).bind_queue(queue, env.name, "k")
    async with expect_error(404, "no queue"):
        await (await connection.channel()).bind_queue(env.name, "amq.direct", "k")
    async with expect_error(404, "no exchange"):
        await (await connection.channel()).bind_exchange("amq.direct", env.name, "k")
