"""One text for keys that are equal, in every process."""

from __future__ import annotations

import os
import subprocess
import sys
import typing
from collections.abc import Hashable
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, Flag, IntEnum, StrEnum
from fractions import Fraction
from typing import Any, NamedTuple, NewType, Self
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AwareDatetime, BaseModel, EmailStr

from mqkit.consuming.ordering import partition_of
from mqkit.errors import OrderError
from mqkit.registration.keys import MAX_DIGITS, canonical, may_be_key


class Region(str, Enum):  # noqa: UP042 - whose `str` is 'Region.EU'
    """A text with a name."""

    EU = "eu"


class Shouted(str, Enum):  # noqa: UP042 - as above
    """A text that is not its value."""

    EU = "eu"

    def __new__(cls, value: str) -> Self:
        """Make it upper case."""
        made = str.__new__(cls, value.upper())
        made._value_ = value
        return made


class Plain(Enum):
    """Members that equal nothing but themselves."""

    ONE = 1
    TEXT = "eu"
    PAIR = (1, "eu")


class Level(IntEnum):
    """A number with a name."""

    ONE = 1


class Bits(Flag):
    """Members that are sums."""

    READ = 1
    WRITE = 2


class Pair(NamedTuple):
    """A tuple with names."""

    first: Any
    second: Any


class Account(str):
    """A text of the application's own."""

    __slots__ = ()

    def __str__(self) -> str:
        return f"account {self[:2]}***"


class Caseless(str):
    """A text that equals others."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and self.lower() == other.lower()

    def __hash__(self) -> int:
        return hash(self.lower())


NAIVE = datetime(2026, 1, 1)  # noqa: DTZ001 - which is an instant of no zone
PRAGUE = ZoneInfo("Europe/Prague")

EQUAL: list[tuple[Hashable, ...]] = [
    (1, True, 1.0, Decimal(1), Decimal("1.00"), Decimal("0.1E1"), Level.ONE),
    (0, False, 0.0, -0.0, Decimal("-0.00"), Decimal("0E+9")),
    (7, Decimal("7.0"), Decimal("7.00"), 7.0),
    (Decimal("7.5"), Decimal("7.50"), 7.5),
    (-1200, Decimal("-1.2E+3"), -1200.0),
    (10**400, Decimal("1E+400")),
    (0.1, Decimal("0.1000000000000000055511151231257827021181583404541015625")),
    (float("inf"), Decimal("Infinity")),
    (float("-inf"), Decimal("-Infinity")),
    ("eu", Region.EU, StrEnum("S", {"EU": "eu"}).EU),  # type: ignore[attr-defined]
    ("EU", Shouted.EU),
    ("a-1", Account("a-1")),
    ((1, "eu"), (True, Region.EU), (Decimal("1.0"), "eu"), Pair(1.0, "eu")),
    (((0.0,), None), ((-0.0,), None)),
    (
        datetime(2026, 1, 1, 12, tzinfo=UTC),
        datetime(2026, 1, 1, 13, tzinfo=timezone(timedelta(hours=1))),
        datetime(2026, 1, 1, 13, tzinfo=PRAGUE),
    ),
    (
        datetime(2026, 10, 25, 2, 30, tzinfo=PRAGUE),
        datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=PRAGUE),
    ),
    (NAIVE, NAIVE.replace(fold=1)),
    (
        datetime(1, 1, 1, 0, tzinfo=timezone(timedelta(hours=1))),
        datetime(1, 1, 1, 1, tzinfo=timezone(timedelta(hours=2))),
    ),
    (timedelta(hours=24), timedelta(days=1)),
    (UUID(int=5), UUID("00000000000000000000000000000005")),
]


@pytest.mark.parametrize("keys", EQUAL, ids=[repr(keys[0])[:40] for keys in EQUAL])
def test_equal_keys_have_one_text_and_one_partition(keys: tuple[Hashable, ...]) -> None:
    """Whatever their types are."""
    assert len(set(keys)) == 1, "they are equal"
    assert len({canonical(key) for key in keys}) == 1
    assert len({partition_of(key, 1000) for key in keys}) == 1


ATOMS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.integers(),
    st.floats(allow_nan=False),
    st.decimals(allow_nan=False),
    st.sampled_from([*Level, *Region, *Shouted, Plain.ONE, Plain.TEXT, Plain.PAIR, *Bits]),
    st.integers(-3000, 3000).map(lambda n: Decimal(n) / 100),
    st.integers(-3000, 3000).map(lambda n: n / 4),
    st.text(max_size=3),
    st.binary(max_size=3),
    st.uuids(),
    st.dates(),
    st.datetimes(timezones=st.none() | st.timezones()),
    st.builds(
        lambda minutes, hours: (
            datetime(2026, 10, 25, tzinfo=UTC) + timedelta(minutes=30 * minutes)
        ).astimezone(timezone(timedelta(hours=hours))),
        st.integers(0, 9),
        st.integers(-12, 12),
    ),
    st.timedeltas(),
)
KEYS = ATOMS | st.lists(ATOMS, max_size=2).map(tuple)


@given(st.lists(KEYS, min_size=2, max_size=12))
def test_what_is_equal_is_written_alike(keys: list[Any]) -> None:
    """Over all types of keys, two by two; and what has the same type and is not equal differs."""
    texts = [canonical(key) for key in keys]
    for first, its_text in zip(keys, texts, strict=True):
        for second, text in zip(keys, texts, strict=True):
            if first == second:
                assert its_text == text
            elif type(first) is type(second) and not isinstance(first, Enum | tuple | datetime):
                assert its_text != text


@given(st.text() | st.integers(-(10**MAX_DIGITS) + 1, 10**MAX_DIGITS - 1))
def test_a_text_and_a_number_are_written_as_they_always_were(key: Any) -> None:
    """So that an upgrade moves none of their accounts."""
    assert canonical(key) == str(key)


@given(
    st.lists(
        st.text(st.characters(max_codepoint=0x17F, exclude_characters="\xa0\xad")) | st.integers(),
        max_size=3,
    ).map(tuple)
)
def test_a_tuple_of_texts_and_numbers_is_written_as_it_always_was(key: Any) -> None:
    """As Python writes it, where that is the same in each version of Python."""
    printed = str(key)
    if "\\x8" not in printed and "\\x9" not in printed:
        assert canonical(key) == printed


@pytest.mark.parametrize(
    "key",
    [
        float("nan"),
        Decimal("NaN"),
        Decimal("sNaN"),
        (1, float("nan")),
        frozenset({"a", "b"}),
        ("a", frozenset()),
        [],
        {},
        bytearray(b"x"),
        memoryview(b"x"),
        Fraction(1, 2),
        1 + 0j,
        object(),
        time(12),
        range(2),
        int,
        Caseless("a"),
        10**MAX_DIGITS,
        Decimal("1E+999999999"),
        Decimal("1." + "1" * MAX_DIGITS),
        type("Exchange", (), {"__eq__": lambda *_: True, "__hash__": lambda _: 1})(),
    ],
    ids=lambda key: type(key).__name__,
)
def test_what_has_no_text_of_its_own_is_refused(key: Any) -> None:
    """Nothing is guessed by a hash, an address or a `str` that may change."""
    with pytest.raises(OrderError):
        canonical(key)
    with pytest.raises(OrderError):
        partition_of(key, 8)


def test_a_partition_depends_on_no_hash_seed() -> None:
    """Two processes with different seeds agree on every type."""
    program = (
        "import sys; sys.path.insert(0, '.')\n"
        "from tests.unit.registration.test_keys import EQUAL\n"
        "from mqkit.consuming.ordering import partition_of\n"
        "print([partition_of(key, 997) for keys in EQUAL for key in keys])"
    )
    answers = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert answers == {f"{[partition_of(key, 997) for keys in EQUAL for key in keys]}\n"}


class Model(BaseModel):
    """No key."""


Iban = NewType("Iban", str)


@pytest.mark.parametrize(
    "annotation",
    [
        str, int, bool, float, Decimal, UUID, datetime, date, Region, Plain, Account, Iban, Any,
        str | None, set[str] | str, tuple[str, int], tuple[str, ...], Pair, object,
        Hashable, typing.Annotated[str, "words"], typing.Literal["a", "b"], EmailStr,
        AwareDatetime, typing.TypeVar("T"),
    ],
)  # fmt: skip
def test_an_annotation_that_may_be_a_key_is_taken(annotation: Any) -> None:
    """Also where it does not show."""
    assert may_be_key(annotation)


@pytest.mark.parametrize(
    "annotation",
    [
        set, frozenset[str], list[str], dict, dict[str, int], Model, Fraction, complex,
        frozenset[str] | None, tuple[str, frozenset[int]], typing.Annotated[list[str], "words"],
        NewType("Names", list), bytearray,
    ],
)  # fmt: skip
def test_an_annotation_that_is_none_is_seen(annotation: Any) -> None:
    """So that it is refused before a message is dead-lettered."""
    assert not may_be_key(annotation)
