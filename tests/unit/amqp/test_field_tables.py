"""Field tables, read and written: every type of AMQP 0-9-1 as RabbitMQ has it."""

from __future__ import annotations

import decimal
import enum
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqkit.amqp.field_tables import MAX_LEVELS, MAX_TIME, UNREADABLE, decode, encode, entries, text
from tests.tables import ENTRIES, NASTY, entry, long, nested, short

VALUES: dict[str, Any] = {
    "bool": True,
    "int8": -128,
    "uint8": 255,
    "int16": -32768,
    "uint16": 65535,
    "int32": -(2**31),
    "uint32": 2**32 - 1,
    "int64 that is small": 1,
    "int64": -(2**63),
    "float": 1.100000023841858,
    "double": 1.1,
    "negative zero": -0.0,
    "decimal with its scale": Decimal("1.50"),
    "negative decimal": Decimal("-2.56"),
    "decimal of a large scale": Decimal("2147483647E-255"),
    "time": datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC),
    "time in milliseconds": 1_700_000_000_000,
    "time without end": 2**64 - 1,
    "bytes": b"\xff\0",
    "text": "ä\0",
    "text that is no UTF-8": b"\xff\0",
    "void": None,
    "table": {"b": 1, "a": 1},
    "array": [1, 1, None, 0.0],
    "empty table": {},
    "empty array": [],
    "name twice in a table": {"a": 1},
    "name that is no UTF-8, inside": {"\udcff": None},
}


def read(table: bytes) -> dict[str, Any]:
    """A whole table, without its length."""
    values, end = decode(long(table), 0)
    assert end == 4 + len(table)
    return values


@pytest.mark.parametrize("what", VALUES)
def test_a_value_is_read(what: str) -> None:
    """Each type is the nearest of Python's, a Decimal with its scale; nothing is rounded."""
    with decimal.localcontext(prec=2):
        (value,) = read(NASTY[what]).values()
    expected = VALUES[what]
    assert (type(value), repr(value)) == (type(expected), repr(expected))


def test_a_name_that_is_no_utf_8_is_read_with_surrogates() -> None:
    """Its bytes can be had back, as those of a file's name can."""
    (name,) = read(entry(b"\xff\xfea", b"V"))
    assert name == "\udcff\udcfea" == text(b"\xff\xfea")
    assert name.encode(errors="surrogateescape") == b"\xff\xfea"


@pytest.mark.parametrize("kind", [b"F", b"A"])
def test_levels_are_read_up_to_a_limit(kind: bytes) -> None:
    """One level more than the most is refused, and so is what would exhaust the stack."""
    assert read(nested(MAX_LEVELS - 1, kind))
    for levels in (MAX_LEVELS, 5_000):
        with pytest.raises(ValueError, match="levels"):
            read(nested(levels, kind))


@pytest.mark.parametrize(
    "table",
    [
        entry(b"a", b"Z", b"\0\0\0\1"),
        entry(b"a", b"\0"),
        entry(b"a", b"S", b"\0\0\0\x09ab"),
        entry(b"a", b"x", b"\xff\xff\xff\xffab"),
        entry(b"a", b"I", b"\0\0"),
        entry(b"a", b"t"),
        entry(b"a", b"F", b"\0\0\0\x09"),
        entry(b"a", b"F", long(entry(b"a", b"l", b"\0")) + b"\0" * 20),
        entry(b"a", b"A", long(b"l\0") + b"\0" * 20),
        short(b"name"),
        b"\x20ab",
    ],
)
def test_what_is_no_table_is_refused(table: bytes) -> None:
    """A letter that is no type's, and values that are longer than what holds them."""
    with pytest.raises(UNREADABLE):
        decode(long(table), 0)
    with pytest.raises(UNREADABLE):
        decode(long(table) + b"\0" * 300, 0)


@given(ENTRIES)
def test_a_table_is_cut_into_its_entries(given: list[bytes]) -> None:
    """Together they are its bytes, and their names are those that are read."""
    table = b"".join(given)
    found = list(entries(long(table)))
    assert [each for _, each in found] == given
    assert {name for name, _ in found} == read(table).keys()


names = st.text(st.characters(codec="utf-8"), max_size=10)
writable: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"), max_size=20)
    | st.binary(max_size=20)
    | st.decimals(-(10**6), 10**6, places=3).filter(bool)
    | st.datetimes(datetime(1970, 1, 1), timezones=st.just(UTC)).map(  # noqa: DTZ001 - as above
        lambda moment: moment.replace(microsecond=0, fold=0)
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(names, writable, max_size=4))
def test_what_is_written_is_read(table: dict[str, Any]) -> None:
    """Every value that a header takes comes back as it was, a Decimal with its scale."""
    values, _ = decode(encode(table), 0)
    assert repr(values) == repr(table)


def test_types_are_chosen_by_the_value() -> None:
    """Integers take 4 bytes, or 8 where they need them; a subclass is written as its base."""
    level = enum.IntEnum("level", {"HIGH": 7})
    table = {"i": 2**31 - 1, "l": 2**31, "e": level["HIGH"], "b": True}
    assert encode(table) == long(
        entry(b"i", b"I", b"\x7f\xff\xff\xff")
        + entry(b"l", b"l", b"\0\0\0\0\x80\0\0\0")
        + entry(b"e", b"I", b"\0\0\0\7")
        + entry(b"b", b"t", b"\1")
    )


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("1.50", b"\2\0\0\0\x96"),
        ("-1.5", b"\1\xff\xff\xff\xf1"),
        ("0", b"\0\0\0\0\0"),
        ("1E+3", b"\0\0\0\3\xe8"),
        ("2147483647", b"\0\x7f\xff\xff\xff"),
        ("-2147483648", b"\0\x80\0\0\0"),
        ("1.0000000000000000000000000000000000000", b"\x09\x3b\x9a\xca\0"),
        ("0E-300", b"\xff\0\0\0\0"),
    ],
)
def test_a_decimal_keeps_its_scale_where_it_fits(value: str, written: bytes) -> None:
    """Zeros at its end are dropped only where 32 bits cannot hold it with them."""
    with decimal.localcontext(prec=2):
        assert encode({"d": Decimal(value)}) == long(entry(b"d", b"D", written))


@pytest.mark.parametrize(
    "value",
    [
        Decimal(2147483648),
        Decimal("1.2345678901"),
        Decimal("1E+999999"),
        Decimal("1E-300"),
        Decimal("NaN"),
        Decimal("-Infinity"),
        Decimal("9" * 5000),
        float("nan"),
        float("-inf"),
        2**63,
        -(2**63) - 1,
        "\ud800",
        object(),
        (1,),
        {1: 2},
        {"n" * 256: 1},
        [{"in": {1}}],
        datetime(1969, 12, 31, tzinfo=UTC),
    ],
)
def test_what_a_field_cannot_hold_is_refused(value: Any) -> None:
    """None of it is rounded, cut or left out; and a NaN would cost the connection."""
    with pytest.raises(Exception) as caught:  # noqa: PT011 - of several types
        encode({"h": value})
    from mqkit.drivers.frames import ENCODING_ERRORS  # noqa: PLC0415 - what drivers translate

    assert isinstance(caught.value, ENCODING_ERRORS)


def test_the_last_moment_of_pythons_time_is_one() -> None:
    """One second later it is a number."""
    table = entry(b"h", b"T", MAX_TIME.to_bytes(8)) + entry(b"i", b"T", (MAX_TIME + 1).to_bytes(8))
    assert read(table) == {
        "h": datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC),
        "i": MAX_TIME + 1,
    }
