"""Headers that a library could not decode are found without decoding them, and replaced."""

from __future__ import annotations

import struct
from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from pamqp.header import ContentHeader
from pika import BasicProperties

from mqkit.drivers.unreadable import MAX_LEVELS, MAX_TIME, readable, without_headers

names = st.text("aFATx", max_size=5)
values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.text("FAT", max_size=300)
    | st.decimals(-(10**6), 10**6, places=2)
    | st.datetimes(datetime(1970, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 - as above
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=10,
)


def content(properties: BasicProperties) -> bytes:
    """The payload of a content header."""
    return struct.pack(">HHQ", 60, 0, 5) + b"".join(properties.encode())


def read(payload: bytes) -> BasicProperties:
    """The properties in a content header, by pika and by pamqp, which agree."""
    ContentHeader().unmarshal(payload)
    properties = BasicProperties()
    properties.decode(payload[12:])
    return properties


@given(
    headers=st.dictionaries(names, values, min_size=1, max_size=4),
    content_type=st.none() | names,
    message_id=st.none() | names,
    late=st.booleans(),
)
def test_what_can_be_decoded_is_left_alone(
    headers: dict[str, Any], content_type: str | None, message_id: str | None, late: bool
) -> None:
    """Whatever the values hold; and one late time among them is found, and all else kept."""
    properties = BasicProperties(
        content_type=content_type, content_encoding="e", headers=headers, message_id=message_id
    )
    payload = content(properties)
    assert readable(payload) == payload
    start = payload.index(b"\x01e") + 2
    end = start + 4 + int.from_bytes(payload[start : start + 4], "big")
    table = payload[start + 4 : end] + b"\x04lateT" + struct.pack(">Q", MAX_TIME + late)
    changed = payload[:start] + struct.pack(">I", len(table)) + table + payload[end:]
    assert (readable(changed) == changed) == (not late)
    if late:
        left = read(readable(changed))
        assert left.headers == {"mqkit-unreadable": True}
        assert (left.content_type, left.message_id) == (content_type, message_id)


def test_tables_may_be_nested_only_so_deep() -> None:
    """The deepest that is let through is decoded by both libraries; one more is replaced."""
    for kind, levels in ((dict, MAX_LEVELS), (list, MAX_LEVELS)):
        value: Any = 1
        for _ in range(levels - 1):
            value = {"a": value} if kind is dict else [value]
        good = content(BasicProperties(headers={"a": value, "T": 1}))
        assert readable(good) == good
        assert read(good).headers
        bad = content(BasicProperties(headers={"a": [value], "T": 1}))
        assert read(readable(bad)).headers == {"mqkit-unreadable": True}


def test_a_message_without_headers_has_none_to_replace() -> None:
    """Its content header stays as it is."""
    payload = content(BasicProperties(content_type="T", message_id="T"))
    assert readable(payload) == payload
    assert without_headers(payload) == payload
