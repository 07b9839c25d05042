"""Chooses which tests run on which RabbitMQ, and which of them on the same worker."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

ALL_VERSIONS = "--all-versions"
"""The option with which every test runs on every RabbitMQ that is found."""

IN_TURN = "in_turn"
"""The marker of tests of what mqkit itself does, such as rows of the fault matrix.

What RabbitMQ does, and may do otherwise in another version, is tested on each: connections,
confirms, acks, retries, dead letters, permissions, and the conformance suite. Marked tests are
dealt out to the RabbitMQs that are found, each to one of them. They run on the embedded broker
where no RabbitMQ is asked for, or besides: `pytest.mark.in_turn(embedded=True)`.
"""

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

_BROKERS = ("mqkit_broker", "mqkit_rabbitmq", "matrix_broker", "own_broker")
"""The parameters whose value is a broker."""

_EMBEDDED = "embedded"


def label(item: pytest.Item) -> str | None:
    """Return the label of the broker that a test runs on; None where it needs none."""
    for name in _BROKERS:
        if (spec := _params(item).get(name)) is not None:
            return str(getattr(spec, "label", "none"))
    return None


def left_out(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """Find the tests to leave out, as another RabbitMQ than theirs was dealt to them."""
    cases: dict[str, dict[str, pytest.Item]] = {}
    for item in items:
        version = label(item)
        marker = item.get_closest_marker(IN_TURN)
        if version is None or marker is None:
            continue
        if version != _EMBEDDED or not marker.kwargs.get(_EMBEDDED):
            test, _, parameters = item.nodeid.partition("[")
            case = f"{test}[{parameters.replace(version, '*', 1)}"
            cases.setdefault(case, {})[version] = item
    others: list[pytest.Item] = []
    for number, found in enumerate(cases.values()):
        versions = sorted(set(found) - {_EMBEDDED}) or [_EMBEDDED]
        # Round by round another one begins: each test's first parameter is not always the same's.
        dealt = versions[(number + number // len(versions)) % len(versions)]
        others += [item for version, item in found.items() if version != dealt]
    return others


def group(item: pytest.Item) -> str | None:
    """Return the name of a test's group; None where it needs no broker and may run anywhere."""
    broker = label(item)
    if broker is None:
        return None
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
