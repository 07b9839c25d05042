"""Plans that are stored and read again."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from mqkit import ConfigurationError
from mqkit.provisioning.plan import Change, Kind, Plan, plan_from, staleness

PLAN = Plan(
    ("ledger",),
    "host:5672 virtual host /",
    (Change(Kind.CHANGE, "queue", "q", "differs", "risky", 3, None),),
    ("bindings",),
)


def test_a_stored_plan_is_read_as_it_was() -> None:
    """With all of its changes."""
    assert plan_from(json.dumps(PLAN.to_json())) == PLAN


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"version": 2}, "version 2"),
        ({"format": "else"}, "no plan"),
        ({"changes": [{"kind": "explode"}]}, "damaged"),
        ({"changes": 3}, "damaged"),
        ({"changes": ["x"]}, "damaged"),
        ({"services": [1]}, "damaged"),
        ({"broker": None}, "damaged"),
    ],
)
def test_a_plan_that_is_none_is_refused(changed: dict[str, Any], words: str) -> None:
    """Whatever is wrong with it."""
    with pytest.raises(ConfigurationError, match=words):
        plan_from(json.dumps({**PLAN.to_json(), **changed}))


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", '{"format": "mqkit topology plan"}'])
def test_a_file_that_holds_no_plan_is_refused(text: str) -> None:
    """Cut off, empty, or of something else."""
    with pytest.raises(ConfigurationError, match="plan"):
        plan_from(text)


def test_a_count_that_is_none_is_refused() -> None:
    """True is no number of messages."""
    stored = PLAN.to_json()
    stored["changes"][0]["messages"] = True
    with pytest.raises(ConfigurationError, match="damaged"):
        plan_from(json.dumps(stored))


def test_a_plan_is_stale_where_something_else_differs_by_now() -> None:
    """More messages are not something else."""
    (change,) = PLAN.changes
    assert staleness(PLAN, replace(PLAN, changes=(replace(change, messages=90),))) == []
    assert len(staleness(PLAN, replace(PLAN, changes=()))) == 1
    assert len(staleness(PLAN, replace(PLAN, changes=(replace(change, detail="otherwise"),)))) == 2


@pytest.mark.parametrize("other", [{"services": ("risk",)}, {"broker": "other:5672"}])
def test_a_plan_for_something_else_is_refused(other: dict[str, Any]) -> None:
    """Another service, or another broker."""
    with pytest.raises(ConfigurationError, match="the plan is for"):
        staleness(replace(PLAN, **other), PLAN)
