"""Which tests run on which RabbitMQ."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.selection import group, label, left_out


def item(name: str, param: str, broker: str, *, marked: bool, case: str = "") -> pytest.Item:
    """A test's item, as far as it is looked at."""
    spec = SimpleNamespace(label=broker)
    return cast(
        pytest.Item,
        SimpleNamespace(
            nodeid=f"tests/{name}.py::test_it[{broker}{case}]",
            path=Path(f"tests/{name}.py"),
            callspec=SimpleNamespace(params={param: spec} if param else {}),
            get_closest_marker=lambda _: pytest.mark.in_turn if marked else None,
        ),
    )


def names(items: list[Any]) -> list[str]:
    return [each.nodeid.partition("::")[2] for each in items]


def test_each_marked_case_runs_on_one_version_and_all_versions_have_some() -> None:
    """What is left out of a version runs on another; the embedded broker's cases all run."""
    versions = ("embedded", "4.3", "4.0")
    cases = [
        item("test_rows", "mqkit_broker", version, marked=True, case=f"-{number}")
        for version in versions
        for number in range(4)
    ]
    others = names(left_out(cases))
    kept = [name for name in names(cases) if name not in others]
    assert kept == [
        *(f"test_it[embedded-{number}]" for number in range(4)),
        "test_it[4.3-1]",
        "test_it[4.3-3]",
        "test_it[4.0-0]",
        "test_it[4.0-2]",
    ]


def test_what_is_not_marked_runs_on_every_version() -> None:
    """Nor is anything left out where there is one version only."""
    unmarked = [item("test_rows", "mqkit_rabbitmq", each, marked=False) for each in ("4.3", "4.0")]
    assert left_out(unmarked) == []
    assert left_out([item("test_rows", "matrix_broker", "4.3", marked=True)]) == []
    assert left_out([item("test_rows", "", "4.3", marked=True)]) == []


@pytest.mark.parametrize(
    ("name", "param", "broker", "expected"),
    [
        ("test_silence", "mqkit_broker", "4.3", "4.3-commands"),
        ("test_pause", "mqkit_rabbitmq", "4.0", "4.0-rest"),
        ("test_pause", "mqkit_broker", "embedded", "embedded-test_pause"),
        ("test_matrix", "matrix_broker", "4.0", "matrix-4.0"),
        ("test_hung_broker", "own_broker", "4.3", "own-4.3"),
        ("test_lanes", "", "none", None),
    ],
)
def test_tests_that_share_a_broker_are_one_group(
    name: str, param: str, broker: str, expected: str | None
) -> None:
    """Groups run on different workers; a test without a broker may run on any."""
    test = item(name, param, broker, marked=False)
    assert group(test) == expected
    assert label(test) == (None if expected is None else broker)
