"""Field tables and content headers as bytes, written by hand: what any AMQP client may send."""

from __future__ import annotations

import struct

from hypothesis import strategies as st


def short(data: bytes) -> bytes:
    """A short string."""
    return bytes((len(data),)) + data


def long(data: bytes) -> bytes:
    """Anything that begins with its length: a long string, an array's or a table's contents."""
    return struct.pack(">I", len(data)) + data


def entry(name: bytes, kind: bytes, value: bytes = b"") -> bytes:
    """A header: its name, the letter of its type, its value."""
    return short(name) + kind + value


def nested(levels: int, kind: bytes = b"F") -> bytes:
    """A table's entry, `a`, that has so many levels of tables or arrays in it."""
    value = b"I\0\0\0\1"
    for _ in range(levels):
        value = kind + long(value if kind == b"A" else short(b"a") + value)
    return short(b"a") + value


def properties(table: bytes | None = None, **others: bytes) -> bytes:
    """Flags and properties, each given as its bytes, in the order of the specification."""
    names = (
        "content_type",
        "content_encoding",
        "headers",
        "delivery_mode",
        "priority",
        "correlation_id",
        "reply_to",
        "expiration",
        "message_id",
        "timestamp",
        "type",
        "user_id",
        "app_id",
        "cluster_id",
    )
    given = {**others} if table is None else {**others, "headers": long(table)}
    flags = sum(0x8000 >> index for index, name in enumerate(names) if name in given)
    return struct.pack(">H", flags) + b"".join(given[name] for name in names if name in given)


def payload(encoded: bytes, size: int = 0) -> bytes:
    """The payload of a content header's frame."""
    return struct.pack(">HHQ", 60, 0, size) + encoded


NASTY: dict[str, bytes] = {
    "bool": entry(b"h", b"t", b"\1"),
    "int8": entry(b"h", b"b", b"\x80"),
    "uint8": entry(b"h", b"B", b"\xff"),
    "int16": entry(b"h", b"s", b"\x80\0"),
    "uint16": entry(b"h", b"u", b"\xff\xff"),
    "int32": entry(b"h", b"I", b"\x80\0\0\0"),
    "uint32": entry(b"h", b"i", b"\xff\xff\xff\xff"),
    "int64 that is small": entry(b"h", b"l", b"\0" * 7 + b"\1"),
    "int64": entry(b"h", b"l", b"\x80" + b"\0" * 7),
    "float": entry(b"h", b"f", struct.pack(">f", 1.1)),
    "double": entry(b"h", b"d", struct.pack(">d", 1.1)),
    "negative zero": entry(b"h", b"d", b"\x80" + b"\0" * 7),
    "decimal with its scale": entry(b"h", b"D", b"\2\0\0\0\x96"),
    "negative decimal": entry(b"h", b"D", b"\2\xff\xff\xff\0"),
    "decimal of a large scale": entry(b"h", b"D", b"\xff\x7f\xff\xff\xff"),
    "time": entry(b"h", b"T", struct.pack(">Q", 1_700_000_000)),
    "time in milliseconds": entry(b"h", b"T", struct.pack(">Q", 1_700_000_000_000)),
    "time without end": entry(b"h", b"T", b"\xff" * 8),
    "bytes": entry(b"h", b"x", long(b"\xff\0")),
    "text": entry(b"h", b"S", long("ä\0".encode())),
    "text that is no UTF-8": entry(b"h", b"S", long(b"\xff\0")),
    "void": entry(b"h", b"V"),
    "table": entry(b"h", b"F", long(entry(b"b", b"b", b"\1") + entry(b"a", b"s", b"\0\1"))),
    "array": entry(b"h", b"A", long(b"b\1s\0\1Vf\0\0\0\0")),
    "empty table": entry(b"h", b"F", long(b"")),
    "empty array": entry(b"h", b"A", long(b"")),
    "name twice in a table": entry(b"h", b"F", long(entry(b"a", b"V") + entry(b"a", b"b", b"\1"))),
    "empty name": entry(b"", b"V"),
    "long name": entry(b"n" * 255, b"V"),
    "name that is no UTF-8": entry(b"\xff\xfe", b"I", b"\0\0\0\1"),
    "name that is no UTF-8, inside": entry(b"h", b"F", long(entry(b"\xff", b"V"))),
    "levels that a handler takes": nested(30),
    "many levels": nested(98),
    "too many levels": nested(150),
    "too many levels of arrays": nested(1000, b"A"),
}
"""Tables of one header that RabbitMQ (4.0.5, 4.3.6) passes on as they are."""

NAMES = st.binary(max_size=6) | st.sampled_from(
    [b"", b"a", b"\xff", b"x-a", b"mqkit-x", b"n" * 255]
)


def _fixed(kind: bytes, size: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=size, max_size=size).map(lambda value: kind + value)


VALUES: st.SearchStrategy[bytes] = st.recursive(
    st.one_of(
        *(
            _fixed(bytes((kind,)), size)
            for kind, size in zip(
                b"bBsuIilLfdDTV", (1, 1, 2, 2, 4, 4, 8, 8, 4, 8, 5, 8, 0), strict=True
            )
        ),
        st.sampled_from([b"t\0", b"t\1"]),
        st.binary(max_size=20).map(lambda value: b"S" + long(value)),
        st.binary(max_size=20).map(lambda value: b"x" + long(value)),
        st.text(max_size=20).map(lambda value: b"S" + long(value.encode(errors="replace"))),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda values: b"A" + long(b"".join(values))),
        st.lists(st.tuples(NAMES, inner), max_size=3).map(
            lambda pairs: b"F" + long(b"".join(short(name) + value for name, value in pairs))
        ),
    ),
    max_leaves=8,
)
"""Values of every type, with the letter of their type; NaNs of all kinds among them."""

ENTRIES = st.lists(st.tuples(NAMES, VALUES).map(lambda pair: short(pair[0]) + pair[1]), max_size=5)
"""Headers, names that are there twice among them."""
