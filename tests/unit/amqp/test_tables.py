"""What a table of AMQP can hold: as much as the encoder can write, and no more."""

from __future__ import annotations

import math
import struct
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mqkit.amqp.field_tables import encode
from mqkit.amqp.tables import table_problem

CANNOT = (ValueError, TypeError, AttributeError, OverflowError, RecursionError, struct.error)
"""What the encoder raises."""


class Word(StrEnum):
    """An enumeration of texts."""

    A = "a"


class Number(IntEnum):
    """An enumeration of numbers."""

    ONE = 1


class Other(Enum):
    """An enumeration of neither."""

    X = object()


class Broken(tzinfo):
    """A time zone that fails."""

    def utcoffset(self, _: datetime | None) -> timedelta:
        raise KeyError("no such zone")

    dst = utcoffset

    def tzname(self, _: datetime | None) -> str:
        return "?"


plain = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**63) - 2, -(2**63) + 2)
    | st.integers(2**63 - 2, 2**63 + 2)
    | st.floats()
    | st.text()
    | st.text(st.characters())
    | st.binary()
    | st.decimals()
    | st.decimals(-(2**31) - 3, 2**31 + 3, places=0)
    | st.datetimes(timezones=st.just(UTC) | st.timezones())
    | st.sampled_from([(1, 2), {1}, frozenset(), bytearray(b"x"), 1j, object(), Word.A, Number.ONE])
)
names = st.text(st.characters(exclude_characters="\0"), min_size=1, max_size=300)
tables = st.dictionaries(
    names,
    st.recursive(
        plain,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
        max_leaves=6,
    ),
    max_size=3,
)


@given(table=tables)
@example(table={"n": Decimal(-2147483648)})
@example(table={"n": Decimal("1E+9")})
@example(table={"n": Decimal("1." + "0" * 300)})
@example(table={"n": Decimal("0E+400")})
@example(table={"n": datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC)})
@example(table={"n": datetime.max.replace(tzinfo=timezone(timedelta(hours=-12)))})
@example(table={"n": datetime.max.replace(tzinfo=UTC)})
def test_what_is_let_through_can_be_written(table: dict[str, Any]) -> None:
    """And what is refused could not be, but for what it would change without a word."""
    problem = table_problem(table, "header")
    try:
        encode(table)
    except CANNOT:
        assert problem is not None
    else:
        assert problem is None or "time zone" in problem or "Decimal" in problem


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (2**63, "over 64 bits: give it as text"),
        (-(2**63) - 1, "over 64 bits: give it as text"),
        (math.nan, "no finite number: give it as text"),
        (-math.inf, "no finite number: give it as text"),
        ("\ud800", "a character that UTF-8 cannot write"),
        (Decimal("NaN"), "a Decimal that is no finite number"),
        (Decimal("sNaN"), "a Decimal that is no finite number"),
        (Decimal("-Infinity"), "a Decimal that is no finite number"),
        (Decimal("12345678901.55"), "a Decimal of more digits than AMQP's"),
        (Decimal(2**31), "a Decimal of more digits than AMQP's"),
        (Decimal("1E-256"), "a Decimal of more digits than AMQP's"),
        (Decimal("1E+1000000"), "a Decimal of more digits than AMQP's"),
        (datetime(2020, 1, 1), "a datetime without a time zone"),  # noqa: DTZ001 - the wrong one
        (datetime(1960, 1, 1, tzinfo=UTC), "before 1970 or after 9999"),
        (datetime.max.replace(tzinfo=timezone(timedelta(hours=-12))), "before 1970 or after 9999"),
        (datetime(2020, 1, 1, tzinfo=Broken()), "before 1970 or after 9999"),
        (datetime(2020, 1, 1, tzinfo=UTC).date(), "is a date; there may be text"),
        (timedelta(1), "is a timedelta; there may be text"),
        (bytearray(b"x"), "is a bytearray; there may be text"),
        (memoryview(b"x"), "is a memoryview; there may be text"),
        ({1}, "is a set; there may be text"),
        ((1,), "is a tuple; there may be text"),
        (Other.X, "is a Other; there may be text"),
        (object, "is a type; there may be text"),
    ],
)
def test_it_says_what_is_wrong_and_what_to_give(value: Any, words: str) -> None:
    """Also of a value within others; the error names the outermost entry."""
    for table in ({"n": value}, {"a": 1, "n": [1, value]}, {"n": {"deep": [{"deeper": value}]}}):
        problem = table_problem(table, "header")
        assert problem is not None
        assert problem.startswith("header 'n' ")
        assert words in problem


@pytest.mark.parametrize("value", [Word.A, Number.ONE, True, None, 2**63 - 1, -(2**63), b"\xff"])
def test_enumerations_and_the_ends_of_ranges_are_taken(value: Any) -> None:
    """What the encoder writes as text, numbers or bytes is let through."""
    assert table_problem({"n": value, "m": [value, {"k": value}]}, "header") is None
