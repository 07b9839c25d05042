"""What messages take is counted on every way in and out; too much of it blocks who publishes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from pamqp import base, commands

from mqkit.embedded.engine import memory
from mqkit.embedded.engine.memory import LOW, default_limit, limit_of, of_cgroups
from mqkit.embedded.engine.node import LOW_ON_MEMORY, Node
from tests.unit.embedded.support import Client, opened, publish

BODY = b"x" * 1000

LIMIT = 100_000


@pytest.fixture
def node() -> Node:
    """A broker with room for some 70 messages of 1,000 bytes."""
    return Node(memory_limit=LIMIT)


def ready(client: Client, count: int, queue: str = "q", **properties: Any) -> None:
    """Publish so many messages."""
    client.send_bytes(publish("", queue, BODY, **properties) * count)


def test_a_message_is_counted_with_its_body_once(node: Node) -> None:
    """In two queues a message takes its body once, and a place in each; in none, nothing."""
    client = opened(node)
    for queue in ("q", "r"):
        client.declare(queue)
        client.send(commands.Queue.Bind(0, queue, "amq.fanout"))
    client.send_bytes(publish("amq.fanout", "", BODY))
    both = node.memory.used
    assert len(BODY) < both < 2 * len(BODY)
    client.send(commands.Queue.Purge(0, "r"))
    assert both - node.memory.used == memory.ENTRY_BYTES
    client.send(commands.Queue.Purge(0, "q"))
    assert node.memory.used == 0


TO_DEAD: dict[str, Any] = {"x-dead-letter-exchange": "amq.fanout"}

FULL: dict[str, Any] = {"x-max-length": 0, "x-overflow": "reject-publish"}

HELD: dict[str, Any] = {
    "x-queue-type": "quorum",
    "x-overflow": "reject-publish",
    "x-dead-letter-exchange": "nonesuch",
    "x-dead-letter-strategy": "at-least-once",
}

ALL = {"multiple": True}

WAYS: dict[str, tuple[dict[str, Any], list[base.Frame]]] = {
    "ack": ({}, [*[commands.Basic.Get(0, "q")] * 5, commands.Basic.Ack(0, **ALL)]),
    "no_ack": ({}, [commands.Basic.Consume(0, "q", "c", no_ack=True)]),
    "get": ({}, [commands.Basic.Get(0, "q", no_ack=True)] * 5),
    "reject": ({}, [*[commands.Basic.Get(0, "q")] * 5, commands.Basic.Nack(0, True, False)]),
    "dead-letter": (
        TO_DEAD,
        [*[commands.Basic.Get(0, "q")] * 5, commands.Basic.Nack(0, True, False)],
    ),
    "held": (
        HELD,
        [
            *[commands.Basic.Get(0, "q")] * 5,
            commands.Basic.Nack(0, True, False),
            commands.Queue.Delete(0, "q"),
        ],
    ),
    "purge": ({}, [commands.Queue.Purge(0, "q")]),
    "delete": ({}, [commands.Queue.Delete(0, "q")]),
    "delete unacked": ({}, [*[commands.Basic.Get(0, "q")] * 5, commands.Queue.Delete(0, "q")]),
    "expire": ({"x-message-ttl": 100}, []),
    "max-length": ({"x-max-length": 0}, []),
    "refused": (FULL, []),
    "refused to dlx": ({**FULL, "x-overflow": "reject-publish-dlx", **TO_DEAD}, []),
}
"""By name: the arguments of a queue, and what is done after five messages were published to it."""


@pytest.mark.parametrize("way", WAYS)
def test_nothing_is_left_of_what_has_gone(node: Node, way: str) -> None:
    """By whichever way messages leave, nothing is counted for them afterwards."""
    arguments, methods = WAYS[way]
    client = opened(node)
    client.declare("q", durable=True, arguments=arguments)
    ready(client, 5)
    assert not methods or node.memory.used > 5 * len(BODY)
    client.send(*methods)
    node.advance(1)
    assert node.memory.used == 0


@pytest.mark.parametrize("way", ["rollback", "close", "lost", "vhost"])
def test_nothing_is_left_of_a_transaction(node: Node, way: str) -> None:
    """What waited for a commit that does not come is counted no more."""
    client = opened(node)
    client.declare("q", exclusive=True)
    ready(client, 5)
    client.send(commands.Tx.Select())
    ready(client, 5)
    assert node.memory.used > 10 * len(BODY)
    if way == "rollback":
        client.send(commands.Tx.Rollback(), commands.Queue.Purge(0, "q"))
    elif way == "close":
        client.send(commands.Channel.Close(200, "", 0, 0))
        client.call(commands.Channel.Open(), commands.Channel.OpenOk)
        client.send(commands.Queue.Purge(0, "q"))
    elif way == "lost":
        client.connection.lost()
    else:
        node.delete_vhost("/")
    assert node.memory.used == 0


def test_too_much_blocks_publishers_until_some_has_gone(node: Node) -> None:
    """Over the limit a publisher is told, and read no further; consumers go on, and end that."""
    publisher, consumer = opened(node), opened(node)
    publisher.declare()
    ready(publisher, 300)
    assert [each.reason for each in publisher.of(commands.Connection.Blocked)] == [LOW_ON_MEMORY]
    assert LIMIT < node.memory.used < LIMIT + 2 * len(BODY)
    assert consumer.depth() < 100
    taken = 0
    while not publisher.of(commands.Connection.Unblocked):
        assert node.memory.used > LIMIT * LOW
        consumer.send(commands.Basic.Get(0, "q"))
        taken += 1
        consumer.send(commands.Basic.Ack(taken))
        consumer.received.clear()
    consumer.send(commands.Basic.Consume(0, "q", "c", no_ack=True))
    # What it had sent meanwhile was kept, and comes now: with 300 in all, none was lost.
    node.settle()
    assert taken + len(consumer.of(commands.Basic.Deliver)) == 300


def test_messages_without_a_body_are_blocked_too(node: Node) -> None:
    """A publisher of empty messages is blocked after the first one that comes in the alarm."""
    publisher = opened(node)
    publisher.declare()
    node.block("by hand")
    publisher.send_bytes(publish("", "q", b"") * 3)
    assert len(publisher.of(commands.Connection.Blocked)) == 1
    assert len(node.vhosts["/"].queues["q"].ready) == 1
    node.unblock()
    assert publisher.depth() == 3


def test_an_end_by_hand_leaves_the_alarm_of_memory(node: Node) -> None:
    """`unblock` lets nobody publish while messages take too much memory."""
    publisher = opened(node)
    publisher.declare()
    ready(publisher, 300)
    node.block("by hand")
    node.unblock()
    assert node.alarm == LOW_ON_MEMORY
    assert not publisher.of(commands.Connection.Unblocked)


def test_what_waits_for_a_commit_is_counted(node: Node) -> None:
    """Publishes of a transaction block the publisher as those in queues do."""
    publisher = opened(node)
    publisher.declare()
    publisher.send(commands.Tx.Select())
    ready(publisher, 300)
    assert len(publisher.of(commands.Connection.Blocked)) == 1


def test_many_blocked_publishers_are_unblocked(node: Node) -> None:
    """An alarm of 2,000 publishers ends for each of them."""
    node.memory.limit = None
    publishers = [opened(node) for _ in range(2000)]
    publishers[0].declare()
    node.block("by hand")
    for publisher in publishers:
        publisher.send_bytes(publish("", "q", b"") * 2)
    assert all(publisher.connection.is_blocked for publisher in publishers)
    node.unblock()
    assert not any(publisher.connection.is_blocked for publisher in publishers)
    assert publishers[0].depth() == 4000


def test_a_message_takes_less_than_half_a_kilobyte_besides(node: Node) -> None:
    """What is counted for a message beside its body is no less than what it takes, nor twice."""
    import tracemalloc  # noqa: PLC0415 - it slows down what is imported with it

    node.memory.limit = None
    client = opened(node)
    client.declare()
    # What is made once is no part of it.
    ready(client, 10, message_id="0" * 32, delivery_mode=2)
    before = node.memory.used
    tracemalloc.start()
    try:
        for number in range(1000):
            ready(client, 1, message_id=f"{number:032}", delivery_mode=2)
            client.connection.output()
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    counted = node.memory.used - before
    assert taken < counted < 1.5 * taken
    assert counted < 1000 * (len(BODY) + 600)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1000", 1000),
        ("2kB", 2000),
        ("2 KiB", 2048),
        ("1.5GiB", 1_610_612_736),
        ("500MB", 500_000_000),
        ("1TiB", 1 << 40),
        ("50%", 512),
        ("100%", 1024),
    ],
)
def test_limits_are_sizes_or_shares(monkeypatch: pytest.MonkeyPatch, text: str, size: int) -> None:
    """A limit is written in bytes, in units of them, or as a share of the memory."""
    monkeypatch.setattr(memory, "available", lambda: 1024)
    assert limit_of(text) == size


@pytest.mark.parametrize("text", ["", "x", "-1", "1 2", "10XB", "0%", "101%", "1e9", "%", "0.5x"])
def test_no_limits(text: str) -> None:
    """What is neither is named, with what it may be."""
    with pytest.raises(ValueError, match=re.escape(repr(text))):
        limit_of(text)


def test_the_default_is_a_share_of_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the machine's memory or of the control group's, whichever has less."""
    monkeypatch.setattr(memory, "physical", lambda: 1_000_000)
    monkeypatch.setattr(memory, "of_cgroups", list)
    assert default_limit() == 400_000
    monkeypatch.setattr(memory, "of_cgroups", lambda: [500_000, 700_000])
    assert default_limit() == 200_000
    monkeypatch.setattr(memory, "physical", lambda: None)
    monkeypatch.setattr(memory, "of_cgroups", list)
    assert default_limit() is None
    with pytest.raises(ValueError, match="does not tell its memory"):
        limit_of("50%")


def test_control_groups_of_both_versions(tmp_path: Path) -> None:
    """The limits of the group and of those around it count; `max` and a huge one are none."""
    cgroup, root = tmp_path / "cgroup", tmp_path / "fs"
    for path, name, text in (
        ("a/b", "memory.max", "max\n"),
        ("a", "memory.max", "5000\n"),
        ("memory/c/d", "memory.limit_in_bytes", "9223372036854771712\n"),
        ("memory/c", "memory.limit_in_bytes", "7000\n"),
    ):
        (root / path).mkdir(parents=True, exist_ok=True)
        (root / path / name).write_text(text)
    cgroup.write_text("12:cpu,memory:/c/d\n3:pids:/x\n0::/a/b\n")
    assert sorted(of_cgroups(cgroup, root)) == [5000, 7000]
    assert of_cgroups(tmp_path / "nonesuch", root) == []
