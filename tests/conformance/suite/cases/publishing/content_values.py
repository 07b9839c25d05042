"""What a broker passes on of headers and properties, and what it refuses, byte for byte."""

from __future__ import annotations

from pamqp import commands

from tests.conformance.suite.env import BytesEnv
from tests.conformance.suite.features import Feature
from tests.conformance.suite.peer import (
    FRAME_HEADER,
    HEADER,
    METHOD,
    Peer,
    content_header,
    raw_frame,
)
from tests.conformance.suite.suite import case

NOT_UTF_8 = b"\x02\xff\xfe"
"""A short string."""

MALFORMED = {
    "a letter that is no type's": b"\x01aZ\x00\x00\x00\x01",
    "a text of more bytes than there are": b"\x01aS\x00\x00\x00\x09ab",
    "a name of more bytes than there are": b"\x20ab",
    "a number of fewer bytes than it needs": b"\x01aI\x00\x00",
    "a float that is no number": b"\x01af\x7f\xc0\x00\x01",
    "a double without end": b"\x01ad\x7f\xf0\x00\x00\x00\x00\x00\x00",
    "one of them in an array": b"\x01aA\x00\x00\x00\x05f\x7f\xc0\x00\x01",
}


def long(data: bytes) -> bytes:
    """Put the length of some bytes, in four octets, in front of them."""
    return len(data).to_bytes(4) + data


async def passed_on(env: BytesEnv, properties: bytes, key: bytes | None = None) -> bytes:
    """Publish a message with these properties; returns the flags and properties that come back."""
    beside, peer = await env.channel(), await env.opened()
    queue = await env.queue(beside)
    if key is not None:
        await beside.queue_bind(queue, "amq.topic", "#")
    to = queue.encode() if key is None else key
    exchange = b"" if key is None else b"amq.topic"
    names = bytes([len(exchange)]) + exchange + bytes([len(to)]) + to
    method = commands.Basic.Publish.index.to_bytes(4) + b"\x00\x00" + names + b"\x00"
    await peer.send_bytes(raw_frame(METHOD, 1, method))
    await peer.send_bytes(raw_frame(HEADER, 1, content_header(0, properties)))
    await peer.send(commands.Basic.Get(queue=queue, no_ack=True), 1)
    got = await frame_of(peer)
    assert got[:4] == commands.Basic.GetOk.index.to_bytes(4)
    if key is not None:
        assert bytes([len(key)]) + key == got[-5 - len(key) : -4]
    return (await frame_of(peer))[12:]


async def frame_of(peer: Peer) -> bytes:
    """Return the payload of the next frame, as it is."""
    start = await peer.receive_bytes(FRAME_HEADER.size)
    return (await peer.receive_bytes(FRAME_HEADER.unpack(start)[2] + 1))[:-1]


@case("content", about="bytes")
async def names_and_values_of_any_bytes(env: BytesEnv) -> None:
    """Names that are no UTF-8 or empty, and times without end, are delivered as they are."""
    table = b"\x00V" + b"\x01aT" + b"\xff" * 8 + NOT_UTF_8 + b"V"
    properties = b"\x20\x00" + long(table)
    assert await passed_on(env, properties) == properties


@case("content", about="bytes")
async def many_levels(env: BytesEnv) -> None:
    """Tables and arrays a thousand levels deep are delivered as they are."""
    for kind in (b"F", b"A"):
        value = b"V"
        for _ in range(1_000):
            value = kind + long(value if kind == b"A" else b"\x01a" + value)
        properties = b"\x20\x00" + long(b"\x01a" + value)
        assert await passed_on(env, properties) == properties


@case("content", about="bytes", needs={Feature.OWN_HEADERS})
async def headers_in_their_order(env: BytesEnv) -> None:
    """Headers come in the order of their names, of each name the first."""
    table = b"\x01zV" + b"\x01aB\x01" + b"\x01mV" + b"\x01aB\x02"
    expected = b"\x20\x00" + long(b"\x01aB\x01" + b"\x01mV" + b"\x01zV")
    assert await passed_on(env, b"\x20\x00" + long(table)) == expected


@case("content", about="bytes", needs={Feature.OWN_HEADERS})
async def booleans_and_unsigned_numbers(env: BytesEnv) -> None:
    """A boolean comes as 0 or 1, and an unsigned 64-bit number as a signed one, at any level."""
    sent = b"\x01aA" + long(b"t\x02L" + b"\xff" * 8) + b"\x01bt\xff" + b"\x01cL" + b"\xff" * 8
    came = b"\x01aA" + long(b"t\x01l" + b"\xff" * 8) + b"\x01bt\x01" + b"\x01cl" + b"\xff" * 8
    assert await passed_on(env, b"\x20\x00" + long(sent)) == b"\x20\x00" + long(came)


@case("content", about="bytes", needs={Feature.OWN_HEADERS})
async def properties_of_any_bytes(env: BytesEnv) -> None:
    """Properties that are no UTF-8, any priority, mode and time are delivered as they are."""
    properties = (
        b"\xde\xec"  # all but headers, expiration and user id
        + NOT_UTF_8 * 2
        + b"\x03\xff"
        + NOT_UTF_8 * 2
        + NOT_UTF_8
        + b"\xff" * 8
        + NOT_UTF_8 * 3
    )
    assert await passed_on(env, properties) == properties


@case("content", about="bytes")
async def routing_key_of_any_bytes(env: BytesEnv) -> None:
    """A routing key that is no UTF-8 routes, and is delivered as it is."""
    assert await passed_on(env, b"\x00\x00", key=b"a.\xff") == b"\x00\x00"


@case("content", about="bytes")
async def malformed_headers(env: BytesEnv) -> None:
    """A header table that is cut off, or has what is no value, closes the connection with 541."""
    for table in MALFORMED.values():
        peer = await env.opened()
        await peer.send(commands.Basic.Publish(routing_key=env.name), 1)
        properties = b"\x20\x00" + long(table)
        await peer.send_bytes(raw_frame(HEADER, 1, content_header(0, properties)))
        await peer.expect_close(541, "INTERNAL_ERROR")
