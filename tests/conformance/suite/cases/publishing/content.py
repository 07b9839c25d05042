"""A message's frames (AMQP 0-9-1, section 4.2.6 "Content Framing")."""

from __future__ import annotations

from pamqp import commands

from tests.conformance.suite.env import BytesEnv
from tests.conformance.suite.features import Feature
from tests.conformance.suite.peer import BODY, HEADER, content_header, raw_frame
from tests.conformance.suite.suite import case

FIELDS = {
    b"1": b"t\x01",
    b"2": b"b\xff",
    b"3": b"B\xff",
    b"4": b"s\xff\xff",
    b"5": b"u\xff\xff",
    b"6": b"I\xff\xff\xff\xff",
    b"7": b"i\xff\xff\xff\xff",
    b"8": b"l\xff\xff\xff\xff\xff\xff\xff\xff",
    b"9": b"f\x3f\xc0\x00\x00",
    b"a": b"d\x3f\xf8\x00\x00\x00\x00\x00\x00",
    b"b": b"D\x02\x00\x00\x00\x7d",
    b"c": b"S\x00\x00\x00\x02\xc3\xa4",
    b"d": b"S\x00\x00\x00\x02\xff\xfe",
    b"e": b"x\x00\x00\x00\x03\x00\xff\xce",
    b"f": b"T\x00\x00\x00\x00\x65\x53\xf1\x00",
    b"g": b"V",
    b"h": b"A\x00\x00\x00\x04t\x01b\x02",
    b"i": b"F\x00\x00\x00\x04\x01at\x00",
}
"""Each type of value by its letter: https://www.rabbitmq.com/amqp-0-9-1-errata#section_3"""


def publish(key: str, exchange: str = "") -> commands.Basic.Publish:
    """A publish, of which the content must follow."""
    return commands.Basic.Publish(exchange=exchange, routing_key=key)


@case("content", about="bytes")
async def half_a_message(env: BytesEnv) -> None:
    """A message of which not all frames came reaches no queue."""
    beside, peer = await env.channel(), await env.opened()
    queue = await env.queue(beside)
    await peer.send(publish(queue), 1)
    await peer.send_bytes(raw_frame(HEADER, 1, content_header(10)) + raw_frame(BODY, 1, b"12345"))
    await peer.send(commands.Connection.Close(200, "", 0, 0))
    await peer.expect(commands.Connection.CloseOk)
    assert await beside.bodies(queue) == []


@case("content", about="bytes")
async def body_in_pieces(env: BytesEnv) -> None:
    """A body may come in frames of any size, empty ones too."""
    beside, peer = await env.channel(), await env.opened()
    queue = await env.queue(beside)
    await peer.send(publish(queue), 1)
    await peer.send_bytes(raw_frame(HEADER, 1, content_header(6)))
    for piece in (b"1", b"23", b"", b"456"):
        await peer.send_bytes(raw_frame(BODY, 1, piece))
    assert (await env.arrives(beside, queue)).body == b"123456"


@case("content", about="bytes")
async def channels_interleave(env: BytesEnv) -> None:
    """The frames of messages on two channels may come in turns."""
    beside, peer = await env.channel(), await env.opened()
    await peer.open_channel(2)
    queue = await env.queue(beside)
    for number in (1, 2):
        await peer.send(publish(queue), number)
    for number in (2, 1):
        await peer.send_bytes(raw_frame(HEADER, number, content_header(1)))
    for number in (1, 2):
        await peer.send_bytes(raw_frame(BODY, number, b"%d" % number))
    bodies = [(await env.arrives(beside, queue)).body for _ in range(2)]
    assert sorted(bodies) == [b"1", b"2"]


@case("content", about="bytes")
async def method_within_content(env: BytesEnv) -> None:
    """A method where a message's content should come closes the connection with 505."""
    peer = await env.opened()
    await peer.send(publish(env.name), 1)
    await peer.send(publish(env.name), 1)
    await peer.expect_close(505, "expected content header for class 60", class_id=60)


@case("content", about="bytes")
async def header_without_publish(env: BytesEnv) -> None:
    """A content header that no method announced closes the connection with 505."""
    peer = await env.opened()
    await peer.send_bytes(raw_frame(HEADER, 1, content_header(1)))
    await peer.expect_close(505, "expected method frame", class_id=0)


@case("content", about="bytes")
async def body_without_header(env: BytesEnv) -> None:
    """A body frame where a content header should come closes the connection with 505."""
    peer = await env.opened()
    await peer.send(publish(env.name), 1)
    await peer.send_bytes(raw_frame(BODY, 1, b"1"))
    await peer.expect_close(505, "expected content header for class 60", class_id=60)


@case("content", about="bytes")
async def header_of_another_class(env: BytesEnv) -> None:
    """A content header of another class than the method's closes the connection with 505."""
    peer = await env.opened()
    await peer.send(publish(env.name), 1)
    await peer.send_bytes(raw_frame(HEADER, 1, content_header(1, class_id=50)))
    await peer.expect_close(505, "expected content header for class 60", class_id=60)


@case("content", about="bytes", needs={Feature.BODY_SIZE_IS_CHECKED})
async def body_longer_than_its_header(env: BytesEnv) -> None:
    """A body longer than its header said closes the connection with 501."""
    peer = await env.opened()
    await peer.send(publish(env.name), 1)
    await peer.send_bytes(raw_frame(HEADER, 1, content_header(1)) + raw_frame(BODY, 1, b"12"))
    await peer.expect_close(501, "content body frame exceeds remaining content size")


@case("content", about="bytes")
async def content_on_channel_0(env: BytesEnv) -> None:
    """Content on channel 0 closes the connection with 505."""
    peer = await env.opened()
    await peer.send_bytes(raw_frame(HEADER, 0, content_header(1)))
    await peer.expect_close(505, "UNEXPECTED_FRAME")


@case("content", about="bytes")
async def unknown_field_type(env: BytesEnv) -> None:
    """A header table with a type of value that AMQP does not have ends the connection."""
    peer = await env.opened()
    table = b"\x01aQ1234"
    properties = b"\x20\x00" + len(table).to_bytes(4) + table
    await peer.send(publish(env.name), 1)
    await peer.send_bytes(raw_frame(HEADER, 1, content_header(0, properties)))
    await peer.expect_end()


@case("content", about="bytes")
async def field_types(env: BytesEnv) -> None:
    """Header values of every type that RabbitMQ takes are delivered byte for byte."""
    beside, peer = await env.channel(), await env.opened()
    queue = await env.queue(beside)
    table = b"".join(bytes([1]) + name + value for name, value in FIELDS.items())
    header = content_header(0, b"\x20\x00" + len(table).to_bytes(4) + table)
    await peer.send(publish(queue), 1)
    await peer.send_bytes(raw_frame(HEADER, 1, header))
    await peer.send(commands.Basic.Get(queue=queue, no_ack=True), 1)
    await peer.expect(commands.Basic.GetOk)
    assert await peer.receive_bytes(7 + len(header) + 1) == raw_frame(HEADER, 1, header)


@case("content", about="bytes")
async def nested_tables(env: BytesEnv) -> None:
    """Tables within tables, a hundred deep, are delivered byte for byte."""
    beside, peer = await env.channel(), await env.opened()
    queue = await env.queue(beside)
    table = b""
    for _ in range(100):
        table = b"\x01aF" + len(table).to_bytes(4) + table
    header = content_header(0, b"\x20\x00" + len(table).to_bytes(4) + table)
    await peer.send(publish(queue), 1)
    await peer.send_bytes(raw_frame(HEADER, 1, header))
    await peer.send(commands.Basic.Get(queue=queue, no_ack=True), 1)
    await peer.expect(commands.Basic.GetOk)
    assert await peer.receive_bytes(7 + len(header) + 1) == raw_frame(HEADER, 1, header)


@case("content", about="bytes")
async def immediate(env: BytesEnv) -> None:
    """Publishing with `immediate` closes the connection with 540."""
    peer = await env.opened()
    await peer.send(commands.Basic.Publish(exchange="", routing_key="a", immediate=True), 1)
    await peer.send_bytes(raw_frame(HEADER, 1, content_header(0)))
    await peer.expect_close(540, "immediate=true", class_id=60, method_id=40)


@case("content", about="bytes", needs={Feature.BODY_LIMIT})
async def too_long_a_body(env: BytesEnv) -> None:
    """A body of more than 16 MiB closes the channel with 406 when the whole of it has come."""
    peer = await env.opened()
    size, step = 16 * 1024 * 1024 + 1, 100_000
    await peer.send(publish(env.name), 1)
    await peer.send_bytes(raw_frame(HEADER, 1, content_header(size)))
    frame = raw_frame(BODY, 1, bytes(step))
    for _ in range(size // step):
        await peer.send_bytes(frame)
    # Another channel is served meanwhile: nothing was said of this one.
    await peer.open_channel(2)
    await peer.send_bytes(raw_frame(BODY, 1, bytes(size % step)))
    await peer.expect_channel_close(
        1, 406, f"message size {size} is larger than configured max size {size - 1}"
    )
    await peer.open_channel(1)


@case("content", about="bytes", needs={Feature.HUGE_BODY_CLOSES})
async def too_long_a_body_for_any(env: BytesEnv) -> None:
    """A header that announces more than 512 MiB closes the connection with 501 at once."""
    peer = await env.opened()
    size = 512 * 1024 * 1024 + 1
    await peer.send(publish(env.name), 1)
    await peer.send_bytes(raw_frame(HEADER, 1, content_header(size)))
    await peer.expect_close(
        501,
        f"content body size {size} exceeds maximum allowed size {size - 1}",
        class_id=60,
        method_id=40,
    )


@case("content", about="bytes")
async def what_came_instead_of_content(env: BytesEnv) -> None:
    """The words of a 505 tell whether a content header was to come, or a body."""
    text = "expected content header for class 60, got non content header frame instead"
    peer = await env.opened()
    await peer.send(publish(env.name), 1)
    await peer.send(commands.Basic.Get(queue=env.name), 1)
    await peer.expect_close(505, text, class_id=60, method_id=40)
    peer = await env.opened()
    await peer.send(publish(env.name), 1)
    await peer.send_bytes(raw_frame(HEADER, 1, content_header(3)) * 2)
    text = "expected content body, got non content body frame instead"
    await peer.expect_close(505, text, class_id=60, method_id=40)
