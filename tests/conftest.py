"""What every test may ask for: a broker, and names that no other test uses.

The brokers are those of the pytest plugin (`mqkit.testing.plugin`): the embedded one and every
RabbitMQ that is found, or what `--mqkit-broker` says.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import uvloop

from mqkit import drivers
from mqkit.drivers.base import Driver
from mqkit.testing.broker import Broker
from mqkit.testing.postgres import (
    PostgresNotFoundError,
    PostgresServer,
    find_postgres,
)
from mqkit.testing.postgres import start as start_postgres


def pytest_configure() -> None:
    """Take SIGINT: what is started by a job in the background would ignore it, as the job does."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


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


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server, started at its first test; many share it, and none may hurt it."""
    try:
        spec = find_postgres(os.environ)
    except PostgresNotFoundError as error:
        pytest.fail(str(error), pytrace=False)
    with start_postgres(spec) as server:
        yield server


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path, name: str) -> Iterator[str]:
    """The URL of an empty database of this test alone, of each kind in turn."""
    if request.param == "sqlite":
        yield f"sqlite+aiosqlite:///{tmp_path / 'test.sqlite'}"
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    yield server.create_database(name)
    server.drop_database(name)


LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}

ON_BOTH_LOOPS = {"test_hot_path"}
"""Modules whose tests run on each event loop: those of what an event loop does for mqkit.

Other tests run on asyncio's, and what `mqkit run` starts on uvloop, as it is installed here.
"""


def pytest_asyncio_loop_factories(
    item: pytest.Item,
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Say on which event loops an asynchronous test runs."""
    return LOOPS if item.path.stem in ON_BOTH_LOOPS else {"asyncio": LOOPS["asyncio"]}


PARTS = {
    "conformance": {"test_conformance"},
    "clients": {"test_blocking", "test_blocking_faults", "test_cli", "test_cli_publish"},
    "drivers": {"test_aio_pika", "test_aio_pika_lent", "test_connection", "test_limits"},
    "silence": {"test_silence"},
    "services": {"test_poison", "test_replay", "test_replay_faults", "test_retry", "test_signals"},
}
"""Modules whose tests share a broker with each other only; those of all others share one too.

Tests that run side by side must not share a broker: some close all its connections, or raise an
alarm. So each broker's tests are a few groups of about the same length, which run on different
workers, each with a broker of its own.
"""


ON_ONE_RABBITMQ = {"test_cli_publish", "test_cli_store", "test_guard"}
"""Modules of what no version of RabbitMQ changes: they run on the newest, and the embedded one."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what runs on one RabbitMQ only, and say which tests must run on the same worker.

    The latter is for `pytest -n 4 --dist loadgroup`.
    """
    labels = [label for item in items if (label := _label(item)) not in (None, "embedded")]
    others = [
        item
        for item in items
        if item.path.stem in ON_ONE_RABBITMQ and _label(item) in set(labels) - set(labels[:1])
    ]
    if others:
        config.hook.pytest_deselected(items=others)
        left_out = set(others)
        items[:] = [item for item in items if item not in left_out]
    if not config.pluginmanager.hasplugin("xdist"):
        return
    for item in items:
        group = _group(item)
        if group is not None:
            item.add_marker(pytest.mark.xdist_group(group))


def _label(item: pytest.Item) -> str | None:
    """The label of the broker that a test runs on; None where it needs none of those found."""
    params = getattr(getattr(item, "callspec", None), "params", {})
    for name in ("mqkit_broker", "mqkit_rabbitmq"):
        if name in params:
            return str(getattr(params[name], "label", "none"))
    return None


def _group(item: pytest.Item) -> str | None:
    """The name of a test's group; None where it needs no broker and may run anywhere."""
    params = getattr(getattr(item, "callspec", None), "params", {})
    module = item.path.stem
    for name in ("mqkit_broker", "mqkit_rabbitmq"):
        if name in params:
            label = getattr(params[name], "label", "none")
            # An embedded broker is started in milliseconds: its tests are in many small groups.
            parts = [part for part, modules in PARTS.items() if module in modules]
            part = module if label == "embedded" else (*parts, "rest")[0]
            return f"{label}-{part}"
    if "matrix_broker" in params:
        return f"matrix-{params['matrix_broker'].label}"
    if "own_broker" in params:
        return f"own-{params['own_broker'].label}"
    return None
