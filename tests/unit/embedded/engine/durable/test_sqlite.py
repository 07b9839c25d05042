"""What is durable is there again after the broker's end, exactly as it was, and nothing else is."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pamqp import base, body, commands, header

from mqkit.embedded.engine.clock import Clock
from mqkit.embedded.engine.durable.file import APPLICATION, FILE
from mqkit.embedded.engine.durable.sqlite import Store
from mqkit.embedded.engine.message import Message
from mqkit.embedded.engine.node import Node
from mqkit.embedded.engine.vhost import VirtualHost
from mqkit.embedded.errors import DataError
from tests.unit.embedded.support import Client, opened, publish

QUORUM = {"x-queue-type": "quorum"}


class Broker:
    """A broker on a directory, that can be started again on it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.beginnings = 0
        self.wall = 1_700_000_000.0
        self.start()

    def start(self) -> None:
        """Start, at the wall time."""
        self.store = Store(self.directory)
        # Another process's monotonic clock begins anywhere.
        self.beginnings += 1
        start = 1000.0 * self.beginnings
        clock = Clock(lambda: start, lambda: self.wall)
        self.node = Node(clock=clock, journal=self.store)
        self.store.restore(self.node)

    def restart(self, *, after: float = 0.0) -> None:
        """Be killed, and start again some seconds later."""
        self.store.close()
        self.wall += after
        self.start()

    @property
    def vhost(self) -> VirtualHost:
        """The virtual host '/'."""
        return self.node.vhosts["/"]

    def client(self) -> Client:
        """A client with channel 1 in confirm mode."""
        client = opened(self.node)
        client.call(commands.Confirm.Select(), commands.Confirm.SelectOk)
        return client

    def messages(self, queue: str) -> list[Message]:
        """What is ready in a queue."""
        return [entry.message for entry in self.vhost.queues[queue].ready]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """A broker with a directory."""
    running = Broker(tmp_path / "data")
    yield running
    running.store.close()


def declare(client: Client, queue: str, **arguments: Any) -> None:
    """A durable queue."""
    client.declare(queue, durable=True, arguments=arguments or None)


def bodies(broker: Broker, queue: str) -> list[bytes]:
    """The bodies of what is ready."""
    return [message.body for message in broker.messages(queue)]


def test_what_is_durable_and_what_is_not(broker: Broker) -> None:
    """Durable queues and exchanges stay, others and exclusive ones go with the process."""
    client = broker.client()
    declare(client, "durable")
    client.declare("transient")
    client.declare("exclusive", durable=True, exclusive=True)
    for name, durable in (("kept", True), ("gone", False)):
        client.call(
            commands.Exchange.Declare(0, name, "fanout", durable=durable),
            commands.Exchange.DeclareOk,
        )
        client.call(commands.Queue.Bind(0, "durable", name), commands.Queue.BindOk)
    client.call(commands.Queue.Bind(0, "transient", "kept"), commands.Queue.BindOk)
    broker.restart()
    assert list(broker.vhost.queues) == ["durable"]
    assert "kept" in broker.vhost.exchanges
    assert "gone" not in broker.vhost.exchanges
    assert [each.destination.name for each in broker.vhost.exchanges["kept"].bindings] == [
        "durable"
    ]


def test_persistent_messages_stay_and_others_go(broker: Broker) -> None:
    """In a classic queue the delivery mode decides; a quorum queue keeps every message."""
    client = broker.client()
    declare(client, "classic")
    declare(client, "quorum", **QUORUM)
    for queue in ("classic", "quorum"):
        client.send_bytes(publish("", queue, b"persistent", delivery_mode=2))
        client.send_bytes(publish("", queue, b"transient", delivery_mode=1))
        client.send_bytes(publish("", queue, b"unstated"))
    broker.restart()
    assert bodies(broker, "classic") == [b"persistent"]
    assert bodies(broker, "quorum") == [b"persistent", b"transient", b"unstated"]


def test_exchanges_and_their_bindings(broker: Broker) -> None:
    """Type, flags, alternate exchange, bindings of queues and exchanges with their arguments."""
    client = broker.client()
    declare(client, "q")
    arguments: dict[str, Any] = {"alternate-exchange": "other", "ratio": 1.1}
    client.call(
        commands.Exchange.Declare(
            0, "x", "headers", durable=True, auto_delete=True, internal=True, arguments=arguments
        ),
        commands.Exchange.DeclareOk,
    )
    client.call(
        commands.Exchange.Declare(0, "up", "topic", durable=True), commands.Exchange.DeclareOk
    )
    match: dict[str, Any] = {"x-match": "any", "double": 0.1, "list": [1, "a", None], "void": None}
    client.call(commands.Queue.Bind(0, "q", "x", "k", arguments=match), commands.Queue.BindOk)
    client.call(commands.Exchange.Bind(0, "x", "up", "a.#"), commands.Exchange.BindOk)
    before = broker.vhost.exchanges
    broker.restart()
    after = broker.vhost.exchanges
    for name in ("x", "up"):
        for what in ("type", "durable", "auto_delete", "internal", "arguments"):
            assert getattr(after[name], what) == getattr(before[name], what), what
        assert [(b.destination, b.routing_key, b.arguments) for b in after[name].bindings] == [
            (b.destination, b.routing_key, b.arguments) for b in before[name].bindings
        ]
    again = broker.client()
    again.call(commands.Queue.Unbind(0, "q", "x", "k", arguments=match), commands.Queue.UnbindOk)
    broker.restart()
    # Its last binding was its end, and so that of the binding that led to it.
    assert "x" not in broker.vhost.exchanges
    assert list(broker.vhost.exchanges["up"].bindings) == []


def test_queues_with_their_arguments(broker: Broker) -> None:
    """A queue means after a restart what it meant before, in the order of declaration."""
    client = broker.client()
    arguments = {
        "x-message-ttl": 5000,
        "x-expires": 100_000,
        "x-max-length": 7,
        "x-overflow": "reject-publish",
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": "dead",
        "x-dead-letter-strategy": "at-least-once",
        "x-delivery-limit": 3,
        "x-single-active-consumer": True,
        **QUORUM,
    }
    declare(client, "z", **arguments)
    declare(client, "a", **{"x-max-priority": 9})
    options = broker.vhost.queues["z"].options
    broker.restart()
    assert list(broker.vhost.queues) == ["z", "a"]
    assert broker.vhost.queues["z"].options == options
    assert broker.vhost.queues["z"].arguments == arguments
    declare(broker.client(), "z", **arguments)


def test_a_message_is_as_it_was_sent(broker: Broker) -> None:
    """Exchange, keys, body, and the content header octet by octet."""
    client = broker.client()
    declare(client, "q")
    client.call(commands.Queue.Bind(0, "q", "amq.topic", "#"), commands.Queue.BindOk)
    payload = bytes(range(256)) * 1000
    sent = publish(
        "amq.topic",
        "a.b",
        payload[:100_000],
        delivery_mode=2,
        headers={"CC": ["c.d"], "deep": {"list": [1, "x", None, 1.5]}},
        priority=7,
        message_id="id",
        timestamp=None,
    )
    client.send_bytes(sent)
    (before,) = broker.messages("q")
    broker.restart()
    (after,) = broker.messages("q")
    assert after.content_header() == before.content_header()
    assert before.content_header() in sent
    assert (after.exchange, after.routing_keys) == ("amq.topic", ("a.b", "c.d"))
    assert after.body == before.body == payload[:100_000]
    assert after.persistent


def test_deaths_are_counted_on(broker: Broker) -> None:
    """What a message has died of is known after a restart, and the next death counts up."""
    client = broker.client()
    declare(client, "q", **{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "q2"})
    declare(client, "q2", **{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "q"})
    client.send_bytes(publish("", "q", b"m", delivery_mode=2))

    def reject(of: Client, queue: str) -> None:
        tag = of.call(commands.Basic.Get(0, queue), body.ContentBody)
        assert tag.value == b"m"
        got = of.of(commands.Basic.GetOk)[-1]
        of.send(commands.Basic.Reject(got.delivery_tag, requeue=False))

    reject(client, "q")
    reject(client, "q2")
    before = broker.messages("q")[0].deaths
    broker.restart()
    assert broker.messages("q")[0].deaths == before
    reject(broker.client(), "q")
    (message,) = broker.messages("q2")
    assert [(d.queue, d.reason, d.count) for d in message.deaths] == [
        ("q", "rejected", 2),
        ("q2", "rejected", 1),
    ]


def test_order_priority_and_delivery_counts(broker: Broker) -> None:
    """Messages go out after a restart in the order in which they would have, counts kept."""
    client = broker.client()
    declare(client, "q", **QUORUM, **{"x-delivery-limit": 2})
    for number, priority in enumerate((4, 9, 4, 9, 0)):
        client.send_bytes(publish("", "q", b"%d" % number, priority=priority))
    for _ in range(2):
        client.call(commands.Basic.Get(0, "q"), body.ContentBody)
        client.send(
            commands.Basic.Reject(client.of(commands.Basic.GetOk)[-1].delivery_tag, requeue=True)
        )
    broker.restart()
    assert bodies(broker, "q") == [b"1", b"3", b"0", b"2", b"4"]
    assert [entry.delivery_count for entry in broker.vhost.queues["q"].ready] == [2, 0, 0, 0, 0]
    assert all(entry.redelivered for entry in broker.vhost.queues["q"].ready)
    new = broker.client()
    new.send_bytes(publish("", "q", b"5", priority=9))
    assert bodies(broker, "q") == [b"1", b"3", b"5", b"0", b"2", b"4"]


def test_what_was_delivered_is_ready_again(broker: Broker) -> None:
    """A message that nobody acknowledged is there; one that was acknowledged is not."""
    client = broker.client()
    declare(client, "q")
    for payload in (b"a", b"b", b"c"):
        client.send_bytes(publish("", "q", payload, delivery_mode=2))
    client.call(commands.Basic.Consume(0, "q", "c"), body.ContentBody)
    client.send(commands.Basic.Ack(2))
    broker.restart()
    assert bodies(broker, "q") == [b"a", b"c"]


@pytest.mark.parametrize(("after", "left"), [(3599, [b"long", b"never"]), (3601, [b"never"])])
def test_expiry_is_a_time_of_day(broker: Broker, after: float, left: list[bytes]) -> None:
    """Messages age while the broker is down: an hour is over an hour after publishing."""
    client = broker.client()
    declare(client, "q")
    client.send_bytes(publish("", "q", b"long", delivery_mode=2, expiration="3600000"))
    client.send_bytes(publish("", "q", b"never", delivery_mode=2))
    broker.restart(after=after)
    assert bodies(broker, "q") == left
    broker.node.advance(2)
    assert bodies(broker, "q") == [b"never"]


@pytest.mark.parametrize(
    ("properties", "arguments"), [({"expiration": "5000"}, {}), ({}, {"x-message-ttl": 5000})]
)
def test_no_message_stays_longer_than_its_time_where_the_clock_went_back(
    broker: Broker, properties: dict[str, Any], arguments: dict[str, int]
) -> None:
    """A broker that comes up with an earlier time of day holds it for its whole TTL, and no more"""
    client = broker.client()
    declare(client, "q", **arguments)
    client.send_bytes(publish("", "q", b"m", delivery_mode=2, **properties))
    broker.restart(after=-3600)
    broker.node.advance(4.9)
    assert bodies(broker, "q") == [b"m"]
    broker.node.advance(0.2)
    assert bodies(broker, "q") == []


def test_virtual_hosts(broker: Broker) -> None:
    """A virtual host that was added is there again, one that was deleted is not, nor its queues."""
    broker.node.add_vhost("tests")
    broker.node.add_vhost("short")
    broker.node.settle()
    for name in ("tests", "short"):
        broker.node.vhosts[name].declare_queue(
            "q", durable=True, auto_delete=False, owner=None, connection=None, arguments={}
        )
    broker.node.delete_vhost("short")
    broker.node.settle()
    broker.restart()
    assert set(broker.node.vhosts) == {"/", "tests"}
    assert list(broker.node.vhosts["tests"].queues) == ["q"]
    broker.node.add_vhost("short")
    broker.restart()
    assert broker.node.vhosts["tests"].queues.keys() == {"q"}


def test_a_deleted_queue_leaves_nothing(broker: Broker) -> None:
    """Its messages and bindings are gone from the file, also for a new queue of its name."""
    client = broker.client()
    declare(client, "q")
    client.call(commands.Queue.Bind(0, "q", "amq.fanout"), commands.Queue.BindOk)
    client.send_bytes(publish("", "q", b"old", delivery_mode=2))
    client.call(commands.Queue.Delete(0, "q"), commands.Queue.DeleteOk)
    declare(client, "q")
    broker.restart()
    assert bodies(broker, "q") == []
    assert list(broker.vhost.exchanges["amq.fanout"].bindings) == []


def test_a_late_ack_is_not_about_a_new_queue(broker: Broker) -> None:
    """Acknowledging what a deleted queue had delivered removes nothing of its successor's."""
    client = broker.client()
    declare(client, "q")
    client.send_bytes(publish("", "q", b"old", delivery_mode=2))
    client.call(commands.Basic.Get(0, "q"), body.ContentBody)
    client.call(commands.Queue.Delete(0, "q"), commands.Queue.DeleteOk)
    declare(client, "q")
    client.send_bytes(publish("", "q", b"new", delivery_mode=2))
    client.send(commands.Basic.Ack(1))
    broker.restart()
    assert bodies(broker, "q") == [b"new"]


def test_a_purged_queue_is_empty(broker: Broker) -> None:
    """What was purged does not come back."""
    client = broker.client()
    declare(client, "q")
    client.send_bytes(publish("", "q", b"m", delivery_mode=2))
    client.call(commands.Queue.Purge(0, "q"), commands.Queue.PurgeOk)
    broker.restart()
    assert bodies(broker, "q") == []


# The directory


def test_a_second_broker_on_the_same_directory(broker: Broker) -> None:
    """It is told at once that another one uses it, and the first one goes on."""
    with pytest.raises(DataError, match="another broker uses it; stop that one, or name another"):
        Store(broker.directory)
    declare(broker.client(), "q")
    broker.restart()
    assert list(broker.vhost.queues) == ["q"]


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    """Garbage is named as such, with what to do, and left as it is."""
    (tmp_path / FILE).write_bytes(b"garbage" * 1000)
    with pytest.raises(DataError, match=r"damaged, or no broker's.*move it away"):
        Store(tmp_path)
    assert (tmp_path / FILE).read_bytes() == b"garbage" * 1000


@pytest.mark.parametrize("version", [0, 1, 2, 3, 99])
def test_a_file_of_another_program(tmp_path: Path, version: int) -> None:
    """Another program's SQLite file is refused, and no octet of it is changed."""
    other = sqlite3.connect(tmp_path / FILE)
    other.execute("CREATE TABLE theirs (x)")
    other.execute(f"PRAGMA user_version={version}")
    other.close()
    before = (tmp_path / FILE).read_bytes()
    with pytest.raises(DataError, match="not a file of this version's broker; name another"):
        Store(tmp_path)
    assert (tmp_path / FILE).read_bytes() == before
    assert os.listdir(tmp_path) == [FILE]  # noqa: PTH208 - their names


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE entries SET header = x'00'",
        "UPDATE entries SET header = NULL",
        "UPDATE entries SET deaths = '{'",
        "UPDATE entries SET deaths = '[{}]'",
        "UPDATE entries SET queue = 'other'",
        "UPDATE entries SET routing_keys = '7'",
        "UPDATE queues SET arguments = x'0000ffff'",
        "UPDATE queues SET arguments = x'0000000f09782d65787069726573490000000000'",
        "UPDATE bindings SET source = 'other'",
        "DROP TABLE entries",
    ],
)
def test_a_damaged_file(broker: Broker, statement: str) -> None:
    """What does not fit together is a DataError that names the file, not half a broker."""
    client = broker.client()
    declare(client, "q")
    client.call(commands.Queue.Bind(0, "q", "amq.fanout"), commands.Queue.BindOk)
    client.send_bytes(publish("", "q", b"m", delivery_mode=2))
    broker.store.close()
    database = sqlite3.connect(broker.directory / FILE)
    database.execute(statement)
    database.commit()
    database.close()
    with pytest.raises(DataError, match=FILE):
        broker.start()


def test_a_torn_page(broker: Broker) -> None:
    """A page of zeros in the middle of the file is found out when the broker starts."""
    client = broker.client()
    declare(client, "q")
    for _ in range(50):
        client.send_bytes(publish("", "q", b"m" * 3000, delivery_mode=2))
    broker.store.close()
    path = broker.directory / FILE
    data = bytearray(path.read_bytes())
    middle = len(data) // 8192 * 4096
    data[middle : middle + 8192] = bytes(8192)
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"damaged.*move it away"):
        broker.start()


def test_a_file_in_place_of_the_directory(tmp_path: Path) -> None:
    """The error names the path and asks for another one."""
    (tmp_path / "data").write_text("")
    with pytest.raises(DataError, match=r"data cannot be used: .*name one that this user may"):
        Store(tmp_path / "data")


@contextlib.contextmanager
def without_privileges() -> Iterator[None]:
    """Root may write anywhere: be nobody for a while."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("exists", [True, False])
def test_a_directory_that_may_not_be_written_to(tmp_path: Path, *, exists: bool) -> None:
    """Neither a directory that is read-only nor one that cannot be made is an OSError."""
    for path in (tmp_path, *tmp_path.parents[:3]):
        with contextlib.suppress(PermissionError):
            path.chmod(path.stat().st_mode | 0o055)
    tmp_path.chmod(0o555)
    directory = tmp_path if exists else tmp_path / "data"
    with without_privileges(), pytest.raises(DataError, match="this user may write to"):
        Store(directory)


# Size, and who may read it

SECOND = """
CREATE TABLE vhosts (name TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE exchanges (
    vhost TEXT, name TEXT, type TEXT, auto_delete INT, internal INT, arguments BLOB,
    PRIMARY KEY (vhost, name)
) WITHOUT ROWID;
CREATE TABLE queues (
    position INTEGER PRIMARY KEY, vhost TEXT, name TEXT, auto_delete INT, arguments BLOB,
    UNIQUE (vhost, name)
);
CREATE TABLE bindings (
    position INTEGER PRIMARY KEY, vhost TEXT, source TEXT, kind TEXT, destination TEXT,
    routing_key TEXT, arguments BLOB
);
CREATE INDEX bindings_of ON bindings (vhost, source);
CREATE TABLE entries (
    vhost TEXT, queue TEXT, number INT, exchange TEXT, routing_keys TEXT, header BLOB, body BLOB,
    deaths TEXT, priority INT, expires_at REAL, delivery_count INT,
    acquired_count INT,
    PRIMARY KEY (vhost, queue, number)
) WITHOUT ROWID;
"""
"""The tables as they were in the second version."""


def test_a_file_of_the_second_version_is_brought_to_this_one(tmp_path: Path) -> None:
    """Queues, bindings and messages of an earlier broker's file are there, deaths and all."""
    directory = tmp_path / "data"
    broker = Broker(directory)
    client = broker.client()
    declare(client, "dead")
    declare(client, "q", **{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"})
    client.call(commands.Queue.Bind(0, "q", "amq.topic", "a.#"), commands.Queue.BindOk)
    for number in range(3):
        client.send_bytes(publish("", "q", b"%d" % number, delivery_mode=2, headers={"n": 1}))
    client.send(commands.Basic.Get(0, "q"), commands.Basic.Reject(1, requeue=False))
    broker.store.close()
    make_it_of_the_second_version(directory / FILE)
    broker = Broker(directory)
    assert [message.body for message in broker.messages("q")] == [b"1", b"2"]
    (dead,) = broker.messages("dead")
    assert dead.headers["x-death"][0]["queue"] == "q"
    assert [(d.queue, d.reason) for d in dead.deaths] == [("q", "rejected")]
    client = broker.client()
    client.send_bytes(publish("amq.topic", "a.b", b"new", delivery_mode=2))
    broker.restart()
    assert [message.body for message in broker.messages("q")] == [b"1", b"2", b"new"]
    assert auto_vacuum(broker) == 2
    broker.store.close()


def make_it_of_the_second_version(path: Path) -> None:
    """Write what a file has into the tables of the second version, as its broker did."""
    new = sqlite3.connect(path)
    rows = {
        table: new.execute(f"SELECT * FROM {table}").fetchall()  # noqa: S608 - our own names
        for table in ("vhosts", "exchanges", "queues", "bindings")
    }
    entries = new.execute(
        "SELECT q.vhost, q.name, e.number, e.exchange, e.routing_keys, e.header, e.body, "
        "coalesce(e.deaths, '[]'), e.priority, e.expires_at, e.delivery_count, e.acquired_count "
        "FROM entries e JOIN queues q ON q.position = e.queue"
    ).fetchall()
    new.close()
    path.unlink()
    old = sqlite3.connect(path)
    old.executescript(SECOND)
    for table, found in {**rows, "entries": entries}.items():
        for row in found:
            marks = ", ".join("?" * len(row))
            old.execute(f"INSERT INTO {table} VALUES ({marks})", row)  # noqa: S608
    old.execute(f"PRAGMA application_id={APPLICATION}")
    old.execute("PRAGMA user_version=2")
    old.commit()
    old.close()
    path.chmod(0o644)


def auto_vacuum(broker: Broker) -> int:
    """The file's `auto_vacuum`."""
    return int(broker.store._database.execute("PRAGMA auto_vacuum").fetchone()[0])


def size_of(directory: Path) -> int:
    """Bytes of all files."""
    return sum(path.stat().st_size for path in directory.iterdir())


def test_a_message_takes_little_more_than_its_body(broker: Broker) -> None:
    """10,000 messages of 1 KiB take less than 1.5 KiB each, SQLite's log included."""
    client = broker.client()
    declare(client, "q")
    for number in range(100):
        frames = [
            publish("", "q", bytes(1024), delivery_mode=2, message_id=f"{number * 100 + at:032}")
            for at in range(100)
        ]
        client.send_bytes(b"".join(frames))
    assert size_of(broker.directory) / 10_000 < 1536


@pytest.mark.parametrize("how", ["ack", "purge", "delete"])
def test_a_file_is_small_again_once_it_is_empty(broker: Broker, how: str) -> None:
    """Of 20 MB nothing but spare pages is left soon after the last message has gone."""
    client = broker.client()
    declare(client, "q")
    for _ in range(20):
        client.send_bytes(publish("", "q", bytes(10_000), delivery_mode=2) * 100)
    assert size_of(broker.directory) > 20_000_000
    if how == "ack":
        client.send(commands.Basic.Consume(0, "q", "c"))
        while broker.vhost.queues["q"].ready:
            client.collect()
            client.connection.drained()
        for tag in range(100, 2001, 100):
            client.send(commands.Basic.Ack(tag, multiple=True))
    elif how == "purge":
        client.send(commands.Queue.Purge(0, "q"))
    else:
        client.send(commands.Queue.Delete(0, "q"))
    broker.node.advance(2)
    assert size_of(broker.directory) < 3_000_000
    assert broker.node.clock.wait() is None, "it looks for ever"
    declare(client, "r")
    client.send_bytes(publish("", "r", b"m", delivery_mode=2))
    broker.restart()
    assert bodies(broker, "r") == [b"m"]


def test_nobody_else_may_read_it(broker: Broker) -> None:
    """The directory and the files in it are their owner's alone, those from before as well."""
    client = broker.client()
    declare(client, "q")
    client.send_bytes(publish("", "q", b"m", delivery_mode=2))
    modes = {path.name: path.stat().st_mode & 0o777 for path in broker.directory.iterdir()}
    assert set(modes.values()) == {0o600}, modes
    assert broker.directory.stat().st_mode & 0o777 == 0o700
    broker.store.close()
    (broker.directory / FILE).chmod(0o644)
    broker.start()
    assert (broker.directory / FILE).stat().st_mode & 0o777 == 0o600


def test_another_programs_file_keeps_its_mode(tmp_path: Path) -> None:
    """What is refused is not touched."""
    other = sqlite3.connect(tmp_path / FILE)
    other.execute("CREATE TABLE theirs (x)")
    other.close()
    (tmp_path / FILE).chmod(0o644)
    with pytest.raises(DataError, match="not a file of this version's broker"):
        Store(tmp_path)
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o644


# Writes that fail


def refuse_to_grow(broker: Broker) -> None:
    """As a full disk does."""
    (pages,) = broker.store._database.execute("PRAGMA page_count").fetchone()
    broker.store._database.execute(f"PRAGMA max_page_count={pages}")


def test_nothing_is_confirmed_on_a_full_disk(broker: Broker) -> None:
    """Of messages that are published together, none is confirmed if one cannot be written."""
    client = broker.client()
    declare(client, "q")
    other = opened(broker.node)
    refuse_to_grow(broker)
    small = publish("", "q", b"small", delivery_mode=2)
    with pytest.raises(DataError, match="cannot be written: database or disk is full"):
        client.send_bytes(small + publish("", "q", b"x" * 100_000, delivery_mode=2) + small)
    assert client.of(commands.Basic.Ack) == []
    with pytest.raises(DataError):
        other.declare("another", durable=True)
    with pytest.raises(DataError):
        broker.node.settle()
    assert client.of(commands.Basic.Ack) == []
    broker.restart()
    assert bodies(broker, "q") == []


def test_nothing_is_confirmed_when_the_commit_fails(broker: Broker) -> None:
    """The last step counts: a commit that fails confirms nothing, then or later."""
    client = broker.client()
    declare(client, "q")
    broker.store._database.execute("PRAGMA foreign_keys=ON")
    broker.store._database.execute("CREATE TEMP TABLE parent (x PRIMARY KEY)")
    broker.store._database.execute(
        "CREATE TEMP TABLE child (x REFERENCES parent DEFERRABLE INITIALLY DEFERRED)"
    )
    broker.store._write("INSERT INTO child VALUES (1)")
    for _ in range(2):
        with pytest.raises(DataError, match="FOREIGN KEY"):
            client.send_bytes(publish("", "q", b"m", delivery_mode=2))
    assert client.of(commands.Basic.Ack) == []
    broker.restart()
    assert bodies(broker, "q") == []


def test_what_was_confirmed_before_is_there(broker: Broker) -> None:
    """After a failed write the file has all that was confirmed, and can be used again."""
    client = broker.client()
    declare(client, "q")
    client.send_bytes(publish("", "q", b"before", delivery_mode=2))
    assert len(client.of(commands.Basic.Ack)) == 1
    refuse_to_grow(broker)
    with pytest.raises(DataError):
        client.send_bytes(publish("", "q", b"x" * 100_000, delivery_mode=2))
    with pytest.raises(DataError):
        client.connection.lost()
    broker.restart()
    assert bodies(broker, "q") == [b"before"]


def test_nothing_is_written_after_a_failed_write(broker: Broker) -> None:
    """The disk may have room again: what was lost in between would not be noticed."""
    client = broker.client()
    declare(client, "q")
    refuse_to_grow(broker)
    with pytest.raises(DataError):
        client.send_bytes(publish("", "q", b"x" * 100_000, delivery_mode=2))
    broker.store._database.rollback()
    broker.store._database.execute("PRAGMA max_page_count=100000")
    with pytest.raises(DataError, match="disk is full"):
        client.send_bytes(publish("", "q", b"after", delivery_mode=2))
    broker.restart()
    assert bodies(broker, "q") == []


def test_nothing_is_confirmed_after_a_failed_write(broker: Broker) -> None:
    """Not even a transient message: the broker ends."""
    client = broker.client()
    client.declare("transient")
    broker.store._database.close()
    with pytest.raises(DataError):
        client.declare("durable", durable=True)
    with pytest.raises(DataError):
        client.send_bytes(publish("", "transient"))
    assert client.of(commands.Basic.Ack) == []


def test_a_commit_is_on_the_disk(broker: Broker) -> None:
    """SQLite is told to wait for the disk at every commit (`synchronous` is FULL)."""
    assert broker.store._database.execute("PRAGMA synchronous").fetchone() == (2,)


def test_many_messages_leave_no_larger_file(broker: Broker) -> None:
    """What was acknowledged makes room: the file does not grow with what went through it."""
    client = broker.client()
    declare(client, "q")
    client.send(commands.Basic.Consume(0, "q", "c", no_ack=True))
    frames = publish("", "q", b"x" * 1000, delivery_mode=2)
    sizes = []
    for _ in range(3):
        for _ in range(20):
            client.connection.receive(frames * 50)
            client.connection.output()
        broker.store._database.execute("PRAGMA wal_checkpoint")
        sizes.append((broker.directory / FILE).stat().st_size)
    assert sizes[2] <= sizes[0] + 65536
    assert isinstance(client.last(), commands.Basic.ConsumeOk | base.Frame | header.ContentHeader)
