"""What a management API answers is read only if it has the fields of the right kinds."""

from __future__ import annotations

from typing import Any

import pytest

from mqkit.errors import ManagementError
from mqkit.management.answers import mapping, record, records, whole

ODD = (None, "x", 1, 1.5, True, ["a"], {"a": 1})
"""JSON values of each kind."""


@pytest.mark.parametrize("found", [each for each in ODD if not isinstance(each, dict)], ids=repr)
def test_what_is_no_object_is_refused(found: Any) -> None:
    """Alone, and in a list among others."""
    with pytest.raises(ManagementError, match=r"http://h: .* no object with name"):
        record("http://h", found, name=str)
    with pytest.raises(ManagementError, match="no object"):
        records("http://h", [{"name": "a"}, found], name=str)


@pytest.mark.parametrize("kind", [str, bool])
@pytest.mark.parametrize("value", ODD, ids=repr)
def test_a_field_of_another_kind_is_refused(value: Any, kind: type[str | bool]) -> None:
    """Also one that is missing; it would be an error of Python's own where it is used."""
    if isinstance(value, kind):
        assert record("h", {"it": value}, it=kind)["it"] == value
        return
    with pytest.raises(ManagementError, match="in an answer it is not"):
        record("h", {"it": value}, it=kind)
    with pytest.raises(ManagementError, match="in an answer it is not"):
        record("h", {}, it=kind)


@pytest.mark.parametrize("found", [each for each in ODD if not isinstance(each, list)], ids=repr)
def test_what_is_no_list_is_refused(found: Any) -> None:
    """None is the caller's to make a list of: it is what is not there."""
    with pytest.raises(ManagementError, match="should be a list"):
        records("h", found)


def test_what_is_not_told_is_empty() -> None:
    """Arguments that are a list where there are none, and counts that a new queue has not yet."""
    assert (mapping([]), mapping({"a": 1})) == ({}, {"a": 1})
    assert (whole(None), whole("x"), whole(3)) == (0, 0, 3)
