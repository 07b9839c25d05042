"""Channels, their errors and flow (AMQP 0-9-1, section 1.5)."""

from __future__ import annotations

from pamqp import commands

from tests.conformance.suite.env import BytesEnv, Env, expect_closed, expect_connection_closed
from tests.conformance.suite.peer import METHOD, message_bytes, raw_frame
from tests.conformance.suite.suite import case


@case("channels")
async def error_closes_no_other(env: Env) -> None:
    """An error closes its channel only: others of the connection go on, consumers and all."""
    connection = await env.connection()
    failing, other = await connection.channel(), await connection.channel()
    consumer = await other.consume(await env.queue(other))
    async with expect_closed(failing, 404):
        await failing.queue_declare(env.name, passive=True)
    await other.publish_confirmed("", consumer.queue, b"m")
    assert (await consumer.next()).body == b"m"


@case("channels")
async def error_gives_back_what_was_held(env: Env) -> None:
    """A channel closed by an error gives back what it had not acknowledged, as redelivered."""
    failing, other = await env.channel(), await env.channel()
    queue = await env.queue(other)
    await other.publish_confirmed("", queue, b"m")
    assert await failing.get(queue) is not None
    async with expect_closed(failing, 404):
        await failing.queue_declare(env.name, passive=True)
    delivery = await env.arrives(other, queue)
    assert delivery.redelivered


@case("channels")
async def closing_gives_back_what_was_held(env: Env) -> None:
    """A channel that is closed gives back what it had not acknowledged, as redelivered."""
    for kind in ("classic", "quorum"):
        closing, other = await env.channel(), await env.channel()
        queue = await env.queue(other, x_queue_type=kind)
        await other.publish_confirmed("", queue, b"m")
        assert await closing.get(queue) is not None
        await closing.close()
        delivery = await env.arrives(other, queue)
        assert delivery.redelivered


@case("channels")
async def closing_ends_consumers(env: Env) -> None:
    """A channel that is closed has no consumers any more."""
    closing, other = await env.channel(), await env.channel()
    queue = (await closing.consume(await env.queue(closing))).queue
    await closing.close()

    async def has_no_consumer() -> bool:
        return (await other.queue_declare(queue, passive=True)).consumers == 0

    await env.eventually(has_no_consumer, "the consumer is gone")


@case("channels")
async def number_is_used_again(env: Env) -> None:
    """The number of a channel that an error closed may be opened again, and counts from 1."""
    connection = await env.connection()
    for _ in range(3):
        channel = await connection.channel()
        queue = await env.queue(channel)
        await channel.publish_confirmed("", queue)
        delivery = await channel.get(queue)
        assert delivery is not None
        assert (delivery.tag, channel.confirms[-1].tag) == (1, 1)
        async with expect_closed(channel, 404):
            await channel.queue_declare(env.name, passive=True)


@case("channels")
async def flow_on(env: Env) -> None:
    """channel.flow that turns on what is on is answered."""
    channel = await env.channel()
    await channel.flow(active=True)
    await channel.round_trip()


@case("channels")
async def flow_off(env: Env) -> None:
    """channel.flow that turns deliveries off is refused with 540, which closes the connection."""
    channel = await (await env.connection()).channel()
    async with expect_connection_closed(channel, 540, "active=false"):
        await channel.flow(active=False)


@case("channels", about="bytes")
async def opening_answers_with_nothing(env: BytesEnv) -> None:
    """channel.open-ok carries an empty long string, which some clients read as a number: 0."""
    peer = await env.peer()
    await peer.open()
    await peer.send(commands.Channel.Open(), 3)
    open_ok = b"\x00\x14\x00\x0b" + bytes(4)
    expected = raw_frame(METHOD, 3, open_ok)
    assert await peer.receive_bytes(len(expected)) == expected


@case("channels", about="bytes")
async def closing_under_load(env: BytesEnv) -> None:
    """What was on its way when an error closed the channel is dropped, contents and all."""
    peer = await env.opened()
    load = message_bytes(1, env.name, bytes(10_000)) * 200
    await peer.send(commands.Basic.Ack(99), 1)
    await peer.send_bytes(load)
    await peer.send(commands.Channel.Close(200, "", 0, 0), 1)
    await peer.expect(commands.Channel.Close, 1)
    await peer.expect(commands.Channel.CloseOk, 1)
    await peer.send_bytes(load)
    await peer.send(commands.Channel.CloseOk(), 1)
    await peer.open_channel(1)


@case("channels", about="bytes")
async def channel_not_open(env: BytesEnv) -> None:
    """A method on a channel that was not opened closes the connection with 504."""
    peer = await env.peer()
    await peer.open()
    await peer.send(commands.Queue.Declare(queue=env.name), 7)
    await peer.expect_close(504, "CHANNEL_ERROR")


@case("channels", about="bytes")
async def channel_opened_twice(env: BytesEnv) -> None:
    """Opening a channel that is open closes the connection with 504."""
    peer = await env.opened()
    await peer.send(commands.Channel.Open(), 1)
    await peer.expect_close(504, "second 'channel.open' seen", class_id=20, method_id=10)


@case("channels", about="bytes")
async def channel_closed_and_opened(env: BytesEnv) -> None:
    """A channel that the client closed may be opened again, and nothing else done on it."""
    peer = await env.opened()
    await peer.send(commands.Channel.Close(200, "", 0, 0), 1)
    await peer.expect(commands.Channel.CloseOk, 1)
    await peer.open_channel(1)
    await peer.send(commands.Channel.Close(200, "", 0, 0), 1)
    await peer.expect(commands.Channel.CloseOk, 1)
    await peer.send(commands.Queue.Declare(queue=env.name), 1)
    await peer.expect_close(504, "CHANNEL_ERROR")


@case("channels", about="bytes")
async def closing_an_unopened_channel(env: BytesEnv) -> None:
    """channel.close, or its close-ok, on a channel that is not open closes the connection: 504."""
    for method in (commands.Channel.Close(200, "", 0, 0), commands.Channel.CloseOk()):
        peer = await env.opened()
        await peer.send(method, 5)
        await peer.expect_close(504, "expected 'channel.open'", class_id=20)


@case("channels", about="bytes")
async def error_names_its_method(env: BytesEnv) -> None:
    """channel.close tells the class and the number of the method that was wrong."""
    peer = await env.opened()
    await peer.send(commands.Queue.Purge(queue=env.name), 1)
    close = await peer.expect(commands.Channel.Close, 1)
    assert (close.reply_code, close.class_id, close.method_id) == (404, 50, 30)


@case("channels", about="bytes")
async def dropped_behind_an_error(env: BytesEnv) -> None:
    """What comes on a channel between its error and close-ok is dropped; then it may be opened."""
    peer = await env.opened()
    await peer.open_channel(2)
    await peer.send(commands.Queue.Declare(queue=env.name, passive=True), 1)
    await peer.send(commands.Queue.Declare(queue=env.name, exclusive=True), 1)
    await peer.expect_channel_close(1, 404)
    await peer.open_channel(1)
    await peer.send(commands.Queue.Declare(queue=env.name, passive=True), 2)
    await peer.expect_channel_close(2, 404)


@case("channels", about="bytes")
async def both_close_a_channel(env: BytesEnv) -> None:
    """channel.close that crosses the broker's own is answered, and the channel may be opened."""
    peer = await env.opened()
    await peer.send(commands.Queue.Purge(queue=env.name), 1)
    await peer.send(commands.Channel.Close(200, "", 0, 0), 1)
    await peer.expect(commands.Channel.Close, 1)
    await peer.expect(commands.Channel.CloseOk, 1)
    await peer.send(commands.Channel.CloseOk(), 1)
    await peer.open_channel(1)
