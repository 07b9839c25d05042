from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pika
import pytest

from mqkit.drivers.pika import convert as wire
from mqkit.errors import ConfigurationError
from mqkit.settings import BrokerUrl
from mqkit.testing.brokers import probe
from mqkit.testing.brokers.broker import BrokerControlError
from mqkit.testing.brokers.embedded import EmbeddedBroker
from mqkit.testing.brokers.finder import EMBEDDED, find_brokers, start
from tests.conformance.suite.targets import target_of


@pytest.fixture
def embedded() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as embedded:
        yield embedded


def connect(url: str) -> pika.BlockingConnection:
    parsed = BrokerUrl.parse(url)
    return pika.BlockingConnection(wire.parameters(parsed, parsed.hosts[0], "test"))


def keep_one_message(url: str) -> None:
    with connect(url) as connection:
        channel = connection.channel()
        channel.queue_declare("kept", durable=True)
        channel.confirm_delivery()
        channel.basic_publish(
            "", "kept", b"still here", pika.BasicProperties(delivery_mode=2), mandatory=True
        )


def answers(embedded: EmbeddedBroker) -> bool:
    url = BrokerUrl.parse(embedded.url)
    try:
        socket.create_connection((url.hosts[0].name, url.hosts[0].port), timeout=1).close()
    except ConnectionRefusedError:
        return False
    return True


def test_it_is_found_only_where_it_is_asked_for() -> None:
    """MQKIT_TEST_BROKER=embedded finds it and nothing else, whatever else there is."""
    env = {"MQKIT_TEST_BROKER": "embedded", "MQKIT_TEST_URL": "amqp://host/"}
    assert find_brokers(env) == [EMBEDDED]
    assert str(EMBEDDED) == "mqkit's embedded broker"
    with pytest.raises(ConfigurationError, match="embedded"):
        find_brokers({"MQKIT_TEST_BROKER": "embedd"})


def test_starting_the_spec_gives_the_broker() -> None:
    """The spec that is found is started like any other, and speaks AMQP with a version."""
    with start(EMBEDDED) as broker:
        url = BrokerUrl.parse(broker.url)
        assert (broker.kind, broker.label) == ("embedded", "embedded")
        assert broker.version == probe.read_version(url, url.hosts[0], timeout=5)
        assert target_of(broker).label == "embedded"


@pytest.mark.parametrize("way", ["kill", "stop"])
def test_it_comes_back_with_what_was_durable(embedded: EmbeddedBroker, way: str) -> None:
    """After kill or stop nothing answers; after start the same URL does, with its messages."""
    keep_one_message(embedded.url)
    embedded.ctl("add_vhost", "kept-too")
    url = embedded.url
    getattr(embedded, way)()
    assert not answers(embedded)
    with pytest.raises(BrokerControlError, match="not running"):
        embedded.ctl("list_vhosts")
    getattr(embedded, way)()
    embedded.start()
    embedded.start()
    assert embedded.url == url
    with connect(url) as connection:
        _, _, body = connection.channel().basic_get("kept")
    assert body == b"still here"
    assert "kept-too" in embedded.ctl("list_vhosts").splitlines()


def test_closing_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The directory, the thread and the port are gone, and closing again does nothing."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    threads = threading.active_count()
    with EmbeddedBroker() as broker:
        keep_one_message(broker.url)
        assert list(tmp_path.iterdir())
    broker.close()
    assert not list(tmp_path.iterdir())
    assert not answers(broker)
    assert threading.active_count() == threads


def test_its_time_can_be_advanced(embedded: EmbeddedBroker) -> None:
    """A message that lives for an hour is gone an hour later, which takes no time."""
    with connect(embedded.url) as connection:
        channel = connection.channel()
        channel.queue_declare("q", arguments={"x-message-ttl": 3_600_000})
        channel.confirm_delivery()
        channel.basic_publish("", "q", b"")
        embedded.advance(3599)
        assert channel.queue_declare("q", passive=True).method.message_count == 1
        embedded.advance(1)
        assert channel.queue_declare("q", passive=True).method.message_count == 0


def test_a_stopped_broker_has_no_time(embedded: EmbeddedBroker) -> None:
    """What needs it running says so."""
    embedded.stop()
    with pytest.raises(BrokerControlError, match="not running"):
        embedded.advance(1)
    for call in (embedded.block, embedded.unblock):
        with pytest.raises(BrokerControlError, match="not running"):
            call()


def test_ctl_manages_users_and_virtual_hosts(embedded: EmbeddedBroker) -> None:
    """Users, permissions and virtual hosts are managed with rabbitmqctl's own words."""
    embedded.ctl("add_user", "me", "secret")
    embedded.ctl("set_permissions", "me", "", "^q$", "")
    url = embedded.url.replace("guest:guest", "me:secret")
    with connect(url) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        with pytest.raises(pika.exceptions.ChannelClosedByBroker) as caught:
            channel.queue_declare("q")
        assert caught.value.reply_code == 403
    embedded.ctl("delete_user", "me")
    with pytest.raises(pika.exceptions.AMQPConnectionError):
        connect(url)
    embedded.ctl("add_vhost", "other")
    assert embedded.ctl("list_vhosts", "name") == "name\n/\nother\n"
    embedded.ctl("delete_vhost", "other")
    assert embedded.ctl("list_vhosts") == "name\n/\n"


def test_ctl_lists_queues(embedded: EmbeddedBroker) -> None:
    """The columns are those asked for, of the virtual host asked for, under their names."""
    keep_one_message(embedded.url)
    assert embedded.ctl("list_queues") == "name\tmessages\nkept\t1\n"
    with connect(embedded.url) as connection:
        channel = connection.channel()
        channel.basic_get("kept")
        channel.basic_consume("kept", lambda *_: None)
        columns = ("consumers", "messages_ready", "messages_unacknowledged", "messages", "name")
        listed = embedded.ctl("list_queues", *columns).splitlines()
        assert listed == ["\t".join(columns), "1\t0\t1\t1\tkept"]
    embedded.add_vhost("other")
    assert embedded.ctl("-p", "other", "list_queues", "name") == "name\n"


def test_ctl_closes_connections(embedded: EmbeddedBroker) -> None:
    """The clients are told the reason that was given, as RabbitMQ words it."""
    connection = connect(embedded.url)
    embedded.ctl("close_all_connections", "for a test")
    with pytest.raises(pika.exceptions.ConnectionClosedByBroker) as caught:
        connection.process_data_events(5)
    assert (caught.value.reply_code, caught.value.reply_text) == (
        320,
        "CONNECTION_FORCED - for a test",
    )


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("eval", "1."), "rabbitmqctl eval 1.: the embedded broker has only add_user, add_vhost"),
        ((), "has only"),
        (("delete_vhost", "nowhere"), "no virtual host 'nowhere'"),
        (("set_permissions", "nobody", "", "", ""), "no nobody"),
        (("set_permissions", "-p", "nowhere", "guest", "", "", ""), "virtual host 'nowhere'"),
        (("list_queues", "-p", "nowhere"), "virtual host 'nowhere'"),
        (("list_queues", "mood"), "no column 'mood'"),
        (("list_vhosts", "mood"), "mood"),
        (("add_user", "me"), "wrong number of arguments"),
    ],
)
def test_ctl_names_what_it_cannot_do(
    embedded: EmbeddedBroker, args: tuple[str, ...], words: str
) -> None:
    """A command that it lacks, or that fails, is a BrokerControlError that names it."""
    with pytest.raises(BrokerControlError) as caught:
        embedded.ctl(*args)
    assert words in str(caught.value)
    assert str(caught.value).startswith(f"rabbitmqctl {' '.join(args) or ''}".rstrip())


def test_a_virtual_host_has_a_url(embedded: EmbeddedBroker) -> None:
    """`add_vhost` of any broker returns the URL for it, whatever characters are in its name."""
    url = embedded.add_vhost("a/b c")
    assert url == embedded.url + "a%2Fb%20c"
    with connect(url) as connection:
        connection.channel().queue_declare("only-here")
    assert embedded.ctl("list_queues", "name") == "name\n"
    embedded.delete_vhost("a/b c")
    with pytest.raises(pika.exceptions.AMQPConnectionError):
        connect(url)


def test_block_is_an_alarm(embedded: EmbeddedBroker) -> None:
    """While it is blocked a publish is not confirmed, and the client is told why."""
    blocked = []
    with connect(embedded.url) as connection:
        connection.add_on_connection_blocked_callback(
            lambda _, frame: blocked.append(frame.method.reason)
        )
        channel = connection.channel()
        channel.queue_declare("q")
        embedded.block()
        channel.basic_publish("", "q", b"x")
        while not blocked:
            connection.process_data_events(5)
        assert blocked == ["low on memory"]
        assert embedded.ctl("list_queues", "messages") == "messages\n0\n"
        embedded.unblock()
        while channel.queue_declare("q", passive=True).method.message_count == 0:
            pass
