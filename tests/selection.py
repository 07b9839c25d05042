"""Chooses which tests run when, on which RabbitMQ, and which of them on the same worker."""

from __future__ import annotations

import zlib
from collections.abc import Container, Sequence

import pytest

ALL_VERSIONS = "--all-versions"
"""The option with which every test runs on every RabbitMQ that is found."""

OTHER_VERSIONS = "--other-versions"
"""The option that runs what is left: what brokers and databases do, on those not dealt it."""

IN_TURN = "in_turn"
"""The marker of tests of what mqkit itself does, such as rows of the fault matrix.

Each test is dealt out to one of the RabbitMQs that are found. What RabbitMQ does, and may do
otherwise in another version, runs on each of them in the end, and on the embedded broker:
connections, confirms, acks, retries, dead letters, permissions, and the conformance suite; `make
test-versions` runs it on those brokers on which `make test` did not. Marked tests run on the one
alone. They run on the embedded broker where no RabbitMQ is asked for, or besides and at once:
`pytest.mark.in_turn(embedded=True)`.
"""

LONG = "long"
"""The marker of what takes long: it is dealt out only where it is marked for that, too."""

SYSTEM = "system"
"""The marker of tests that start what people run, and see it work: `make test-system`.

They are the commands, the console in a browser, the payment services, the examples, the programs of
the documentation, benchmarks, services whose processes are killed, the brokers and databases that
tests start, and whether brokers conform to AMQP. Where a test stands says that it is one.
"""

SYSTEM_TESTS = (
    "tests/benchmarks/",
    "tests/conformance/test_conformance",
    "tests/docs/test_documentation",
    "tests/faults/",
    "tests/integration/console/",
    "tests/integration/dead_letters/test_cli",
    "tests/integration/examples/",
    "tests/integration/observability/test_run",
    "tests/integration/test_brokers",
    "tests/integration/test_cli",
    "tests/integration/test_forked",
    "tests/integration/test_handlers_",
    "tests/integration/test_logs",
    "tests/integration/test_postgres",
    "tests/integration/test_replay",
    "tests/integration/top/",
    "tests/unit/handlers/",
    "tests/unit/testing/test_plugin",
)
"""What the path of a system test begins with, from the project's folder."""

PARTS = {
    "conformance": {"test_conformance"},
    "drivers": {"test_aio_pika", "test_aio_pika_borrowed", "test_connection", "test_limits"},
    "commands": {
        "test_blocking",
        "test_blocking_faults",
        "test_cli",
        "test_cli_publish",
        "test_poison",
        "test_replay",
        "test_replay_faults",
        "test_retry",
        "test_signals",
        "test_silence",
    },
}
"""Modules whose tests share a broker with each other only; those of all others share one too.

Tests that run side by side must not share a broker: some close all its connections, or raise an
alarm. So each broker's tests are a few groups, which run on different workers, each with a broker
of its own; few, since to start a broker takes some seconds of processor time.
"""

READ_ONCE = {"test_layers", "test_seams"}
"""Modules whose tests all read mqkit's code, which takes seconds: on one worker once."""

DATABASES = ("sqlite", "postgres")
"""The values of the fixture `database`; each test of both is dealt out to one of them."""

_BROKERS = ("mqkit_broker", "mqkit_rabbitmq", "matrix_broker", "own_broker")
"""The parameters whose value is a broker."""

_EMBEDDED = "embedded"

_OWN_POSTGRES = "own_postgres"
"""The fixture that is a PostgreSQL which a test may kill."""


def is_system(item: pytest.Item) -> bool:
    """Tell whether a test starts what people run."""
    return item.nodeid.startswith(SYSTEM_TESTS)


def label(item: pytest.Item) -> str | None:
    """Return the label of the broker that a test runs on; None where it needs none."""
    for name in _BROKERS:
        if (spec := _params(item).get(name)) is not None:
            return str(getattr(spec, "label", "none"))
    return None


def left_out(
    items: Sequence[pytest.Item], option: str = "", named: Container[str] = ()
) -> list[pytest.Item]:
    """Find the tests to leave out, as another broker or database than theirs was dealt to them.

    :param option: `ALL_VERSIONS`, `OTHER_VERSIONS`, or none of them
    :param named: ids of tests that are meant as they are. Those that failed are, where they are
        run once more: pytest reads no others then, so that a test looks as if it had one broker
        alone, which `OTHER_VERSIONS` would leave out
    """
    if option == ALL_VERSIONS:
        return []
    items = [item for item in items if item.nodeid not in named]
    versions = {item.nodeid: item for item in _not_dealt(items)}
    databases = {item.nodeid: item for item in _other_databases(items)}
    if option != OTHER_VERSIONS:
        return list((versions | databases).values())
    # What mqkit itself does needs no other RabbitMQ, and another database all the same.
    run = {name for name, item in versions.items() if item.get_closest_marker(IN_TURN) is None}
    run |= databases.keys() - versions.keys()
    return [item for item in items if item.nodeid not in run]


def _not_dealt(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    cases: dict[str, dict[str, pytest.Item]] = {}
    for item in items:
        version = label(item)
        if version is None:
            continue
        marker = item.get_closest_marker(IN_TURN)
        if marker is None and item.get_closest_marker(LONG) is not None:
            continue
        if version != _EMBEDDED or marker is None or not marker.kwargs.get(_EMBEDDED):
            test, _, parameters = item.nodeid.partition("[")
            case = f"{test}[{parameters.replace(version, '*', 1)}"
            cases.setdefault(case, {})[version] = item
    others: list[pytest.Item] = []
    for case, found in cases.items():
        versions = sorted(set(found) - {_EMBEDDED}) or [_EMBEDDED]
        # By its name and not its number: a run of fewer files deals out each test as before.
        dealt = versions[zlib.crc32(case.encode()) % len(versions)]
        others += [item for version, item in found.items() if version != dealt]
    return others


def _other_databases(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """Find the tests of a database on which `make test` does not run them."""
    others: list[pytest.Item] = []
    for item in items:
        database = _params(item).get("database")
        if database not in DATABASES or item.get_closest_marker(LONG) is not None:
            continue
        test, _, parameters = item.nodeid.partition("[")
        for version in (label(item), database):
            parameters = parameters.replace(str(version), "*", 1)
        case = f"{test}[{parameters}"
        if database != DATABASES[zlib.crc32(case.encode()) % len(DATABASES)]:
            others.append(item)
    return others


def group(item: pytest.Item) -> str | None:
    """Return the name of a test's group; None where it shares no server and may run anywhere."""
    broker = label(item)
    if broker is None:
        # To start a PostgreSQL takes a second of processor time, and theirs ends with its module.
        if _OWN_POSTGRES in getattr(item, "fixturenames", ()):
            return _OWN_POSTGRES
        return item.path.stem if item.path.stem in READ_ONCE else None
    params = _params(item)
    if "matrix_broker" in params:
        return f"matrix-{broker}"
    if "own_broker" in params:
        return f"own-{broker}"
    module = item.path.stem
    # An embedded broker is started in milliseconds: its tests are in many small groups.
    parts = [part for part, modules in PARTS.items() if module in modules]
    return f"{broker}-{module if broker == _EMBEDDED else (*parts, 'rest')[0]}"


def _params(item: pytest.Item) -> dict[str, object]:
    return dict(getattr(getattr(item, "callspec", None), "params", {}))
