"""What the history keeps of a change and of what was published."""

from __future__ import annotations

import json

import pytest

from mqkit.sagas.history import MAX_VALUE, Published, changes


def test_changes_are_the_fields_that_differ() -> None:
    """With their values after it; a field that is gone is null, and of a start all are told."""
    assert json.loads(changes(None, '{"a": 1}')) == {"a": 1}
    before, after = '{"same": [1], "other": 1, "gone": 2}', '{"same": [1], "other": 2, "new": null}'
    assert json.loads(changes(before, after)) == {"other": 2, "new": None, "gone": None}


def test_a_long_value_is_cut() -> None:
    """Text, or what is written as JSON: the row has all of it."""
    long = json.dumps({"text": "x" * 2_000, "list": list(range(1_000)), "short": [1]})
    told = json.loads(changes(None, long))
    assert told["text"] == "x" * MAX_VALUE + "…"
    assert len(told["list"]) == MAX_VALUE + 1
    assert told["short"] == [1]


def test_what_was_published_is_told_without_its_body() -> None:
    """Where to, its id and type, and when, where it is held."""
    published = Published()
    published.add("x", "k", "m", type="T", delay=None, at=None)
    published.add("", "q", "n", type="U", delay=1.5, at=None)
    assert json.loads(published.to_json()) == [
        {"exchange": "x", "routing_key": "k", "message_id": "m", "type": "T"},
        {"exchange": "", "routing_key": "q", "message_id": "n", "type": "U", "delay": 1.5},
    ]


@pytest.mark.parametrize("state", ["[]", "[5, 7]", "3", '"text"', "null", "true"])
def test_a_state_that_is_no_object_is_one_field(state: str) -> None:
    """A `RootModel` is such a one: it is told as a whole, where it has changed."""
    assert json.loads(changes(None, state)) == {"state": json.loads(state)}
    assert json.loads(changes("[1]", state)) == {"state": json.loads(state)}
    assert json.loads(changes(state, state)) == {}
