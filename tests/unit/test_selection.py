"""Which tests run on which RabbitMQ."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.selection import (
    ALL_VERSIONS,
    DATABASES,
    IN_TURN,
    LONG,
    OTHER_VERSIONS,
    SYSTEM_TESTS,
    group,
    is_system,
    label,
    left_out,
)
from tests.support import ROOT


def item(
    name: str,
    param: str,
    broker: str,
    *,
    marked: bool,
    case: str = "",
    long: bool = False,
    **options: Any,
) -> pytest.Item:
    """A test's item, as far as it is looked at."""
    spec = SimpleNamespace(label=broker)
    markers = {LONG: pytest.mark.long.mark} if long else {}
    if marked:
        markers[IN_TURN] = pytest.mark.in_turn(**options).mark
    return cast(
        pytest.Item,
        SimpleNamespace(
            nodeid=f"tests/{name}.py::test_it[{broker}{case}]",
            path=Path(f"tests/{name}.py"),
            callspec=SimpleNamespace(params={param: spec} if param else {}),
            get_closest_marker=markers.get,
        ),
    )


def cases(*versions: str, marked: bool = True, **options: Any) -> list[pytest.Item]:
    """Forty cases on each version; the module's name has a version's name in it."""
    return [
        item("test_embedded", "mqkit_broker", one, marked=marked, case=f"-{number}", **options)
        for one in versions
        for number in range(40)
    ]


def names(items: list[Any]) -> list[str]:
    return [each.nodeid.partition("::")[2] for each in items]


def kept(items: list[pytest.Item], option: str = "") -> list[str]:
    """The names of those that are not left out."""
    others = names(left_out(items, option))
    return [name for name in names(items) if name not in others]


def on(version: str, found: list[str]) -> set[str]:
    """The numbers of the cases on a version."""
    parts = [name.removesuffix("]").partition("[")[2].split("-") for name in found]
    return {number for label, number in parts if label == version}


ALL = {str(number) for number in range(40)}


@pytest.mark.parametrize("marked", [True, False])
def test_each_case_runs_on_one_version_and_all_versions_have_some(*, marked: bool) -> None:
    """What is left out of a version runs on another, whether a test is marked or not."""
    found = kept(cases("embedded", "4.3", "4.0", marked=marked))
    assert on("4.3", found) | on("4.0", found) == ALL
    assert not on("4.3", found) & on("4.0", found)
    assert min(len(on("4.3", found)), len(on("4.0", found))) > 10


def test_a_run_of_one_case_deals_it_out_as_a_run_of_all_does() -> None:
    """What failed among all is run once more by itself, on the RabbitMQ on which it failed."""
    together = kept(cases("4.3", "4.0"))
    alone = [kept(cases("4.3", "4.0")[number::40]) for number in range(40)]
    assert sorted(together) == sorted(name for one in alone for name in one)


def test_the_other_versions_run_what_rabbitmq_does_and_was_not_dealt_to_them() -> None:
    """The embedded broker is one of them; what mqkit itself does is not run a second time."""
    unmarked = cases("embedded", "4.3", "4.0", marked=False)
    first, second = kept(unmarked), kept(unmarked, OTHER_VERSIONS)
    assert sorted([*first, *second]) == sorted(names(unmarked))
    assert on("embedded", second) == ALL
    assert kept(cases("embedded", "4.3", "4.0"), OTHER_VERSIONS) == []
    assert kept([item("test_lanes", "", "none", marked=False)], OTHER_VERSIONS) == []


def test_what_failed_on_another_version_is_run_once_more_by_itself() -> None:
    """No other test is read then, and it is not taken for one that has no other broker."""
    unmarked = cases("embedded", "4.3", "4.0", marked=False)
    for name in kept(unmarked, OTHER_VERSIONS):
        (alone,) = [each for each in unmarked if name in each.nodeid]
        assert left_out([alone], OTHER_VERSIONS, {alone.nodeid}) == []
        assert left_out([alone], OTHER_VERSIONS) == [alone]


def test_what_takes_long_runs_on_every_version_unless_it_is_marked() -> None:
    """The other versions have no run of their own for it."""
    assert left_out(cases("4.3", "4.0", marked=False, long=True)) == []
    assert len(left_out(cases("4.3", "4.0", long=True))) == 40


def test_all_versions_run_all() -> None:
    """Nothing is left out where that is asked for."""
    assert left_out(cases("embedded", "4.3", "4.0"), ALL_VERSIONS) == []


def test_the_embedded_broker_has_its_cases_besides_where_that_is_asked_for() -> None:
    """That is asked for where the embedded broker is what is tested."""
    assert not on("embedded", kept(cases("embedded", "4.3", "4.0")))
    assert on("embedded", kept(cases("embedded", "4.3", "4.0", embedded=True))) == ALL
    assert not on("embedded", kept(cases("embedded", "4.3", "4.0", marked=False)))


def test_the_embedded_broker_alone_has_all_cases() -> None:
    """Nothing is left out where no RabbitMQ is asked for."""
    assert left_out(cases("embedded")) == []


def test_nothing_is_left_out_where_there_is_one_version() -> None:
    """There is no other one that it could run on."""
    for marked in (True, False):
        assert left_out([item("test_rows", "matrix_broker", "4.3", marked=marked)]) == []
        assert left_out([item("test_rows", "", "4.3", marked=marked)]) == []


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


def of_databases(*versions: str, marked: bool = False, long: bool = False) -> list[pytest.Item]:
    """Forty cases on each version, on both databases."""
    found = []
    for version in versions:
        param = "mqkit_broker" if version else ""
        for database in DATABASES:
            for number in range(40):
                case = f"-{database}-{number}" if version else f"{database}-{number}"
                one = item("test_sagas", param, version, marked=marked, case=case, long=long)
                cast(Any, one).callspec.params["database"] = database
                found.append(one)
    return found


@pytest.mark.parametrize("versions", [("",), ("4.0", "4.3"), ("4.0", "4.3", "embedded")])
def test_each_case_runs_on_one_database_and_later_on_the_other(versions: tuple[str, ...]) -> None:
    """On whichever RabbitMQ; together both runs have all of it."""
    items = of_databases(*versions)
    first, second = kept(items), kept(items, OTHER_VERSIONS)
    assert len(first) == 40
    assert 10 < sum("sqlite" in name for name in first) < 30
    assert sorted([*first, *second]) == sorted(names(items))


def test_what_mqkit_does_runs_on_the_other_database_and_on_no_other_rabbitmq() -> None:
    """A marked test needs the one RabbitMQ alone."""
    items = of_databases("4.0", "4.3", marked=True)
    first, second = kept(items), kept(items, OTHER_VERSIONS)
    assert len(first) == len(second) == 40
    assert {name.count("sqlite") for name in first} == {0, 1}


def test_what_takes_long_runs_on_both_databases() -> None:
    """The other one has no run of its own for it."""
    assert left_out(of_databases("", long=True)) == []


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("faults/test_sagas", True),
        ("integration/test_handlers_demo", True),
        ("integration/test_sagas", False),
        ("integration/top/test_terminal", True),
        ("unit/store/test_inbox", False),
    ],
)
def test_a_system_test_is_one_by_where_it_stands(name: str, *, expected: bool) -> None:
    """`make test` leaves it to `make test-system`."""
    assert is_system(item(name, "", "", marked=False)) == expected


@pytest.mark.parametrize("begin", SYSTEM_TESTS)
def test_each_place_of_system_tests_has_some(begin: str) -> None:
    """A module that was moved or renamed does not go to `make test` unseen."""
    folder, _, stem = begin.rpartition("/")
    assert list((ROOT / folder).rglob(f"{stem or 'test_'}*.py"))
