"""Fixtures that every test may ask for: brokers, drivers, databases, names of its own.

The brokers are those of the pytest plugin (`mqkit.testing.plugin`): the embedded one and every
RabbitMQ that is found, or what `--mqkit-broker` says.
"""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import secrets
import signal
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import uvloop
from hypothesis import HealthCheck, settings

from mqkit import drivers
from mqkit.drivers.base import Driver
from mqkit.testing.brokers.broker import Broker
from tests.postgres import (
    PostgresNotFoundError,
    PostgresServer,
    find_postgres,
)
from tests.postgres import start as start_postgres
from tests.selection import (
    ALL_VERSIONS,
    IN_TURN,
    LONG,
    OTHER_VERSIONS,
    SYSTEM,
    group,
    is_system,
    left_out,
)


def pytest_configure(config: pytest.Config) -> None:
    """Handle SIGINT, which processes started by a job in the background would else ignore.

    Garbage is not collected until all tests are read: next to nothing of what is made then is any.
    """
    gc.disable()
    config.addinivalue_line("markers", f"{IN_TURN}: runs on one of the RabbitMQs that are found")
    config.addinivalue_line(
        "markers", f"{LONG}: kills, floods or measures for long: make test-long"
    )
    config.addinivalue_line("markers", f"{SYSTEM}: starts what people run: make test-system")
    # How long an example takes says nothing on a machine that is busy with five other workers.
    settings.register_profile("mqkit", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("mqkit")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


ALARM_AGAIN = 30.0
"""Seconds after which a test whose time is over, and which has not ended, is told again."""


@pytest.hookimpl(wrapper=True)
def pytest_timeout_set_timer(item: pytest.Item, settings: Any) -> Generator[None, object, object]:
    """Let the timer of a test ring again and again, until the test has ended.

    It raises where the loop happens to be. In a handler or a task of mqkit that is a failure of
    this one message, after which the test would wait forever for what it waits for.
    """
    is_set = yield
    if signal.getitimer(signal.ITIMER_REAL)[0]:
        signal.setitimer(signal.ITIMER_REAL, settings.timeout, ALARM_AGAIN)
    return is_set


@pytest.fixture(autouse=True)
def _process_name() -> Iterator[None]:
    """Give the process its name back: a command that is run in it calls it by its label."""
    process = multiprocessing.current_process()
    name = process.name
    yield
    process.name = name


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
    # It is never killed, so that it need not have anything on disk; half of the processor time
    # of making a database, and of each commit's time, went into that.
    with start_postgres(spec, fsync=False) as server:
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


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let tests run on more than the one RabbitMQ that each is dealt out to."""
    parser.addoption(
        ALL_VERSIONS,
        dest="versions",
        action="store_const",
        const=ALL_VERSIONS,
        default="",
        help="run the tests that are dealt out to the RabbitMQs on each of them",
    )
    parser.addoption(
        OTHER_VERSIONS,
        dest="versions",
        action="store_const",
        const=OTHER_VERSIONS,
        help="run those of what RabbitMQ does on the versions to which they were not dealt out",
    )


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Freeze what was read, which stays until the end, out of every later garbage collection.

    With thousands of tests a full one took 0.2 s of processor time, and 0.02 s since.
    """
    gc.enable()
    gc.collect()
    gc.freeze()


def failed_before(config: pytest.Config) -> set[str]:
    """Return the ids of the tests that failed, where only they are run: `--lf`."""
    if not config.getoption("lf", default=False) or config.cache is None:
        return set()
    return set(config.cache.get("cache/lastfailed", {}))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deal out the tests that run on one RabbitMQ each, and group those that share a broker.

    The latter is for `pytest -n 4 --dist loadgroup`.
    """
    for item in items:
        if is_system(item):
            item.add_marker(SYSTEM)
    # Who names one case of a test means it.
    is_named = any("[" in each for each in config.args)
    option = ALL_VERSIONS if is_named else config.getoption("versions")
    if others := set(left_out(items, option, failed_before(config))):
        config.hook.pytest_deselected(items=list(others))
        items[:] = [item for item in items if item not in others]
    if not config.pluginmanager.hasplugin("xdist"):
        return
    for item in items:
        if (name := group(item)) is not None:
            item.add_marker(pytest.mark.xdist_group(name))
