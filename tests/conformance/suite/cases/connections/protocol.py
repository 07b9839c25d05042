"""The bytes on the wire (AMQP 0-9-1, section 4.2 "AMQP Wire-Level Format")."""

from __future__ import annotations

from pamqp import commands, frame

from tests.conformance.suite.env import BytesEnv
from tests.conformance.suite.peer import (
    BODY,
    HEADER,
    METHOD,
    content_header,
    message_bytes,
    raw_frame,
)
from tests.conformance.suite.suite import case


def publish(key: str, exchange: str = "") -> commands.Basic.Publish:
    """A publish, of which the content must follow."""
    return commands.Basic.Publish(exchange=exchange, routing_key=key)


@case("protocol", about="bytes")
async def another_protocol(env: BytesEnv) -> None:
    """Bytes that are no AMQP header are answered with one that the broker knows, and EOF."""
    peer = await env.peer()
    await peer.send_bytes(b"GET / HTTP/1.1\r\n\r\n")
    assert (await peer.receive_bytes(8))[:4] == b"AMQP"
    await peer.expect_eof()


@case("protocol", about="bytes")
async def begins_with_start(env: BytesEnv) -> None:
    """The header `AMQP 0-9-1` is answered with connection.start, of version 0-9, offering PLAIN."""
    peer = await env.peer()
    await peer.send_bytes(b"AMQP\x00\x00\x09\x01")
    start = await peer.expect(commands.Connection.Start, 0)
    assert (start.version_major, start.version_minor) == (0, 9)
    assert "PLAIN" in str(start.mechanisms).split()


@case("protocol", about="bytes")
async def too_large_a_frame(env: BytesEnv) -> None:
    """A frame larger than the negotiated frame_max closes the connection with 501."""
    peer = await env.peer()
    await peer.open(frame_max=8192)
    await peer.open_channel(1)
    await peer.send_bytes(raw_frame(BODY, 1, bytes(8193)))
    await peer.expect_close(501, "FRAME_ERROR")


@case("protocol", about="bytes")
async def wrong_end_of_frame(env: BytesEnv) -> None:
    """A frame that does not end in 0xCE closes the connection with 501."""
    peer = await env.peer()
    await peer.open()
    await peer.send_bytes(raw_frame(METHOD, 1, b"\x00\x14\x00\x0a\x00", end=0))
    await peer.expect_close(501, "FRAME_ERROR")


@case("protocol", about="bytes")
async def unknown_method(env: BytesEnv) -> None:
    """A method that AMQP does not have ends the connection."""
    peer = await env.peer()
    await peer.open()
    await peer.open_channel(1)
    await peer.send_bytes(raw_frame(METHOD, 1, b"\x00\x3c\x03\xe7"))
    await peer.expect_end()


@case("protocol", about="bytes")
async def names_of_any_letters(env: BytesEnv) -> None:
    """A queue's name may be 255 bytes of any UTF-8, which some clients do not send."""
    channel = await env.channel()
    start = f"{env.name} \N{SNOWMAN}\N{PILE OF POO}/%*#"
    queue = start + "x" * (255 - len(start.encode()))
    assert (await channel.queue_declare(queue)).name == queue
    await channel.publish_confirmed("", queue, b"m")
    (delivery,) = await channel.drain(queue)
    assert delivery.routing_key == queue


@case("protocol", about="bytes")
async def in_single_bytes(env: BytesEnv) -> None:
    """Frames that come byte by byte are understood."""
    peer = await env.opened()
    for byte in frame.marshal(commands.Queue.Declare(queue=env.name, exclusive=True), 1):
        await peer.send_bytes(bytes([byte]))
    assert (await peer.expect(commands.Queue.DeclareOk, 1)).queue == env.name


@case("protocol", about="bytes")
async def unknown_frame_type(env: BytesEnv) -> None:
    """A frame of a type that AMQP does not have closes the connection with 501."""
    peer = await env.opened()
    await peer.send_bytes(raw_frame(7, 1, b""))
    await peer.expect_close(501, "FRAME_ERROR")


@case("protocol", about="bytes")
async def half_a_frame(env: BytesEnv) -> None:
    """A connection that breaks off within a frame loses that frame only."""
    beside, peer = await env.channel(), await env.opened()
    queue = await env.queue(beside)
    for body in (b"whole", b"half"):
        await peer.send(publish(queue), 1)
        await peer.send_bytes(raw_frame(HEADER, 1, content_header(len(body))))
        await peer.send_bytes(raw_frame(BODY, 1, body)[: None if body == b"whole" else -2])
    await peer.close()
    assert (await env.arrives(beside, queue)).body == b"whole"
    assert await beside.get(queue) is None


@case("protocol", about="bytes")
async def queue_method_on_channel_0(env: BytesEnv) -> None:
    """A method of a channel on channel 0 closes the connection with 504."""
    peer = await env.opened()
    await peer.send(commands.Queue.Declare(queue=env.name), 0)
    await peer.expect_close(504, "unexpected method in connection state running", class_id=50)


@case("protocol", about="bytes")
async def connection_method_on_a_channel(env: BytesEnv) -> None:
    """A method of connections on another channel than 0 closes the connection with 503."""
    peer = await env.opened()
    await peer.send(commands.Connection.TuneOk(1, 8192, 0), 1)
    await peer.expect_close(503, "COMMAND_INVALID - unimplemented method", class_id=10)


@case("protocol", about="bytes")
async def method_of_the_broker(env: BytesEnv) -> None:
    """A method that only a broker sends closes the connection with 503."""
    peer = await env.opened()
    await peer.send(commands.Queue.DeclareOk("q", 0, 0), 1)
    await peer.expect_close(503, "COMMAND_INVALID - unimplemented method", class_id=50)


@case("protocol", about="bytes")
async def truncated_method(env: BytesEnv) -> None:
    """A method whose arguments are cut short closes the connection with 501."""
    peer = await env.opened()
    await peer.send_bytes(raw_frame(METHOD, 1, b"\x00\x32\x00\x0a\x00\x00\x09abc"))
    await peer.expect_close(501, "FRAME_ERROR - cannot decode", class_id=50, method_id=10)


@case("protocol", about="bytes")
async def no_wait(env: BytesEnv) -> None:
    """A method with `nowait` is done, and not answered."""
    peer = await env.opened()
    await peer.send(commands.Queue.Declare(queue=env.name, exclusive=True, nowait=True), 1)
    await peer.send(commands.Confirm.Select(nowait=True), 1)
    await peer.send(commands.Queue.Declare(queue=env.name, passive=True), 1)
    assert (await peer.expect(commands.Queue.DeclareOk, 1)).queue == env.name


@case("protocol", about="bytes")
async def connection_close(env: BytesEnv) -> None:
    """connection.close is answered with close-ok, and nothing else."""
    peer = await env.opened()
    await peer.send(commands.Connection.Close(200, "bye", 0, 0))
    await peer.expect(commands.Connection.CloseOk, 0)


@case("protocol", about="bytes")
async def dropped_behind_connection_close(env: BytesEnv) -> None:
    """What a client sends behind its connection.close is dropped."""
    beside, peer = await env.channel(), await env.opened()
    queue = await env.queue(beside)
    await peer.send(commands.Connection.Close(200, "bye", 0, 0))
    await peer.send(commands.Queue.Delete(queue=queue), 1)
    await peer.expect(commands.Connection.CloseOk, 0)
    await beside.queue_declare(queue, passive=True)


@case("protocol", about="bytes")
async def dropped_behind_a_connection_error(env: BytesEnv) -> None:
    """What a client sends between the broker's connection.close and its close-ok is dropped."""
    beside, peer = await env.channel(), await env.opened()
    queue = await env.queue(beside)
    await peer.send(commands.Channel.Flow(active=False), 1)
    await peer.send(commands.Queue.Delete(queue=queue), 1)
    await peer.expect_close(540, "active=false")
    await beside.queue_declare(queue, passive=True)


@case("protocol", about="bytes")
async def heartbeat_on_a_channel(env: BytesEnv) -> None:
    """A heartbeat on another channel than 0 closes the connection with 505."""
    peer = await env.opened()
    await peer.send_bytes(raw_frame(8, 1, b""))
    await peer.expect_close(505, "UNEXPECTED_FRAME")


@case("protocol", about="bytes")
async def heartbeat_with_a_payload(env: BytesEnv) -> None:
    """A heartbeat with anything in it closes the connection with 501."""
    peer = await env.opened()
    await peer.send_bytes(raw_frame(8, 0, b"x"))
    await peer.expect_close(501, "FRAME_ERROR")


@case("protocol", about="bytes")
async def heartbeats_unasked(env: BytesEnv) -> None:
    """Heartbeats of a client that agreed on none are taken."""
    peer = await env.opened()
    await peer.send_bytes(raw_frame(8, 0, b"") * 3)
    await peer.open_channel(2)


@case("protocol", about="bytes")
async def connection_close_under_load(env: BytesEnv) -> None:
    """connection.close is answered though content is on its way, and what comes is read on."""
    peer = await env.opened()
    load = message_bytes(1, env.name, bytes(10_000)) * 200
    await peer.send_bytes(load)
    await peer.send(commands.Connection.Close(200, "bye", 0, 0))
    await peer.send_bytes(load)
    await peer.expect(commands.Connection.CloseOk, 0)
    await peer.send_bytes(load)
    # A second answer tells that the stream was neither ended nor reset by what came since.
    await peer.send(commands.Connection.Close(200, "bye", 0, 0))
    await peer.expect(commands.Connection.CloseOk, 0)
    await peer.send(commands.Connection.CloseOk())
    await peer.expect_eof()


@case("protocol", about="bytes")
async def close_ok_unasked(env: BytesEnv) -> None:
    """A connection.close-ok that nothing asked for closes the connection with 504."""
    peer = await env.opened()
    await peer.send(commands.Connection.CloseOk())
    await peer.expect_close(504, "unexpected method in connection state running", class_id=10)
