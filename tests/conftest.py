"""What every test may ask for: a broker, and names that no other test uses.

The brokers are those of the pytest plugin (`mqkit.testing.plugin`): the embedded one and every
RabbitMQ that is found, or what `--mqkit-broker` says.
"""

from __future__ import annotations

import secrets

import pytest

from mqkit import drivers
from mqkit.drivers.base import Driver
from mqkit.testing.broker import Broker


@pytest.fixture(scope="session")
def broker(mqkit_broker: Broker) -> Broker:
    """The chosen brokers in turn; started at its first test, ended after its last."""
    return mqkit_broker


@pytest.fixture(scope="session")
def rabbitmq(mqkit_rabbitmq: Broker) -> Broker:
    """Each RabbitMQ that is found, for tests of what the embedded broker does not do."""
    return mqkit_rabbitmq


@pytest.fixture(params=drivers.NAMES)
def driver(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Driver:
    """Each driver in turn; whatever is not given one by the test runs on it too."""
    monkeypatch.setattr(drivers, "DEFAULT", request.param)
    return drivers.named()


@pytest.fixture
def name() -> str:
    """A prefix for the names of this test's queues and exchanges."""
    return f"t-{secrets.token_hex(4)}"
