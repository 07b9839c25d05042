"""Brokers that the tests start themselves, whichever kinds can be had on this machine."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pika
import pytest

from mqkit.drivers.pika.convert import parameters
from mqkit.errors import ConnectError
from mqkit.settings import BrokerUrl
from mqkit.testing.brokers import probe
from mqkit.testing.brokers.broker import BrokerControlError
from mqkit.testing.brokers.finder import (
    Broker,
    BrokerNotFoundError,
    BrokerSpec,
    find_brokers,
    start,
)
from mqkit.testing.brokers.nodes import NodeBroker

ANSWER = 10
"""Seconds until a broker has told what it tells at once."""

HOLDER = """
import os, sys, time
from mqkit.testing.brokers.finder import BrokerSpec, start
with start(BrokerSpec("node", "node", sys.argv[1])) as node:
    print(node.home, flush=True)
    time.sleep(100)
"""


@functools.cache
def _found(kind: str) -> list[BrokerSpec]:
    try:
        return find_brokers({**os.environ, "MQKIT_TEST_BROKER": kind})
    except BrokerNotFoundError:
        return []


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    # All of each kind that this machine has, where `broker` takes the first kind only. A machine
    # with neither has a broker by its URL, which is not ours to kill.
    if "own_broker" in metafunc.fixturenames:
        specs = [*_found("container"), *_found("node")]
        metafunc.parametrize(
            "own_broker", specs, ids=[spec.label for spec in specs], indirect=True, scope="module"
        )
    if "node_spec" in metafunc.fixturenames:
        specs = _found("node")
        metafunc.parametrize("node_spec", specs, ids=[spec.label for spec in specs])


@pytest.fixture(scope="module")
def own_broker(request: pytest.FixtureRequest) -> Iterator[Broker]:
    with start(request.param) as broker:
        yield broker


def answers(broker: Broker) -> bool:
    url = BrokerUrl.parse(broker.url)
    try:
        probe.read_version(url, url.hosts[0], timeout=1)
    except ConnectError:
        return False
    return True


def processes_of(home: Path) -> list[int]:
    """Return the processes whose HOME is `home`, where the system tells (Linux)."""
    found = []
    for environ in Path("/proc").glob("[0-9]*/environ"):
        try:
            held = environ.read_bytes()
        except OSError:
            continue
        if f"HOME={home}".encode() in held:
            found.append(int(environ.parent.name))
    return found


def test_the_broker_of_the_tests_speaks_amqp(broker: Broker) -> None:
    """The session's broker answers at its URL, with the version that it was found to have."""
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", broker.version)
    assert answers(broker)


def test_a_broker_of_ones_own_tells_its_version(own_broker: Broker) -> None:
    """The handshake and rabbitmqctl agree on the version."""
    assert own_broker.ctl("version").strip() == own_broker.version
    assert own_broker.version.startswith(own_broker.label.removeprefix("node-"))


def test_ctl_reports_what_the_broker_has(own_broker: Broker, name: str) -> None:
    """What one rabbitmqctl command makes, the next one lists, without banners."""
    own_broker.ctl("add_vhost", name)
    assert name in own_broker.ctl("list_vhosts", "name").splitlines()
    own_broker.ctl("delete_vhost", name)
    with pytest.raises(BrokerControlError, match=name):
        own_broker.ctl("delete_vhost", name)


def test_what_is_evaluated_is_done_or_told(own_broker: Broker) -> None:
    """An expression has its effect in the node, its value is printed, and a failed one raises."""
    own_broker.evaluate("application:set_env(rabbit, of_a_test, 17).")
    asked = 'Before = <<"a b">>, {Before, application:get_env(rabbit, of_a_test)}.'
    assert own_broker.evaluate(asked) == own_broker.ctl("eval", asked)
    assert "{ok,17}" in own_broker.evaluate(asked)
    with pytest.raises(BrokerControlError, match="undef"):
        own_broker.evaluate("no_module:no_function().")


@pytest.mark.parametrize("ending", ["", '"a\\b/ä c'])
def test_a_virtual_host_comes_and_goes(own_broker: Broker, name: str, ending: str) -> None:
    """Its URL connects with all permissions, whatever its name; it ends with its connections."""
    url = BrokerUrl.parse(own_broker.add_vhost(name + ending))
    connection = pika.BlockingConnection(parameters(url, url.hosts[0], name))
    channel = connection.channel()
    channel.queue_declare(name)
    channel.basic_publish("", name, b"1")
    assert channel.basic_get(name, auto_ack=True)[2] == b"1"
    own_broker.delete_vhost(name + ending)
    with pytest.raises(pika.exceptions.AMQPError):
        connection.sleep(30)
    with pytest.raises(BrokerControlError, match=r"no_such_vhost|does not exist"):
        own_broker.delete_vhost(name + ending)


@pytest.mark.in_turn
@pytest.mark.parametrize("way", ["kill", "stop"])
def test_a_broker_comes_back_on_its_port(own_broker: Broker, name: str, way: str) -> None:
    """After kill or stop nothing answers; after start the same URL and the same data do."""
    own_broker.ctl("add_vhost", name)
    url = own_broker.url
    getattr(own_broker, way)()
    assert not answers(own_broker)
    with pytest.raises(BrokerControlError):
        own_broker.ctl("list_vhosts")
    own_broker.start()
    assert own_broker.url == url
    assert answers(own_broker)
    assert name in own_broker.ctl("list_vhosts", "name").splitlines()


def test_a_broker_that_came_back_tells_of_a_deleted_queue(own_broker: Broker, name: str) -> None:
    """A broker that start returns tells a consumer at once that its queue was deleted."""
    own_broker.kill()
    own_broker.start()
    url = BrokerUrl.parse(own_broker.url)
    connection = pika.BlockingConnection(parameters(url, url.hosts[0], name))
    channel = connection.channel()
    cancelled: list[object] = []
    channel.add_on_cancel_callback(cancelled.append)
    channel.queue_declare(name)
    channel.basic_consume(name, lambda *_: None)
    channel.queue_delete(name)
    connection.process_data_events(time_limit=ANSWER)
    connection.close()
    assert cancelled


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGKILL])
def test_a_private_node_ends_with_its_process(
    node_spec: BrokerSpec, signum: signal.Signals
) -> None:
    """Whatever ends the process that started a node, the node and its directory go with it."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, node_spec.target],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        home = Path(process.stdout.readline().strip())
        assert home.is_dir()
        process.send_signal(signum)
    deadline = time.monotonic() + 20
    while home.exists() or processes_of(home):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_private_nodes_are_out_of_the_way_of_others_and_leave_nothing(
    node_spec: BrokerSpec,
) -> None:
    """Two run side by side, each with data of its own, and are gone with all they had."""
    with ThreadPoolExecutor(2) as pool, contextlib.ExitStack() as stack:
        nodes = [stack.enter_context(node) for node in pool.map(start, [node_spec, node_spec])]
        one, other = nodes
        assert isinstance(one, NodeBroker)
        assert isinstance(other, NodeBroker)
        assert one.url != other.url
        one.ctl("add_vhost", "only-here")
        assert "only-here" not in other.ctl("list_vhosts", "name").splitlines()
        for node in (one, other):
            assert processes_of(node.home) or not Path("/proc").is_dir()
    for node in (one, other):
        assert not answers(node)
        assert not node.home.exists()
        assert not processes_of(node.home)
