"""One broker without sockets: confirms come after the commit, and what is gone leaves nothing."""

from __future__ import annotations

import gc
import time
import weakref
from typing import Any

import pytest
from pamqp import body, commands

from mqkit.embedded.engine.clock import Clock
from mqkit.embedded.engine.durable.journal import Forgetful
from mqkit.embedded.engine.message import Message
from mqkit.embedded.engine.node import Node
from mqkit.embedded.engine.queue import Queue
from mqkit.embedded.errors import DataError
from tests.unit.embedded.support import Client, marshal, opened, publish

AT_LEAST_ONCE = {
    "x-queue-type": "quorum",
    "x-dead-letter-exchange": "dead",
    "x-dead-letter-strategy": "at-least-once",
    "x-overflow": "reject-publish",
}


class Journal(Forgetful):
    """Notes the order of what is written, committed and (through a client) confirmed."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.client: Client | None = None
        self.fails = False

    def put_entry(self, vhost: str, queue: str, entry: object) -> None:
        self.notes.append(f"put {queue}")

    def drop_entry(self, vhost: str, queue: str, entry: object) -> None:
        self.notes.append(f"drop {queue}")

    def commit(self) -> None:
        if self.client is not None:
            assert self.client.of(commands.Basic.Ack) == [], "confirmed before it was committed"
        if self.fails:
            raise DataError("the disk is full")
        self.notes.append("commit")


@pytest.fixture
def journal() -> Journal:
    """What is written."""
    return Journal()


@pytest.fixture
def node(journal: Journal) -> Node:
    """A broker whose time stands still."""
    return Node(clock=Clock(lambda: 1000.0), journal=journal)


def confirming(node: Node) -> Client:
    """A client in confirm mode."""
    client = opened(node)
    client.call(commands.Confirm.Select(), commands.Confirm.SelectOk)
    return client


def queue_of(node: Node, name: str = "q") -> Queue:
    """A queue of '/'."""
    return node.vhosts["/"].queues[name]


def test_a_confirm_comes_after_the_commit(node: Node, journal: Journal) -> None:
    """What is confirmed was committed before; messages of one read are committed together."""
    client = confirming(node)
    client.declare(durable=True)
    journal.notes.clear()
    journal.client = client
    client.send_bytes(publish("", "q", delivery_mode=2) * 3)
    assert journal.notes == ["put q"] * 3 + ["commit"]
    assert [(ack.delivery_tag, ack.multiple) for ack in client.of(commands.Basic.Ack)] == [
        (3, True)
    ]


def test_nothing_is_confirmed_without_a_commit(node: Node, journal: Journal) -> None:
    """A commit that fails leaves the confirm unsent."""
    client = confirming(node)
    client.declare(durable=True)
    journal.fails = True
    with pytest.raises(DataError):
        client.send_bytes(publish("", "q", delivery_mode=2))
    assert client.of(commands.Basic.Ack) == []


def test_deaths_are_committed_with_what_caused_them(node: Node, journal: Journal) -> None:
    """A dead letter is in its new queue in the same commit that takes it out of the old one."""
    client = confirming(node)
    client.declare("dead", durable=True)
    arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
    client.declare(durable=True, arguments=arguments)
    client.send_bytes(publish("", "q", delivery_mode=2))
    client.call(commands.Basic.Get(0, "q"), body.ContentBody)
    journal.notes.clear()
    client.send(commands.Basic.Reject(1, requeue=False))
    assert journal.notes == ["drop q", "put dead", "commit"]


def test_a_circle_of_deaths_neither_recurses_nor_stays(node: Node) -> None:
    """400 queues, each the dead letter queue of the one before: a message dies through all."""
    client = opened(node)
    for number in range(400):
        arguments = {
            "x-message-ttl": 0,
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": f"q{number + 1}",
        }
        client.connection.vhost.declare_queue(  # type: ignore[union-attr]
            f"q{number}",
            durable=False,
            auto_delete=False,
            owner=None,
            connection=None,
            arguments=arguments,
        )
    client.declare("q400")
    node.vhosts["/"].queues["q0"].offer(Message("", ("q0",), commands.Basic.Properties(), b"m"))
    node.settle()
    node.advance(1)
    assert client.depth("q400") == 1


def test_a_deferred_error_does_not_stop_the_rest(node: Node) -> None:
    """A fault in what was put off is raised once; what came after it is done, and confirmed."""
    client = confirming(node)
    client.declare()

    def fail() -> None:
        raise LookupError

    node._deferred.append(fail)
    with pytest.raises(LookupError):
        client.send_bytes(publish("", "q"))
    node.settle()
    assert len(client.of(commands.Basic.Ack)) == 1


def test_an_alarm_has_a_reason_that_fits(node: Node) -> None:
    """A reason of 1,000 letters is cut to what `connection.blocked` can carry."""
    client = opened(node)
    client.declare()
    node.block("ä" * 1000)
    client.send_bytes(publish("", "q"))
    (blocked,) = client.of(commands.Connection.Blocked)
    assert len(blocked.reason.encode()) <= 255
    node.unblock()
    assert len(client.of(commands.Connection.Unblocked)) == 1
    assert client.depth() == 1


def test_a_client_may_close_a_blocked_connection(node: Node) -> None:
    """A connection that is blocked when it is closed in words reads on, for the answer."""
    client = opened(node)
    client.declare()
    node.block("low on memory")
    client.send_bytes(publish("", "q"))
    client.connection.force_close("enough")
    client.send(commands.Connection.CloseOk(), channel=0)
    assert client.connection.is_closed


def test_half_a_frame_may_follow_the_answer(node: Node) -> None:
    """A connection closed in the middle of a frame finds the frames after it all the same."""
    client = opened(node)
    message = publish("", "q", b"x" * 1000)
    client.send_bytes(message[:-500])
    client.connection.force_close("enough")
    client.send_bytes(message[-500:])
    assert not client.connection.is_closed
    client.send(commands.Connection.CloseOk(), channel=0)
    assert client.connection.is_closed


# What is gone leaves nothing


def test_a_deleted_queue_does_not_dead_letter(node: Node) -> None:
    """Neither what was ready nor what comes back to it expires into its dead letter exchange."""
    client = opened(node)
    client.declare("dead")
    arguments: dict[str, Any] = {
        "x-message-ttl": 1000,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": "dead",
    }
    client.declare(arguments=arguments)
    client.send_bytes(publish("", "q") * 3)
    client.call(commands.Basic.Get(0, "q"), body.ContentBody)
    client.call(commands.Basic.Get(0, "q"), body.ContentBody)
    client.call(commands.Queue.Delete(0, "q"), commands.Queue.DeleteOk)
    client.send(commands.Basic.Ack(1))
    client.send(commands.Basic.Nack(2, requeue=True))
    node.advance(10)
    assert client.depth("dead") == 0
    assert node.clock.wait() is None


@pytest.mark.parametrize("how", ["delete", "expire", "vhost"])
def test_a_queue_that_is_gone_leaves_no_timer(node: Node, how: str) -> None:
    """Expiry, message TTLs and tries of held dead letters end with the queue, which is freed."""
    node.add_vhost("v")
    vhost = node.vhosts["v"]
    arguments = {**AT_LEAST_ONCE, "x-expires": 60_000, "x-message-ttl": 1000}
    queue = vhost.declare_queue(
        "q", durable=True, auto_delete=False, owner=None, connection=None, arguments=arguments
    )
    for _ in range(3):
        queue.offer(Message("", ("q",), commands.Basic.Properties(), b"m"))
    node.advance(5)
    assert len(queue.held) == 3
    assert node.clock.wait() is not None
    if how == "delete":
        vhost.delete_queue(queue)
    elif how == "vhost":
        node.delete_vhost("v")
    else:
        node.advance(60)
    node.settle()
    assert node.clock.wait() is None
    freed = weakref.ref(queue)
    del queue
    gc.collect()
    assert freed() is None


def test_held_dead_letters_are_taken_when_somebody_does(node: Node) -> None:
    """Held ones go out in their order once their exchange has a queue; nothing else is due."""
    client = opened(node)
    client.declare(durable=True, arguments={**AT_LEAST_ONCE, "x-message-ttl": 0})
    for number in range(3):
        client.send_bytes(publish("", "q", b"%d" % number))
    node.advance(30)
    assert len(queue_of(node).held) == 3
    client.call(commands.Exchange.Declare(0, "dead", "fanout"), commands.Exchange.DeclareOk)
    client.declare("target")
    client.call(commands.Queue.Bind(0, "target", "dead"), commands.Queue.BindOk)
    node.advance(60)
    assert [entry.message.body for entry in queue_of(node, "target").ready] == [b"0", b"1", b"2"]
    assert len(queue_of(node).held) == 0
    assert node.clock.wait() is None


def test_a_day_passes_quickly_for_held_dead_letters(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dead letters that nobody takes are tried once a minute in the end, not each second."""
    client = opened(node)
    client.declare(durable=True, arguments={**AT_LEAST_ONCE, "x-message-ttl": 0})
    client.send_bytes(publish("", "q") * 100)
    vhost, tries = node.vhosts["/"], 0
    publish_dead = vhost._publish_dead

    def count(exchange: str, message: Message) -> bool:
        nonlocal tries
        tries += 1
        return publish_dead(exchange, message)

    monkeypatch.setattr(vhost, "_publish_dead", count)
    node.advance(86_400)
    assert len(queue_of(node).held) == 100
    assert tries <= 100 * 1460


def test_a_queue_that_is_polled_collects_no_timers(node: Node) -> None:
    """Looking often at a queue that expires in a day leaves no timer behind for each look."""
    client = opened(node)
    client.declare(arguments={"x-expires": 86_400_000})
    for _ in range(5000):
        client.send(commands.Basic.Get(0, "q"))
    assert node.clock.timers < 500


def test_messages_with_a_ttl_that_are_taken_collect_no_timers(node: Node) -> None:
    """10,000 messages that may wait an hour and are taken at once leave no timer each."""
    client = opened(node)
    client.declare()
    for _ in range(100):
        client.send_bytes(publish("", "q", expiration="3600000") * 100)
        for _ in range(100):
            client.connection.receive(b"")
            queue_of(node).purge()
    assert node.clock.timers < 500


def test_reply_keys_end_with_their_channel(node: Node) -> None:
    """However a requester goes, nobody waits under its reply key any more."""
    replies = node.vhosts["/"].replies
    for how in ("cancel", "channel", "connection", "lost"):
        client = opened(node)
        client.call(
            commands.Basic.Consume(0, "amq.rabbitmq.reply-to", "c", no_ack=True),
            commands.Basic.ConsumeOk,
        )
        assert len(replies._waiting) == 1
        if how == "cancel":
            client.send(commands.Basic.Cancel("c"))
        elif how == "channel":
            client.send(commands.Channel.Close(200, "", 0, 0))
        elif how == "connection":
            client.send(commands.Connection.Close(200, "", 0, 0), channel=0)
        else:
            client.connection.lost()
        assert len(replies._waiting) == 0, how


def test_a_connection_that_is_gone_is_freed(node: Node) -> None:
    """With consumers, exclusive queues and unacknowledged messages, it leaves nothing held."""
    client = opened(node)
    client.declare("own", exclusive=True)
    client.declare()
    client.send_bytes(publish("", "q") * 5)
    client.call(commands.Basic.Consume(0, "q", "c"), body.ContentBody)
    client.call(commands.Basic.Consume(0, "own", "d"), commands.Basic.ConsumeOk)
    gone = weakref.ref(client.connection)
    client.connection.lost()
    del client
    gc.collect()
    assert gone() is None
    assert set(node.vhosts["/"].queues) == {"q"}
    assert len(queue_of(node).ready) == 5


# Costs


def test_acks_of_many_cost_what_they_settle(node: Node) -> None:
    """An ack of the first ten costs the same with 400 and with 20,000 unacknowledged."""

    def seconds(unacked: int) -> float:
        client = opened(node)
        client.declare()
        client.send(commands.Basic.Consume(0, "q", "c"))
        for _ in range(unacked // 100):
            client.connection.receive(publish("", "q", b"") * 100)
            client.connection.output()
            client.connection.drained()
        acks = [marshal(commands.Basic.Ack(tag, multiple=True), 1) for tag in range(1, 401)]
        start = time.process_time()
        for ack in acks:
            client.connection.receive(ack)
        taken = time.process_time() - start
        assert len(queue_of(node).unacked) == unacked - 400
        client.send(commands.Queue.Delete(0, "q"))
        client.connection.lost()
        return taken

    few = min(seconds(400) for _ in range(3))
    assert seconds(20_000) < 5 * few


def test_a_deep_queue_is_drained_in_one_go(node: Node) -> None:
    """10,000 messages go to a consumer as fast as its output is taken, and none stays."""
    client = opened(node)
    client.declare()
    client.send_bytes(publish("", "q", b"") * 10_000)
    consume = commands.Basic.Consume(0, "q", "c", no_ack=True)
    client.connection.receive(marshal(consume, 1))
    taken = client.connection.output()
    while queue_of(node).ready:
        client.connection.drained()
        output = client.connection.output()
        assert len(output) > 0
        taken += output
    assert taken.count(b"\x00\x3c\x00\x3c") == 10_000
    assert queue_of(node).unacked == {}
