"""How a connection begins (AMQP 0-9-1, sections 1.4 and 2.2.4)."""

from __future__ import annotations

import asyncio
from typing import Any

from pamqp import commands, encode
from pamqp.body import ContentBody
from pamqp.header import ContentHeader
from pamqp.heartbeat import Heartbeat

from mqkit.testing.brokers.probe import PROTOCOL_HEADER
from tests.conformance.suite.env import BytesEnv
from tests.conformance.suite.peer import CLIENT_PROPERTIES, Peer
from tests.conformance.suite.suite import case

FRAME_MIN = 4096
"""Bytes of a frame that everybody must take (AMQP 0-9-1, section 4.2.3)."""

OTHER_HEADERS = (b"AMQP\x00\x00\x09\x02", b"AMQP\x05\x05\x05\x05", b"amqp\x00\x00\x09\x01")


async def start_ok(
    env: BytesEnv, mechanism: str, response: str, properties: dict[str, Any] | None = None
) -> Peer:
    """Answer connection.start with this."""
    peer = await env.peer()
    await peer.send_bytes(PROTOCOL_HEADER)
    await peer.expect(commands.Connection.Start)
    await peer.send(
        commands.Connection.StartOk(
            client_properties=CLIENT_PROPERTIES if properties is None else properties,
            mechanism=mechanism,
            response=response,
            locale="en_US",
        )
    )
    return peer


def amqplain_response(username: str, password: str) -> str:
    """Encode the response of AMQPLAIN: a table without its length."""
    return encode.field_table({"LOGIN": username, "PASSWORD": password})[4:].decode()


@case("handshake", about="bytes")
async def other_versions(env: BytesEnv) -> None:
    """The header of a version that there is not is answered with AMQP 0-9-1's own, and EOF."""
    for header in OTHER_HEADERS:
        peer = await env.peer()
        await peer.send_bytes(header)
        assert (await peer.receive_bytes(8))[:4] == b"AMQP"
        await peer.expect_eof()


@case("handshake", about="bytes")
async def in_single_bytes(env: BytesEnv) -> None:
    """A header and frames that come byte by byte are understood."""
    peer = await env.peer()
    for byte in PROTOCOL_HEADER:
        await peer.send_bytes(bytes([byte]))
    await peer.expect(commands.Connection.Start)


@case("handshake", about="bytes")
async def amqplain(env: BytesEnv) -> None:
    """The mechanism AMQPLAIN takes a table of LOGIN and PASSWORD."""
    url = (await env.peer()).url
    response = amqplain_response(url.username, url.password.get_secret_value())
    peer = await start_ok(env, "AMQPLAIN", response)
    await peer.expect(commands.Connection.Tune)


@case("handshake", about="bytes")
async def refusal_is_told_to_who_understands(env: BytesEnv) -> None:
    """A wrong password is answered with connection.close 403, naming the mechanism."""
    wrong = {"PLAIN": f"\0guest\0{env.name}", "AMQPLAIN": amqplain_response("guest", env.name)}
    for mechanism, response in wrong.items():
        peer = await start_ok(env, mechanism, response)
        text = (
            f"Login was refused using authentication mechanism {mechanism}. For details see the "
            "broker logfile."
        )
        await peer.expect_close(403, text, class_id=0, method_id=0)


@case("handshake", about="bytes")
async def refusal_is_silent_otherwise(env: BytesEnv) -> None:
    """A client without the capability `authentication_failure_close` is dropped without a word."""
    peer = await start_ok(env, "PLAIN", f"\0guest\0{env.name}", {})
    await peer.expect_eof()


@case("handshake", about="bytes")
async def unknown_mechanism(env: BytesEnv) -> None:
    """A mechanism that the broker did not offer ends the connection."""
    peer = await start_ok(env, "NONESUCH", "")
    await peer.expect_end()


@case("handshake", about="bytes")
async def frame_max_within_limits(env: BytesEnv) -> None:
    """A frame_max below the least, above the proposed one, or without limit ends the connection."""
    peer = await env.peer()
    await peer.handshake()
    for frame_max in (FRAME_MIN - 1, int(peer.tune.frame_max or 0) + 1, 0):
        peer = await env.peer()
        await peer.handshake(frame_max=frame_max)
        await peer.send(commands.Connection.Open(virtual_host=peer.url.vhost))
        await peer.expect_end()


@case("handshake", about="bytes")
async def channel_max_within_limits(env: BytesEnv) -> None:
    """A channel_max above the proposed one, or without limit, ends the connection."""
    peer = await env.peer()
    await peer.handshake()
    for channel_max in (int(peer.tune.channel_max or 0) + 1, 0):
        peer = await env.peer()
        await peer.handshake(channel_max=channel_max)
        await peer.send(commands.Connection.Open(virtual_host=peer.url.vhost))
        await peer.expect_end()


@case("handshake", about="bytes")
async def channels_beyond_the_limit(env: BytesEnv) -> None:
    """Opening more channels than channel_max is a 530, whatever their numbers."""
    peer = await env.peer()
    await peer.open(channel_max=2)
    await peer.open_channel(3)
    await peer.open_channel(9)
    await peer.send(commands.Channel.Open(), 1)
    await peer.expect_close(530, "number of channels opened (2) has reached the negotiated")


@case("handshake", about="bytes")
async def frame_max_holds_for_the_broker(env: BytesEnv) -> None:
    """The broker sends no frame larger than the negotiated frame_max."""
    beside = await env.channel()
    queue, body = await env.queue(beside), bytes(20_000)
    await beside.publish_confirmed("", queue, body)
    peer = await env.peer()
    await peer.open(frame_max=8192)
    await peer.open_channel(1)
    await peer.send(commands.Basic.Get(queue=queue, no_ack=True), 1)
    await peer.expect(commands.Basic.GetOk)
    await peer.expect(ContentHeader)
    sizes = [len((await peer.expect(ContentBody)).value) for _ in range(3)]
    assert sum(sizes) == len(body)
    assert max(sizes) <= 8192 - 8


@case("handshake", about="bytes")
async def channel_before_open(env: BytesEnv) -> None:
    """A channel's frame before connection.open ends the connection."""
    peer = await env.peer()
    await peer.handshake()
    await peer.send(commands.Channel.Open(), 1)
    await peer.expect_end()


@case("handshake", about="bytes")
async def out_of_turn(env: BytesEnv) -> None:
    """connection.open in answer to connection.start ends the connection."""
    peer = await env.peer()
    await peer.send_bytes(PROTOCOL_HEADER)
    await peer.expect(commands.Connection.Start)
    await peer.send(commands.Connection.Open(virtual_host="/"))
    await peer.expect_end()


@case("handshake", about="bytes")
async def no_such_virtual_host(env: BytesEnv) -> None:
    """Opening a virtual host that does not exist is a 530 of connection.open."""
    peer = await env.peer()
    await peer.handshake()
    await peer.send(commands.Connection.Open(virtual_host=env.name))
    await peer.expect_close(530, f"vhost {env.name} not found", class_id=10, method_id=40)


@case("handshake", about="bytes")
async def heartbeats_are_sent(env: BytesEnv) -> None:
    """The broker sends heartbeats where one was agreed on: frames of type 8, on channel 0."""
    peer = await env.peer()
    await peer.open(heartbeat=1)
    assert await peer.receive_bytes(8) == b"\x08\x00\x00\x00\x00\x00\x00\xce"


@case("handshake", about="bytes")
async def missed_heartbeats(env: BytesEnv) -> None:
    """A client that sends nothing for more than two heartbeats is dropped."""
    peer = await env.peer()
    await peer.open(heartbeat=1)
    try:
        await peer.receive()
    except EOFError:
        return
    raise AssertionError("something else than heartbeats came")


@case("handshake", about="bytes")
async def heartbeats_keep_alive(env: BytesEnv) -> None:
    """A client that sends heartbeats only is not dropped."""
    peer = await env.peer()
    await peer.open(heartbeat=1)
    for _ in range(8):
        await asyncio.sleep(0.4)
        await peer.send(Heartbeat())
    await peer.open_channel(1)
