"""A connection has the broker for a turn; what takes longer is done in several, in order."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator

import pytest
from pamqp import commands

from mqkit.embedded.engine.node import Node
from mqkit.embedded.session.connection import Connection
from mqkit.embedded.session.turns import Turn
from tests.unit.embedded.support import Client, marshal, opened, publish

MANY = 10_000

HELD = 0.05
"""Seconds that nobody may hold the broker for."""


class Waiting(Client):
    """A client whose connection takes turns; the test gives it each."""

    def __init__(self, node: Node, turn: float = 0.01) -> None:
        super().__init__(node)
        self.turns = 0
        self.connection = Connection(node, on_more=self.more, turn=turn)
        self.longest = 0.0
        self._has_more = False

    def more(self) -> None:
        """There is more to do, later."""
        self._has_more = True

    def send_bytes(self, data: bytes) -> None:
        """Send bytes as a socket brings them, and give it turns until all is done."""
        for at in range(0, len(data), 256 * 1024):
            self.give(data[at : at + 256 * 1024])
            self.finish()

    def finish(self) -> None:
        """Give it turns until all is done."""
        while self._has_more:
            assert self.connection.has_more
            self.give(b"")
        self.collect()

    def begin_work(self) -> None:
        """Give it turns until it is in the middle of a long piece of work."""
        while self.connection.turn._work is None:
            self.give(b"")

    def give(self, data: bytes) -> None:
        """One turn."""
        self._has_more = False
        self.turns += 1
        start = time.thread_time()
        self.connection.receive(data)
        self.longest = max(self.longest, time.thread_time() - start)


@pytest.fixture
def node() -> Node:
    """A broker."""
    return Node()


@pytest.fixture(autouse=True)
def _no_collector() -> Iterator[None]:
    """Python's collector takes time whenever it likes, which is not the broker's."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def patient(node: Node, turn: float) -> Waiting:
    """A client that takes turns, with channel 1 open."""
    client = Waiting(node, turn)
    client.open()
    return client


def test_what_a_turn_leaves_is_done_in_order(node: Node) -> None:
    """With turns of no time each frame has its own, and none is lost or overtaken."""
    client = patient(node, -1)
    client.declare()
    before = client.turns
    client.send_bytes(b"".join(publish("", "q", b"%d" % number) for number in range(50)))
    assert client.turns - before >= 50
    assert [entry.message.body for entry in node.vhosts["/"].queues["q"].ready] == [
        b"%d" % number for number in range(50)
    ]


def test_a_fanout_in_turns_is_confirmed_at_its_end(node: Node) -> None:
    """A message to 300 queues is in all of them before its confirm, and before the next frame."""
    client = patient(node, -1)
    for number in range(300):
        client.send(
            commands.Queue.Declare(0, f"q{number}", nowait=True),
            commands.Queue.Bind(0, f"q{number}", "amq.fanout", nowait=True),
        )
    client.send(commands.Confirm.Select())
    client.received.clear()
    client.give(publish("amq.fanout", "") + marshal(commands.Queue.Purge(0, "q299"), 1))
    client.begin_work()
    assert len(node.vhosts["/"].queues["q299"].ready) == 0
    assert not client.of(commands.Basic.Ack)
    client.finish()
    kinds = [type(value) for _, value in client.received]
    assert set(kinds) == {commands.Basic.Ack, commands.Queue.PurgeOk}
    assert client.of(commands.Queue.PurgeOk)[0].message_count == 1
    assert all(len(node.vhosts["/"].queues[f"q{number}"].ready) == 1 for number in range(299))


def test_a_fanout_whose_publisher_goes_is_finished(node: Node) -> None:
    """What was taken of a peer that is lost in the middle reaches all of its queues."""
    client, other = patient(node, -1), opened(node)
    for number in range(300):
        other.declare(f"q{number}")
        other.send(commands.Queue.Bind(0, f"q{number}", "amq.fanout"))
    client.give(publish("amq.fanout", ""))
    client.begin_work()
    assert len(node.vhosts["/"].queues["q299"].ready) == 0
    client.connection.lost()
    assert len(node.vhosts["/"].queues["q299"].ready) == 1


def test_a_commit_in_turns_is_answered_at_its_end(node: Node) -> None:
    """A commit of 300 publishes is answered once all are in their queue; a refusal is a 406."""
    client = patient(node, -1)
    client.declare("full", arguments={"x-max-length": 0, "x-overflow": "reject-publish"})
    client.declare()
    client.send(commands.Tx.Select())
    client.send_bytes(publish("", "q") * 300)
    client.received.clear()
    client.give(marshal(commands.Tx.Commit(), 1))
    client.begin_work()
    client.collect()
    assert not client.received
    client.finish()
    assert isinstance(client.last(), commands.Tx.CommitOk)
    assert len(node.vhosts["/"].queues["q"].ready) == 300
    client.send_bytes(publish("", "full") + publish("", "q"))
    client.send(commands.Tx.Commit())
    assert client.last().reply_code == 406
    assert client.connection.is_open
    assert len(node.vhosts["/"].queues["q"].ready) == 301


def test_work_is_done_before_the_turn_is_given_back() -> None:
    """Work goes on from turn to turn, step by step, and is finished at once where it must be."""
    done: list[int] = []

    def work() -> Iterator[None]:
        for step in range(5):
            done.append(step)
            yield

    turn = Turn(-1, time.monotonic)
    turn.carry_on(work())
    turn.begin()
    assert not turn.worked()
    assert done == [0]
    assert not turn.worked()
    turn.finish()
    assert done == [0, 1, 2, 3, 4]
    assert turn.worked()


def frames(*methods: object) -> bytes:
    """Frames of channel 1."""
    return b"".join(marshal(method, 1) for method in methods)  # type: ignore[arg-type]


def test_nobody_holds_the_broker_for_long(node: Node) -> None:
    """To bind, publish to, unbind and delete 10,000 queues or bindings is done in short turns."""
    client = patient(node, 0.01)
    names = [f"q{number}" for number in range(MANY)]
    for kind in ("topic", "headers", "direct", "fanout"):
        client.send(commands.Exchange.Declare(0, kind, kind))
    client.send_bytes(frames(*(commands.Queue.Declare(0, n, nowait=True) for n in names)))
    for exchange, key, arguments in (
        ("topic", "orders.{}.*.#", None),
        ("headers", "", True),
        ("direct", "{}", None),
        ("fanout", "", None),
    ):
        client.send_bytes(
            frames(
                *(
                    commands.Queue.Bind(
                        0,
                        name,
                        exchange,
                        key.format(name),
                        nowait=True,
                        arguments={"type": "report", "for": name} if arguments else {},
                    )
                    for name in names
                )
            )
        )
    client.send_bytes(
        publish("topic", "orders.q5.a.b")
        + publish("headers", "", headers={"type": "report", "for": "q5"})
        + publish("direct", "q5")
        + publish("fanout", "")
    )
    assert client.depth("q5") == 4
    assert client.depth("q6") == 1
    client.send(commands.Tx.Select())
    client.send_bytes(b"".join(publish("", name) for name in names))
    client.call(commands.Tx.Commit(), commands.Tx.CommitOk)
    client.send_bytes(
        frames(*(commands.Queue.Unbind(0, n, "topic", f"orders.{n}.*.#") for n in names[::2]))
    )
    for kind in ("topic", "headers", "direct", "fanout"):
        client.call(commands.Exchange.Delete(0, kind), commands.Exchange.DeleteOk)
    client.send_bytes(frames(*(commands.Queue.Delete(0, n, nowait=True) for n in names)))
    assert not node.vhosts["/"].queues
    assert client.turns > 20
    assert client.longest < HELD
