"""Opening a connection (AMQP 0-9-1, section 1.4 "Connection")."""

from __future__ import annotations

from tests.conformance.suite.env import Env, expect_connection_closed, expect_refused
from tests.conformance.suite.suite import case


@case("connections")
async def unknown_virtual_host(env: Env) -> None:
    """A virtual host that does not exist is refused with 530."""
    async with expect_refused(530, "NOT_ALLOWED"):
        await env.connection(vhost=env.name)


@case("connections")
async def wrong_password(env: Env) -> None:
    """A wrong password is refused with 403."""
    async with expect_refused(403, "ACCESS_REFUSED"):
        await env.connection(password=env.name)


@case("connections")
async def unknown_user(env: Env) -> None:
    """A user that does not exist is refused with 403."""
    async with expect_refused(403, "ACCESS_REFUSED"):
        await env.connection(username=env.name)


@case("connections")
async def tells_of_itself(env: Env) -> None:
    """The broker tells its product, its version and what it can do beyond AMQP."""
    told = (await env.connection()).server_properties
    assert told["product"]
    assert told["version"]
    for name in (
        "authentication_failure_close",
        "basic.nack",
        "connection.blocked",
        "consumer_cancel_notify",
        "consumer_priorities",
        "direct_reply_to",
        "exchange_exchange_bindings",
        "per_consumer_qos",
        "publisher_confirms",
    ):
        assert told["capabilities"][name] is True, name


@case("connections")
async def closing_gives_back_what_was_held(env: Env) -> None:
    """A connection that closes gives back what its channels had not acknowledged."""
    connection, channel = await env.connection(), await env.channel()
    queue = await env.queue(channel)
    await channel.publish_all("", queue, [b"1", b"2"])
    for _ in range(2):
        assert await (await connection.channel()).get(queue) is not None
    await connection.close()
    assert [(await env.arrives(channel, queue)).body for _ in range(2)] == [b"1", b"2"]


@case("connections")
async def closing_leaves_others_alone(env: Env) -> None:
    """A connection that an error closes leaves another one alone, of the same user."""
    failing, channel = await env.connection(), await (await env.connection()).channel()
    consumer = await channel.consume(await env.queue(channel))
    broken = await failing.channel()
    async with expect_connection_closed(broken, 540):
        await broken.flow(active=False)
    await channel.publish_confirmed("", consumer.queue, b"m")
    assert (await consumer.next()).body == b"m"


@case("connections")
async def error_closes_all_of_its_channels(env: Env) -> None:
    """An error that closes a connection closes all of its channels."""
    connection = await env.connection()
    channels = [await connection.channel() for _ in range(3)]
    async with expect_connection_closed(channels[0], 540):
        await channels[0].flow(active=False)
    for channel in channels[1:]:
        assert (await channel.closed).of_connection
