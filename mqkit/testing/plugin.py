"""The pytest plugin: brokers, virtual hosts, proxies and harnesses as fixtures.

It comes with `pip install mqkit[testing]` and is loaded by itself; what it takes is imported by
the first test that asks. All its names begin with `mqkit_`. Async tests that use one of them need
no other plugin, and are left to pytest-asyncio, anyio or pytest-trio where that would run them.

    async def test_an_order_is_posted(mqkit_harness):
        async with mqkit_harness(service) as h:
            order = await h.publish("payments", "order.accepted", {"id": "o-1", "amount": "5"})
            assert (await h.outcome(order)).acked

`--mqkit-broker` (or `mqkit_broker` in the ini file) says what `mqkit_broker`, `mqkit_vhost` and
`mqkit_harness` are on: `embedded`, which is the default and needs nothing; `rabbitmq`, each one
that `mqkit.testing.brokers.find_brokers` finds in turn; or `all` of them. Where a RabbitMQ is asked
for and none is to be had, the test fails and says how to provide one.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pytest

from mqkit.testing.async_tests import (  # noqa: F401 - hooks, which pytest finds by their names
    pytest_fixture_setup,
    pytest_pyfunc_call,
)

if TYPE_CHECKING:
    from mqkit.errors import MqkitError
    from mqkit.testing.brokers import Broker, BrokerSpec
    from mqkit.testing.proxy import TcpProxy

CHOICES = ("embedded", "rabbitmq", "all")


class BrokerPool:
    """The brokers that run now, each one once, however many fixtures hold it."""

    def __init__(self) -> None:
        self._running: dict[BrokerSpec, tuple[Broker, int]] = {}

    @contextlib.contextmanager
    def hold(self, spec: BrokerSpec) -> Iterator[Broker]:
        """Start the broker unless it runs; it ends when nobody holds it any more."""
        from mqkit.testing.brokers import start  # noqa: PLC0415 - cheap to import

        broker, holders = self._running.get(spec) or (start(spec), 0)
        self._running[spec] = broker, holders + 1
        try:
            yield broker
        finally:
            broker, holders = self._running.pop(spec)
            if holders > 1:
                self._running[spec] = broker, holders - 1
            else:
                broker.close()


_FOUND = pytest.StashKey["Sequence[BrokerSpec | MqkitError]"]()
_POOL = pytest.StashKey[BrokerPool]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that chooses the broker."""
    what = "what mqkit's fixtures run on: embedded (default), rabbitmq (each that is found), all"
    parser.getgroup("mqkit").addoption("--mqkit-broker", choices=CHOICES, help=what)
    parser.addini("mqkit_broker", what, default="embedded")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give each test that asks for a broker one run for each broker that was chosen."""
    if "mqkit_rabbitmq" in metafunc.fixturenames:
        found = _found(metafunc.config)
        _parametrize(metafunc, "mqkit_rabbitmq", [_refused_embedded(each) for each in found])
    if "mqkit_broker" in metafunc.fixturenames:
        _parametrize(metafunc, "mqkit_broker", _chosen(metafunc.config))


@pytest.fixture(scope="session")
def mqkit_rabbitmq(request: pytest.FixtureRequest) -> Iterator[Broker]:
    """A real RabbitMQ (a `Broker`), each one found in turn.

    It is started for the first test that asks and ended after the last one.
    """
    with _held(request.config, request.param) as broker:
        yield broker


@pytest.fixture(scope="session")
def mqkit_embedded(pytestconfig: pytest.Config) -> Iterator[Broker]:
    """The embedded broker (an `EmbeddedBroker`), one for the session."""
    from mqkit.testing.brokers import EMBEDDED  # noqa: PLC0415 - cheap to import

    with _held(pytestconfig, EMBEDDED) as broker:
        yield broker


@pytest.fixture(scope="session")
def mqkit_broker(request: pytest.FixtureRequest) -> Iterator[Broker]:
    """The broker that `--mqkit-broker` chooses (a `Broker`), or each of them."""
    with _held(request.config, request.param) as broker:
        yield broker


@pytest.fixture
def mqkit_vhost(mqkit_broker: Broker) -> Iterator[str]:
    """The URL of a virtual host of `mqkit_broker` for this test alone; it goes with the test.

    On a RabbitMQ it takes three runs of rabbitmqctl, some 2 s in all; on one that was named by
    MQKIT_TEST_URL it needs MQKIT_TEST_CTL.
    """
    from mqkit.testing.brokers.broker import (  # noqa: PLC0415 - as above
        BrokerControlError,
        new_vhost_name,
    )

    name = new_vhost_name()
    try:
        url = mqkit_broker.add_vhost(name)
    except BrokerControlError as error:
        pytest.fail(f"no virtual host for this test: {error}", pytrace=False)
    yield url
    mqkit_broker.delete_vhost(name)


@pytest.fixture
def mqkit_harness(mqkit_broker: Broker, mqkit_vhost: str) -> Callable[..., Any]:
    """Runs services on the test's own virtual host.

    `async with mqkit_harness(service) as h` starts one, and stops it at the end of the block. It
    takes the options of `mqkit.testing.harness.harness`, and `h` is its `Harness`. Several
    services of one test are on the same virtual host, and reach each other.
    """
    from mqkit.testing.harness import harness  # noqa: PLC0415 - cheap to import

    return functools.partial(harness, on=mqkit_broker, url=mqkit_vhost)


@pytest.fixture
def mqkit_proxy() -> Iterator[Callable[[str], TcpProxy]]:
    """`mqkit_proxy(url)` starts a `mqkit.testing.proxy.TcpProxy`, which ends with the test."""
    from mqkit.testing.proxy import TcpProxy  # noqa: PLC0415 - cheap to import

    with contextlib.ExitStack() as stack:
        yield lambda url: stack.enter_context(TcpProxy(url))


def _found(config: pytest.Config) -> Sequence[BrokerSpec | MqkitError]:
    """Look for brokers once, and not at all where no test asks for one."""
    from mqkit.errors import MqkitError  # noqa: PLC0415 - cheap to import
    from mqkit.testing.brokers import find_brokers  # noqa: PLC0415 - as above

    if _FOUND not in config.stash:
        try:
            config.stash[_FOUND] = find_brokers(os.environ)
        except MqkitError as error:
            # A test that needs a broker and has none fails, saying what to do; it is not skipped.
            config.stash[_FOUND] = [error]
    return config.stash[_FOUND]


def _chosen(config: pytest.Config) -> Sequence[BrokerSpec | MqkitError]:
    from mqkit.testing.brokers import EMBEDDED  # noqa: PLC0415 - cheap to import

    choice = config.getoption("--mqkit-broker") or config.getini("mqkit_broker")
    if choice not in CHOICES:
        raise pytest.UsageError(f"mqkit_broker is one of {', '.join(CHOICES)}, not {choice!r}")
    embedded = [] if choice == "rabbitmq" else [EMBEDDED]
    real = [] if choice == "embedded" else _found(config)
    return [*embedded, *(each for each in real if each not in embedded)]


def _refused_embedded(found: BrokerSpec | MqkitError) -> BrokerSpec | MqkitError:
    from mqkit.testing.brokers import EMBEDDED, BrokerNotFoundError  # noqa: PLC0415 - as above

    if found != EMBEDDED:
        return found
    return BrokerNotFoundError(
        "this test needs a RabbitMQ, and MQKIT_TEST_BROKER=embedded keeps it from one"
    )


def _parametrize(
    metafunc: pytest.Metafunc, name: str, found: Sequence[BrokerSpec | MqkitError]
) -> None:
    labels = [getattr(each, "label", "none") for each in found]
    metafunc.parametrize(name, found, ids=labels, indirect=True, scope="session")


@contextlib.contextmanager
def _held(config: pytest.Config, found: BrokerSpec | MqkitError) -> Iterator[Broker]:
    if isinstance(found, Exception):
        pytest.fail(str(found), pytrace=False)
    with config.stash.setdefault(_POOL, BrokerPool()).hold(found) as broker:
        yield broker
