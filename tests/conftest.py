"""What every test may ask for: a real broker, and names that no other test uses."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Sequence

import pytest

from mqkit import drivers
from mqkit.drivers.base import Driver
from mqkit.errors import MqkitError
from mqkit.testing.brokers import Broker, BrokerSpec, find_brokers, start

_FOUND = pytest.StashKey[Sequence[BrokerSpec | MqkitError]]()


def _found(config: pytest.Config) -> Sequence[BrokerSpec | MqkitError]:
    """Look for brokers once, and not at all where no test asks for one."""
    if _FOUND not in config.stash:
        try:
            config.stash[_FOUND] = find_brokers(os.environ)
        except MqkitError as exc:
            # A test that needs a broker and has none fails, saying what to do; it is not skipped.
            config.stash[_FOUND] = [exc]
    return config.stash[_FOUND]


def _label(found: BrokerSpec | MqkitError) -> str:
    return found.label if isinstance(found, BrokerSpec) else "none"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "broker" in metafunc.fixturenames:
        metafunc.parametrize(
            "broker", _found(metafunc.config), ids=_label, indirect=True, scope="session"
        )


@pytest.fixture(scope="session")
def broker(request: pytest.FixtureRequest) -> Iterator[Broker]:
    """A real RabbitMQ, each one found in turn; started at its first test, ended after its last."""
    found: BrokerSpec | MqkitError = request.param
    if isinstance(found, MqkitError):
        pytest.fail(str(found), pytrace=False)
    with start(found) as running:
        yield running


@pytest.fixture(params=drivers.NAMES)
def driver(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Driver:
    """Each driver in turn; whatever is not given one by the test runs on it too."""
    monkeypatch.setattr(drivers, "DEFAULT", request.param)
    return drivers.named()


@pytest.fixture
def name() -> str:
    """A prefix for the names of this test's queues and exchanges."""
    return f"t-{secrets.token_hex(4)}"
