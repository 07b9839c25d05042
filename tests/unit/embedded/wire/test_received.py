"""Content headers are read, refused and passed on as RabbitMQ (4.0.5, 4.3.6) does it."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from mqkit.embedded.engine.message import Message
from mqkit.embedded.errors import ReplyError
from mqkit.embedded.wire.frames import ReceivedHeader
from tests.tables import NASTY, entry, long, nested, payload, properties, short


def passed_on(table: bytes) -> bytes:
    """The header table as the broker delivers it."""
    raw = ReceivedHeader(payload(properties(table))).raw
    assert raw.startswith(payload(b"\x20\0"))
    return raw[18:]


@pytest.mark.parametrize("what", NASTY)
def test_what_rabbitmq_passes_on_as_it_is_is_passed_on(what: str) -> None:
    """Whatever its type, its name or its depth."""
    assert passed_on(NASTY[what]) == NASTY[what]


@pytest.mark.parametrize(
    ("sent", "delivered"),
    [
        (entry(b"h", b"t", b"\2"), entry(b"h", b"t", b"\1")),
        (entry(b"h", b"L", b"\xff" * 8), entry(b"h", b"l", b"\xff" * 8)),
        (
            entry(b"h", b"A", long(b"t\xffL" + b"\0" * 8)),
            entry(b"h", b"A", long(b"t\1l" + b"\0" * 8)),
        ),
        (entry(b"\xff", b"V") + entry(b"a", b"V"), entry(b"a", b"V") + entry(b"\xff", b"V")),
        (
            entry(b"a", b"V") + entry(b"b", b"V") + entry(b"a", b"t", b"\1"),
            entry(b"a", b"V") + entry(b"b", b"V"),
        ),
        (b"", b""),
    ],
)
def test_a_table_is_put_in_order(sent: bytes, delivered: bytes) -> None:
    """By names, of each the first; a bool is 0 or 1, and all 64 bits are signed."""
    assert passed_on(sent) == delivered


@pytest.mark.parametrize(
    "table",
    [
        entry(b"h", b"f", b"\x7f\xc0\0\1"),
        entry(b"h", b"d", b"\x7f\xf0" + b"\0" * 6),
        entry(b"h", b"A", long(b"d\xff\xf8" + b"\0" * 6)),
        entry(b"h", b"Z", b"\0\0\0\1"),
        entry(b"h", b"\0"),
        entry(b"h", b"S", b"\0\0\0\x09ab"),
        entry(b"h", b"F", long(b"\x20ab")),
        entry(b"h", b"F", long(entry(b"a", b"I", b"\0\0"))) + b"\0" * 10,
        entry(b"h", b"I", b"\0\0"),
        entry(b"h", b"s", b"\x02hi"),
        b"\x20ab",
        short(b"h"),
    ],
)
def test_what_rabbitmq_refuses_is_refused(table: bytes) -> None:
    """Numbers that are none, types that there are none of, values that are cut off: 541."""
    with pytest.raises(ReplyError) as caught:
        passed_on(table)
    assert caught.value.code == 541


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\0\x3c\0", 501),
        (b"\0\x3c\0\0" + b"\0" * 8, 541),
        (payload(b"\0\1"), 541),
        (payload(b"\0\2"), 541),
        (payload(b"\0\0more"), 541),
        (payload(b"\x80\0\5ab"), 541),
        (payload(b"\x20\0\0\0\0\7a"), 541),
    ],
)
def test_what_is_no_content_header_is_refused(data: bytes, code: int) -> None:
    """Cut off, with more than there is, or with flags of nothing."""
    with pytest.raises(ReplyError) as caught:
        ReceivedHeader(data)
    assert caught.value.code == code


def test_properties_that_are_no_text_are_passed_on() -> None:
    """As they came, also where the broker changes something else of the message."""
    bad = short(b"\xff\xfe")
    encoded = properties(
        NASTY["name that is no UTF-8"] + entry(b"x", b"b", b"\1"),
        content_type=bad,
        message_id=bad,
        timestamp=b"\xff" * 8,
        cluster_id=bad,
    )
    head = ReceivedHeader(payload(encoded, 1))
    message = Message("", ("q",), head.properties, b"m", head.raw)
    assert message.content_header() == payload(
        properties(
            entry(b"x", b"b", b"\1") + NASTY["name that is no UTF-8"],
            content_type=bad,
            message_id=bad,
            timestamp=b"\xff" * 8,
            cluster_id=bad,
        ),
        1,
    )
    changed = message.with_headers({"y": 1}).content_header()
    for part in (NASTY["name that is no UTF-8"], entry(b"x", b"b", b"\1"), bad, b"\xff" * 8):
        assert part in changed


def test_values_are_those_that_the_broker_looks_at() -> None:
    """For bindings of headers exchanges, and for what it reports."""
    expected: dict[str, Any] = {
        "bool": True,
        "int8": -128,
        "decimal with its scale": Decimal("1.50"),
        "negative decimal": Decimal("-2.56"),
        "time": datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC),
        "time without end": 2**64 - 1,
        "text": "ä\0",
        "text that is no UTF-8": b"\xff\0",
        "bytes": bytearray(b"\xff\0"),
        "void": None,
        "table": {"b": 1, "a": 1},
        "array": [1, 1, None, 0.0],
    }
    for what, value in expected.items():
        head = ReceivedHeader(payload(properties(NASTY[what])))
        assert head.properties.headers == {"h": value}
    deep = ReceivedHeader(payload(properties(nested(5_000)))).properties.headers
    assert deep is not None
    assert isinstance(deep["a"], dict)
