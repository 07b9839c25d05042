"""Which tests run on which RabbitMQ."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.selection import group, label, left_out


def item(
    name: str, param: str, broker: str, *, marked: bool, case: str = "", **options: Any
) -> pytest.Item:
    """A test's item, as far as it is looked at."""
    spec = SimpleNamespace(label=broker)
    marker = pytest.mark.in_turn(**options).mark if marked else None
    return cast(
        pytest.Item,
        SimpleNamespace(
            nodeid=f"tests/{name}.py::test_it[{broker}{case}]",
            path=Path(f"tests/{name}.py"),
            callspec=SimpleNamespace(params={param: spec} if param else {}),
            get_closest_marker=lambda _: marker,
        ),
    )


def cases(*versions: str, **options: Any) -> list[pytest.Item]:
    """Four marked cases on each version; the module's name has a version's name in it."""
    return [
        item("test_embedded", "mqkit_broker", one, marked=True, case=f"-{number}", **options)
        for one in versions
        for number in range(4)
    ]


def names(items: list[Any]) -> list[str]:
    return [each.nodeid.partition("::")[2] for each in items]


def kept(items: list[pytest.Item]) -> list[str]:
    """The names of those that are not left out."""
    others = names(left_out(items))
    return [name for name in names(items) if name not in others]


def test_each_marked_case_runs_on_one_version_and_all_versions_have_some() -> None:
    """What is left out of a version runs on another; no version has each test's first case."""
    dealt = ["test_it[4.3-1]", "test_it[4.3-2]", "test_it[4.0-0]", "test_it[4.0-3]"]
    assert kept(cases("embedded", "4.3", "4.0")) == dealt


def test_the_embedded_broker_has_its_cases_besides_where_that_is_asked_for() -> None:
    """That is asked for where the embedded broker is what is tested."""
    found = kept(cases("embedded", "4.3", "4.0", embedded=True))
    assert found[:4] == [f"test_it[embedded-{number}]" for number in range(4)]
    assert len(found) == 8


def test_the_embedded_broker_alone_has_all_cases() -> None:
    """Nothing is left out where no RabbitMQ is asked for."""
    assert left_out(cases("embedded")) == []


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
