"""Limits are compared by the values that they allow, and not by how they are written."""

from __future__ import annotations

from typing import Any

import pytest

from mqkit.asyncapi.limits import tighter


@pytest.mark.parametrize(
    ("kind", "wide", "narrow", "expected"),
    [
        ("number", {"exclusiveMinimum": 0}, {"minimum": 0}, []),
        ("number", {"minimum": 0}, {"exclusiveMinimum": 0}, ["exclusiveMinimum"]),
        ("number", {"exclusiveMaximum": 9}, {"maximum": 9}, []),
        ("number", {"maximum": 9}, {"exclusiveMaximum": 9}, ["exclusiveMaximum"]),
        ("number", {"exclusiveMinimum": 0}, {"minimum": 0.5}, ["minimum"]),
        ("integer", {"exclusiveMinimum": 0}, {"minimum": 1}, []),
        ("integer", {"minimum": 1}, {"exclusiveMinimum": 0}, []),
        ("integer", {"exclusiveMinimum": 0}, {"minimum": 2}, ["minimum"]),
        ("integer", {"maximum": 9}, {"exclusiveMaximum": 10}, []),
        ("integer", {"maximum": 9}, {"exclusiveMaximum": 9}, ["exclusiveMaximum"]),
        ("number", {"minimum": 3}, {"minimum": 1, "exclusiveMinimum": 2}, []),
        ("number", {}, {"maximum": float("inf")}, ["maximum"]),
        # Integers that no float holds, or holds apart.
        ("integer", {"maximum": 10**400}, {"maximum": 10**400 - 1}, ["maximum"]),
        ("number", {"minimum": 2**53}, {"minimum": 2**53 + 1}, ["minimum"]),
        ("number", {"minimum": -(10**400)}, {"minimum": 0.5}, ["minimum"]),
        ("string", {"maxLength": 10**400}, {"maxLength": 10**399}, ["maxLength"]),
        ("string", {"minLength": 2}, {"minLength": 1}, []),
        ("string", {"maxLength": 2}, {"maxLength": 1}, ["maxLength"]),
        ("string", {}, {"pattern": "a"}, ["pattern"]),
    ],
)
def test_a_limit_is_tighter_where_it_refuses_more(
    kind: str, wide: dict[str, Any], narrow: dict[str, Any], expected: list[str]
) -> None:
    """Over 0 is wider than from 0 on, and of whole numbers the same as from 1 on."""
    found = tighter({"type": kind, **wide}, {"type": kind, **narrow})
    assert [keyword for keyword, *_ in found] == expected
