"""Properties as text, and back."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqkit.message import Properties
from mqkit.store.serialization import (
    declaration_to_text,
    properties_from_text,
    properties_to_text,
    writable,
)
from mqkit.topology import Exchange

texts = st.text(st.characters(codec=None), max_size=8)
names = st.one_of(texts, st.sampled_from(["$mqkit", "bytes", "table"]))
leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    texts,
    st.binary(max_size=8),
    st.decimals(allow_nan=False, allow_infinity=False, places=4),
    st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=5))])),
)
values = st.recursive(
    leaves,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(names, inner, max_size=3)),
    max_leaves=8,
)


@given(
    headers=st.dictionaries(names, values, max_size=4),
    expiration=st.floats(0, 1e6),
    due=st.none() | st.datetimes(timezones=st.just(UTC)),
)
def test_whatever_a_message_has_comes_back(
    headers: dict[str, Any], expiration: float, due: datetime | None
) -> None:
    """Values and their types, also of tables that look like a tag of ours, and when it is due."""
    properties = Properties(headers=headers, expiration=expiration, message_id="m", priority=0)
    back, _, moment = properties_from_text(properties_to_text(properties, due=due))
    assert (back, moment) == (properties, due)
    assert types(back.headers) == types(headers)


def types(value: Any) -> Any:
    """The types of a value and of all within it: True == 1, and 1 == 1.0 == Decimal(1)."""
    match value:
        case dict():
            return {key: types(item) for key, item in value.items()}
        case list():
            return [types(item) for item in value]
        case _:
            return type(value)


@pytest.mark.parametrize(
    "table",
    [
        {"$mqkit": ["bytes", "AA=="]},
        {"$mqkit": ["table", []]},
        {"$mqkit": None},
        {"$mqkit": {"$mqkit": ["time", "x"]}, "more": b"\xff"},
    ],
)
def test_a_table_with_the_tag_as_a_key_is_a_table(table: dict[str, Any]) -> None:
    """It is never taken for the value that the tag stands for elsewhere."""
    properties = Properties(headers={"h": table, "l": [table, Decimal("1.10")]})
    assert properties_from_text(properties_to_text(properties)) == (properties, None, None)


def test_the_text_is_json_of_what_is_set() -> None:
    """What is not set takes no room."""
    text = properties_to_text(Properties(message_id="m", headers={"d": Decimal("1.10")}))
    assert json.loads(text) == {
        "headers": {"d": {"$mqkit": ["decimal", "1.10"]}},
        "persistent": True,
        "message_id": "m",
    }


@given(
    content_type=texts,
    message_id=texts,
    app_id=st.none() | texts,
    timestamp=st.none() | st.datetimes(timezones=st.just(UTC)),
    persistent=st.booleans(),
    type_=st.none() | texts,
)
def test_usual_properties_are_written_as_all_others(
    content_type: str,
    message_id: str,
    app_id: str | None,
    timestamp: datetime | None,
    persistent: bool,
    type_: str | None,
) -> None:
    """The short way for what nearly all messages have writes what the long one does."""
    properties = Properties(
        content_type=content_type,
        message_id=message_id,
        app_id=app_id,
        timestamp=timestamp,
        persistent=persistent,
        type=type_,
    )
    exchange = Exchange("events", type="topic")
    written = properties_to_text(properties, declaration_to_text(exchange))
    assert properties_from_text(written, "events") == (properties, exchange, None)
    assert "headers" not in json.loads(written)
    # With a time to be published at, which never goes the short way.
    long = json.loads(properties_to_text(properties, due=datetime(2026, 1, 1, tzinfo=UTC)))
    del long["$due"]
    assert json.loads(properties_to_text(properties)) == long


@given(texts)
def test_a_writable_text_is_utf8_without_nul(text: str) -> None:
    """It is what every database takes; what was fine stays as it was."""
    written = writable(text)
    assert "\0" not in written
    assert written.encode().decode() == written
    if "\0" not in text and text.isascii():
        assert written == text


@pytest.mark.parametrize(
    "exchange",
    [
        Exchange("e"),
        Exchange("e", type="fanout", durable=False, auto_delete=True),
        Exchange("e", arguments={"alternate-exchange": "x", "b": b"\xff"}),
    ],
)
def test_how_an_exchange_is_declared_comes_back(exchange: Exchange) -> None:
    """Beside the properties, whose reader does not see it."""
    properties = Properties(message_id="m", headers={"$exchange": 1})
    text = properties_to_text(properties, declaration_to_text(exchange))
    assert properties_from_text(text, "e") == (properties, exchange, None)
    assert properties_from_text(text, "f") == (properties, replace(exchange, name="f"), None)


@pytest.mark.parametrize("exchange", [None, Exchange("e", declare=False)])
def test_an_exchange_that_others_declare_is_not_kept(exchange: Exchange | None) -> None:
    """Nor is a header of the name taken for one."""
    text = properties_to_text(Properties(headers={"$exchange": {}}), declaration_to_text(exchange))
    assert properties_from_text(text, "e")[1] is None


def test_an_exchange_is_made_once_for_all_of_its_messages() -> None:
    """To check its fields takes longer than to publish a message."""
    text = properties_to_text(Properties(), declaration_to_text(Exchange("e", type="fanout")))
    assert properties_from_text(text, "e")[1] is properties_from_text(text, "e")[1]
