"""Peers that send nonsense: told so or dropped, at no cost to anybody else."""

from __future__ import annotations

import gc
import logging
import os
import random
import tracemalloc
from collections.abc import Iterator

import pytest
from pamqp import body, commands, header

from mqkit.embedded.engine.node import Node
from tests.unit.embedded.support import PROTOCOL_HEADER, Client, marshal, opened, publish

STRINGS = 10_000 if os.environ.get("MQKIT_TEST_LONG") else 1_000
"""Random byte strings, of each kind, that a broker must survive."""

VISITS = 900 if os.environ.get("MQKIT_TEST_LONG") else 450
"""Bad peers that must leave nothing behind."""


@pytest.fixture
def node() -> Node:
    """A broker."""
    return Node()


@pytest.fixture(autouse=True)
def _no_internal_error(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """A fault of the broker's own is logged; none of these peers may cause one."""
    with caplog.at_level(logging.ERROR, "mqkit.embedded"):
        yield
    assert [record.getMessage() for record in caplog.get_records("call")] == []


def conversation() -> list[bytes]:
    """What a client says that declares, binds, publishes, consumes, acks and closes."""
    return [
        PROTOCOL_HEADER,
        marshal(commands.Connection.StartOk({"product": "x"}, "PLAIN", "\0guest\0guest")),
        marshal(commands.Connection.TuneOk(2047, 131072, 0)),
        marshal(commands.Connection.Open()),
        marshal(commands.Channel.Open(), 1),
        marshal(commands.Confirm.Select(), 1),
        marshal(commands.Exchange.Declare(0, "x", "headers", durable=True), 1),
        marshal(
            commands.Queue.Declare(
                0, "q", exclusive=True, arguments={"x-max-length": 3, "x-message-ttl": 50}
            ),
            1,
        ),
        marshal(commands.Queue.Bind(0, "q", "x", "k", arguments={"a": 1, "x-match": "any"}), 1),
        publish("x", "k", b"0123456789", headers={"a": 1, "deep": {"list": [1, "x", None]}}),
        publish("", "q", b"", expiration="30", priority=3, delivery_mode=2),
        marshal(commands.Basic.Qos(0, 2), 1),
        marshal(commands.Basic.Consume(0, "q", "c"), 1),
        marshal(commands.Basic.Ack(1, multiple=False), 1),
        marshal(commands.Basic.Get(0, "q"), 1),
        marshal(commands.Basic.Nack(0, multiple=True, requeue=True), 1),
        marshal(commands.Channel.Close(200, "bye", 0, 0), 1),
    ]


def deaf_and_dead(client: Client) -> None:
    """The stream ends, as it does after whatever was sent."""
    client.collect()
    client.connection.lost()


def test_random_byte_strings_are_no_frames(node: Node) -> None:
    """A thousand random byte strings as a first word end their connections, and nobody else's."""
    other, chance = opened(node), random.Random(1)
    for _ in range(STRINGS):
        peer = Client(node)
        peer.connection.receive(chance.randbytes(chance.randint(1, 300)))
        peer.connection.lost()
    assert list(node.connections) == [other.connection]
    other.declare()


def test_random_byte_strings_after_the_handshake(node: Node) -> None:
    """A thousand random byte strings on open connections close them with a reply code."""
    other, chance = opened(node), random.Random(2)
    codes: dict[int, int] = {}
    for _ in range(STRINGS):
        peer = opened(node)
        peer.received.clear()
        # The first octet is a frame's type often enough to get past it.
        kind = chance.choice((1, 2, 3, 8, chance.randrange(256)))
        length = chance.randint(0, 60)
        peer.send_bytes(
            bytes((kind,))
            + chance.choice((0, 1, chance.randrange(65536))).to_bytes(2)
            + length.to_bytes(4)
            + chance.randbytes(length)
            + chance.choice((b"\xce", chance.randbytes(1)))
        )
        for close in peer.of(commands.Connection.Close):
            codes[close.reply_code or 0] = codes.get(close.reply_code or 0, 0) + 1
        deaf_and_dead(peer)
    assert list(node.connections) == [other.connection]
    assert set(codes) <= {501, 502, 503, 504, 505, 541}, codes
    assert {501, 503, 541} <= set(codes), codes
    other.declare()


def test_a_conversation_with_flipped_bits(node: Node) -> None:
    """A thousand conversations with octets changed end in words or an end, and leave nothing."""
    other, chance = opened(node), random.Random(3)
    good = b"".join(conversation())
    for _ in range(STRINGS):
        data = bytearray(good)
        for _ in range(chance.randint(1, 4)):
            data[chance.randrange(8, len(data))] = chance.randrange(256)
        peer = Client(node)
        for at in range(0, len(data), 97):
            peer.connection.receive(bytes(data[at : at + 97]))
        peer.connection.lost()
    assert list(node.connections) == [other.connection]
    assert all(queue.owner is None for queue in node.vhosts["/"].queues.values())
    other.declare("still-here")


def test_memory_does_not_grow(node: Node) -> None:
    """After 300 bad peers, 450 more leave nothing behind."""
    chance = random.Random(4)
    good = b"".join(conversation())

    def visit(times: int) -> None:
        for _ in range(times):
            data = bytearray(good)
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
            peer = Client(node)
            peer.connection.receive(bytes(data))
            peer.connection.lost()
        # A changed octet may name another exchange or queue, which stays: that is no leak.
        vhost = node.vhosts["/"]
        for queue in list(vhost.queues.values()):
            vhost.delete_queue(queue)
        for name in [n for n in vhost.exchanges if n and not n.startswith("amq.")]:
            vhost.delete_exchange(name)
        node.advance(1)
        gc.collect()

    def held() -> int:
        """Bytes that the broker's own modules hold; the codec has caches of its own."""
        ours = [tracemalloc.Filter(True, "*/mqkit/embedded/*")]
        traces = tracemalloc.take_snapshot().filter_traces(ours).statistics("filename")
        return sum(trace.size for trace in traces)

    tracemalloc.start()
    try:
        visit(300)
        before = held()
        visit(VISITS)
        grown = held() - before
    finally:
        tracemalloc.stop()
    assert grown < 2_000, f"{grown} bytes more after {VISITS} peers"


@pytest.mark.parametrize(
    "start",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"AMQP\x00\x00\x08\x00",
        b"AMQP\x01\x01\x00\x09",
        b"\x16\x03\x01\x02",
    ],
)
def test_another_protocol_is_told_which_is_spoken(node: Node, start: bytes) -> None:
    """A peer that begins otherwise gets AMQP 0-9-1's protocol header, and the end (4.2.2)."""
    peer = Client(node)
    peer.connection.receive(start)
    assert peer.connection.output() == PROTOCOL_HEADER
    assert peer.connection.is_closed


def test_a_frame_over_frame_max_is_refused_before_it_came(node: Node) -> None:
    """The seven octets that announce too large a frame are answered by 501; no more is kept."""
    peer = opened(node)
    peer.send_bytes(b"\x03\x00\x01" + (200_000).to_bytes(4))
    assert peer.last().reply_code == 501
    peer.send_bytes(b"x" * 100_000)
    # As much as may be the beginning of the peer's answer.
    assert len(peer.connection._reader.peek(100)) < 12
    peer.send(commands.Connection.CloseOk(), channel=0)
    assert peer.connection.is_closed


def test_a_body_longer_than_announced_is_refused(node: Node) -> None:
    """A body frame beyond the size of its header closes the connection with 501."""
    peer = opened(node)
    peer.declare()
    head = header.ContentHeader(0, 3, commands.Basic.Properties())
    peer.send(commands.Basic.Publish(0, "", "q"), head, body.ContentBody(b"four"))
    assert peer.last().reply_code == 501


def test_a_message_over_the_limit_is_refused_when_it_has_come(node: Node) -> None:
    """17 MiB close the channel with 406 at their end, as RabbitMQ does; none of it is kept."""
    peer = opened(node)
    peer.declare()
    size = 17 * 1024 * 1024
    head = header.ContentHeader(0, size, commands.Basic.Properties())
    peer.send(commands.Basic.Publish(0, "", "q"), head)
    part = marshal(body.ContentBody(bytes(64 * 1024)), 1)
    tracemalloc.start()
    try:
        for _ in range(size // (64 * 1024) - 1):
            peer.send_bytes(part)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert not peer.of(commands.Channel.Close)
    assert most < 2 * 1024 * 1024
    peer.send_bytes(part)
    assert peer.last().reply_code == 406
    assert peer.connection.is_open


def test_a_message_over_any_limit_is_refused_unread(node: Node) -> None:
    """A header that announces more than 512 MiB closes the connection with 501 (RabbitMQ 4.3)."""
    peer = opened(node)
    peer.declare()
    head = header.ContentHeader(0, 512 * 1024 * 1024 + 1, commands.Basic.Properties())
    peer.send(commands.Basic.Publish(0, "", "q"), head)
    assert peer.last().reply_code == 501
    assert (peer.last().class_id, peer.last().method_id) == (60, 40)


def test_tables_within_tables_do_not_exhaust_the_stack(node: Node) -> None:
    """A header table nested 10,000 deep is passed on as it came, as RabbitMQ does."""
    peer = opened(node)
    peer.declare()
    table = b""
    for _ in range(10_000):
        table = b"\x01tF" + len(table).to_bytes(4) + table if len(table) < 100_000 else table
    payload = b"\x00\x3c\x00\x00" + (0).to_bytes(8) + b"\x20\x00" + len(table).to_bytes(4) + table
    peer.send(commands.Basic.Publish(0, "", "q"))
    peer.send_bytes(b"\x02\x00\x01" + len(payload).to_bytes(4) + payload + b"\xce")
    assert peer.depth() == 1
    peer.connection.receive(marshal(commands.Basic.Get(0, "q"), 1))
    assert payload in peer.connection.output()


def test_half_a_frame_is_waited_for_and_forgotten(node: Node) -> None:
    """A peer that goes in the middle of a frame leaves nothing; what it had unacked is ready."""
    peer, other = opened(node), opened(node)
    other.declare()
    other.send_bytes(publish("", "q"))
    peer.send(commands.Basic.Get(0, "q"))
    assert other.depth() == 0
    peer.send_bytes(marshal(commands.Basic.Ack(1), 1)[:-3])
    peer.connection.lost()
    assert other.depth() == 1
