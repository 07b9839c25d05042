"""The bytes on the wire (AMQP 0-9-1, section 4.2 "AMQP Wire-Level Format")."""

from __future__ import annotations

from pamqp import commands

from mqkit.testing.conformance.env import BytesEnv
from mqkit.testing.conformance.peer import raw_frame
from mqkit.testing.conformance.suite import case

METHOD, HEADER, BODY = 1, 2, 3


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
async def channel_not_open(env: BytesEnv) -> None:
    """A method on a channel that was not opened closes the connection with 504."""
    peer = await env.peer()
    await peer.open()
    await peer.send(commands.Queue.Declare(queue=env.name), 7)
    await peer.expect_close(504, "CHANNEL_ERROR")


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
