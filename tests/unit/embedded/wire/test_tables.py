"""What a client wrote into a message stays as it wrote it, when the broker changes the rest."""

from __future__ import annotations

import struct
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp import commands, decode

from mqkit.embedded.engine.message import Message
from mqkit.embedded.wire import tables
from mqkit.embedded.wire.frames import ReceivedHeader

FIELDS = {
    "bool": b"t\x01",
    "int8": b"b\xff",
    "uint8": b"B\xff",
    "int16": b"s\xff\xfe",
    "uint16": b"u\xff\xfe",
    "int32": b"I\xff\xff\xff\xfe",
    "uint32": b"i\xff\xff\xff\xfe",
    "int64": b"l" + (2**63 - 1).to_bytes(8),
    "uint64": b"l" + (2**63 + 5).to_bytes(8),
    "float": b"f" + struct.pack(">f", 1.1),
    "double": b"d" + struct.pack(">d", 1.1),
    "decimal": b"D\x02" + (12345).to_bytes(4),
    "time": b"T" + (1_700_000_000_000).to_bytes(8),
    "void": b"V",
    "text": b"S\x00\x00\x00\x02\xc3\xa9",
    "bytes": b"S\x00\x00\x00\x02\xff\xfe",
    "array": b"x\x00\x00\x00\x02\xff\xfe",
    "list": b"A\x00\x00\x00\x07t\x01I\x00\x00\x00\x01",
    "table": b"F\x00\x00\x00\x04\x01kt\x00",
    "n" * 200: b"t\x00",
}
"""Every type that a field may have, each as some client writes it."""


def table(fields: dict[str, bytes]) -> bytes:
    """An encoded field table, in the order of names, in which RabbitMQ passes on headers."""
    joined = b"".join(
        len(name).to_bytes(1) + name.encode() + value for name, value in sorted(fields.items())
    )
    return len(joined).to_bytes(4) + joined


def short(text: str) -> bytes:
    """An encoded short string."""
    return len(text.encode()).to_bytes(1) + text.encode()


PARTS = {
    "content_type": short("text/plain"),
    "headers": table(FIELDS),
    "delivery_mode": b"\x02",
    "priority": b"\x09",
    "correlation_id": short("c"),
    "expiration": short("60000"),
    "timestamp": (1_700_000_000_000).to_bytes(8),
    "message_type": short("t"),
    "app_id": short(""),
}


def received() -> Message:
    """A message as a client sent it."""
    flags = sum(1 << (15 - at) for at, (name, _) in enumerate(tables.PROPERTIES) if name in PARTS)
    raw = struct.pack(">HHQH", 60, 0, 4, flags) + b"".join(
        PARTS[name] for name, _ in tables.PROPERTIES if name in PARTS
    )
    head = ReceivedHeader(raw)
    return Message("x", ("k",), head.properties, b"body", raw)


def test_a_header_is_split_into_its_properties() -> None:
    """Each property is found where it is, by its flag."""
    assert tables.split(received().content_header()) == PARTS


def test_a_table_is_split_into_its_fields() -> None:
    """Each field is found with the octets of its type and value, whatever its type."""
    assert tables.fields(table(FIELDS)) == FIELDS


def test_headers_that_are_added_change_no_other() -> None:
    """A message with one header more has all others, and its properties, as the client wrote."""
    changed = received().with_headers({"x-delivery-count": 3, "int8": None}).with_headers({"y": 1})
    parts = tables.split(changed.content_header())
    fields = tables.fields(parts.pop("headers"))
    assert fields.pop("x-delivery-count") == b"l" + (3).to_bytes(8)
    assert fields.pop("y") == b"l" + (1).to_bytes(8)
    assert fields == {name: value for name, value in FIELDS.items() if name != "int8"}
    assert parts == {name: value for name, value in PARTS.items() if name != "headers"}
    assert ReceivedHeader(changed.content_header()).body_size == 4


def test_a_message_without_headers_gets_some() -> None:
    """The table is there when it was not, and the properties stay."""
    raw = tables.encode_header(commands.Basic.Properties(priority=4), 1)
    head = ReceivedHeader(raw)
    message = Message("x", ("k",), head.properties, b"1", raw).with_headers({"a": "b"})
    assert tables.split(message.content_header()) == {
        "headers": table({"a": b"S\x00\x00\x00\x01b"}),
        "priority": b"\x04",
    }


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary().map(bytearray)
    | st.decimals(-1000, 1000, places=2)
    | st.datetimes(datetime(1970, 1, 2), datetime(2100, 1, 1), timezones=st.just(UTC)).map(  # noqa: DTZ001 - given by `timezones`
        lambda time: time.replace(microsecond=0)
    ),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=20), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=60), VALUES, max_size=4))
def test_what_is_encoded_is_decoded_again(values: dict[str, Any]) -> None:
    """A table that the broker writes is read as the same values by another codec."""
    encoded = tables.encode_table(values)
    assert decode.field_table(encoded) == (len(encoded), values)


@pytest.mark.parametrize("value", [2**63, object(), {1, 2}, Decimal("1e-300"), Decimal("NaN")])
def test_what_has_no_type_is_refused(value: object) -> None:
    """A value that AMQP 0-9-1 cannot carry is a ValueError, and nothing else."""
    with pytest.raises(ValueError, match=r".+"):
        tables.encode_table({"a": [value]})


def test_a_name_over_255_octets_is_refused() -> None:
    """It is not cut, which would make it another name."""
    with pytest.raises(ValueError, match="255"):
        tables.encode_table({"n" * 256: 1})
