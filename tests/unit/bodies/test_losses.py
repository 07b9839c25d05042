"""What would be lost in JSON is refused; what is whole, or replaced on purpose, is written."""

from __future__ import annotations

import dataclasses
import json
import math
import uuid
import warnings
from collections import OrderedDict, deque
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from ipaddress import IPv4Address
from pathlib import PurePosixPath
from typing import Annotated, Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    RootModel,
    Secret,
    SecretBytes,
    SecretStr,
    SerializeAsAny,
    computed_field,
    field_serializer,
    model_serializer,
)
from pydantic.dataclasses import dataclass as pydantic_dataclass
from typing_extensions import TypedDict

from mqkit import InvalidMessageError
from mqkit.bodies.loss_risks import NO_RISKS, risks_of
from mqkit.bodies.losses import loss, marks_in
from mqkit.codec import BodyDecoder, encode
from mqkit.message import Properties

NAN, INF = math.nan, math.inf


class Rate(BaseModel):
    """A float, and something that is None."""

    rate: float = 0.0
    note: str | None = None


class AnyRate(BaseModel):
    """A value of no type."""

    rate: Any = None


class Nested(BaseModel):
    """Models and containers of floats."""

    rates: list[Rate] = []
    by_name: dict[str, float] = {}
    pair: tuple[float, float] = (0.0, 0.0)
    maybe: float | None = None


class Amount(BaseModel):
    """A Decimal, which may be anything where nothing validates it."""

    amount: Decimal = Decimal(0)


class Root(RootModel[list[float]]):
    """A root model."""


class Computed(BaseModel):
    """A number that is made while it is written."""

    a: int = 0

    @computed_field  # type: ignore[prop-decorator]
    @property
    def share(self) -> float:
        return NAN


class Serialized(BaseModel):
    """A number that its own serializer makes."""

    a: int = 0

    @field_serializer("a")
    def _a(self, _: int) -> float:
        return NAN


class Typed(TypedDict):
    """A TypedDict in a model."""

    rate: float


class HasTyped(BaseModel):
    """Which a model has."""

    typed: Typed


class Extra(BaseModel):
    """Fields of no name yet."""

    model_config = ConfigDict(extra="allow")


class Constants(BaseModel):
    """Told to write such numbers as they are."""

    model_config = ConfigDict(ser_json_inf_nan="constants")
    rate: float


@dataclasses.dataclass
class Data:
    """A dataclass of the standard library."""

    rate: float = 0.0
    inner: Any = None


@pydantic_dataclass
class PydanticData:
    """A dataclass of pydantic."""

    rate: float = 0.0
    word: SecretStr = SecretStr("")


class Pair(NamedTuple):
    """A named tuple."""

    rate: float
    name: str


class Odd(Enum):
    """Members with such values."""

    NONE = NAN
    A = "a"


class HasOdd(BaseModel):
    """Which a model has."""

    odd: Odd


class Broad(BaseModel):
    """A field that is written as what it is."""

    inner: SerializeAsAny[BaseModel]


NOT_FINITE: dict[str, Any] = {
    "by itself": NAN,
    "infinite": INF,
    "less than all": -INF,
    "in a dict": {"a": NAN},
    "deep in containers": {"a": [1, {"b": (2, [INF])}]},
    "in a set": {NAN},
    "in a deque": deque([NAN]),
    "in a generator": (n for n in [1.0, NAN]),
    "an enum's value": Odd.NONE,
    "as a key": {NAN: 1},
    "as an infinite key": {INF: 1, 2.0: 3},
    "in a model": Rate(rate=NAN),
    "an infinity in a model": Rate(rate=-INF),
    "in a field without a type": AnyRate(rate=NAN),
    "deep in a field without a type": AnyRate(rate={"a": [INF]}),
    "a model in a field without a type": AnyRate(rate=Rate(rate=NAN)),
    "in a list of models": [Rate(), Rate(rate=NAN)],
    "in a model of models": Nested(rates=[Rate(), Rate(rate=INF)]),
    "in a model's dict": Nested(by_name={"a": NAN}),
    "in a model's tuple": Nested(pair=(1.0, NAN)),
    "in a union": Nested(maybe=NAN),
    "in a dict of models": {"a": {"b": Rate(rate=NAN)}},
    "in a root model": Root([1.0, NAN]),
    "computed": Computed(),
    "made by a serializer": Serialized(),
    "in a TypedDict": HasTyped(typed={"rate": NAN}),
    "in a field without a name": Extra(rate=NAN),  # type: ignore[call-arg]
    "in a model that writes it": Constants(rate=NAN),
    "in a dataclass": Data(rate=NAN),
    "in a dataclass's model": Data(inner=Rate(rate=NAN)),
    "in pydantic's dataclass": PydanticData(rate=NAN),
    "in a named tuple": Pair(NAN, "a"),
    "an enum of a model": HasOdd(odd=Odd.NONE),
    "in a model that is written as it is": Broad(inner=Rate(rate=NAN)),
    "a Decimal": Decimal("NaN"),
    "an infinite Decimal": Decimal("-Infinity"),
    "a signalling Decimal": {"a": Decimal("sNaN")},
    "a Decimal's diagnosis": {"a": Decimal("NaN123")},
    "a Decimal of a model": Amount.model_construct(amount=Decimal("NaN")),
    "a Decimal as a key": {Decimal("Infinity"): 1},
    "a complex number": complex(1, NAN),
}
"""Bodies with a number that is not finite."""


@pytest.mark.parametrize("where", NOT_FINITE)
def test_a_number_that_is_not_finite_is_refused(where: str) -> None:
    """Wherever it is, and whatever pydantic would write for it."""
    with pytest.raises(InvalidMessageError, match="not finite") as caught:
        encode(NOT_FINITE[where])
    assert caught.value.__cause__ is None


class Login(BaseModel):
    """Secrets, some of which are seldom there."""

    word: SecretStr = SecretStr("")
    key: SecretBytes = SecretBytes(b"")
    pin: Secret[int] | None = None
    words: list[SecretStr] = []


class ByDay(Secret[date]):
    """A secret that shows a part of itself."""

    def _display(self) -> str:
        return f"{self.get_secret_value().year}/**/**"


class Birth(BaseModel):
    """Which a model has."""

    day: ByDay


SECRETS: dict[str, Any] = {
    "by itself": SecretStr("hunter2"),
    "in a dict": {"word": SecretStr("hunter2")},
    "in a model": Login(word=SecretStr("hunter2")),
    "bytes": Login(key=SecretBytes(b"hunter2")),
    "another type": Login(pin=Secret[int](27172)),
    "a value that is shown as nothing": Login(pin=Secret[int](0)),
    "in a list": Login(words=[SecretStr(""), SecretStr("hunter2")]),
    "in a list of models": [Login(word=SecretStr("hunter2"))],
    "in a field without a type": AnyRate(rate=Login(word=SecretStr("hunter2"))),
    "in a field without a name": Extra(word=SecretStr("hunter2")),  # type: ignore[call-arg]
    "in pydantic's dataclass": PydanticData(word=SecretStr("hunter2")),
    "in a dataclass": Data(inner=[SecretStr("hunter2")]),
    "one that shows a part": Birth(day=ByDay(date(1999, 1, 1))),
}
"""Bodies with a secret, which pydantic would mask."""


@pytest.mark.parametrize("where", SECRETS)
def test_a_secret_that_would_be_masked_is_refused(where: str) -> None:
    """The error tells where it is and what to do, and does not tell the secret."""
    with pytest.raises(InvalidMessageError, match="get_secret_value") as caught:
        encode(SECRETS[where])
    assert "hunter2" not in str(caught.value)
    assert "27172" not in str(caught.value)


class Text(str):
    """Equal to nothing, as a key."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)


class IntKeys(BaseModel):
    """A dict with keys of several types."""

    names: dict[int | str, int]


class Aliases(BaseModel):
    """Two fields of one name."""

    a: int = Field(default=1, serialization_alias="c")
    b: int = Field(default=2, serialization_alias="c")


class ComputedTwice(BaseModel):
    """A field that is computed once more."""

    a: int = 1

    @computed_field(alias="a")  # type: ignore[prop-decorator]
    @property
    def again(self) -> int:
        return 2


TWICE: dict[str, Any] = {
    "an int": {1: 2, "1": 3},
    "a bool": {True: 1, "true": 2},
    "nothing": {None: 1, "None": 2},
    "a Decimal": {Decimal("1.5"): 1, "1.5": 2},
    "a float": {1.5: 1, Decimal("1.5000"): 2, "1.5": 3},
    "bytes": {b"a": 1, "a": 2},
    "an enum": {Odd.A: 1, "a": 2},
    "a date": {date(2026, 1, 1): 1, "2026-01-01": 2},
    "a UUID": {uuid.UUID(int=1): 1, str(uuid.UUID(int=1)): 2},
    "a tuple": {(1, 2): 1, "1,2": 2},
    "text that is not equal": {Text("a"): 1, Text("a"): 2},
    "deep": [{"a": {"b": [{1: 2, "1": 3}]}}],
    "in a model": IntKeys(names={1: 2, "1": 3}),
    "in a field without a type": AnyRate(rate={1: 2, "1": 3}),
    "in a dataclass": Data(inner={1: 2, "1": 3}),
    "aliases": Aliases(),
    "a computed field": ComputedTwice(),
    "in a list of models": [IntKeys(names={1: 2}), IntKeys(names={1: 2, "1": 3})],
}
"""Bodies in which two keys become one."""


@pytest.mark.parametrize("what", TWICE)
def test_keys_that_become_the_same_are_refused(what: str) -> None:
    """One of their values would be lost; the error names the key."""
    with pytest.raises(InvalidMessageError, match="two of its keys are written as the same JSON"):
        encode(TWICE[what])


class Unmasked(BaseModel):
    """Secrets that are written on purpose, at all times or in JSON alone."""

    word: SecretStr
    other: Annotated[SecretStr, PlainSerializer(lambda v: v.get_secret_value(), when_used="json")]

    @field_serializer("word")
    def _word(self, value: SecretStr) -> str:
        return value.get_secret_value()


class OwnWord(BaseModel):
    """Numbers that are replaced on purpose, at all times or in JSON alone."""

    rate: float
    other: float
    amount: Decimal

    @field_serializer("rate")
    def _rate(self, value: float) -> float | None:
        return None if math.isnan(value) else value

    @field_serializer("other", when_used="json")
    def _other(self, value: float) -> float | None:
        return None if math.isnan(value) else value

    @field_serializer("amount", when_used="json")
    def _amount(self, value: Decimal) -> str:
        return str(value)


class Strings(BaseModel):
    """Told to write such numbers as text, which pydantic reads as what they were."""

    model_config = ConfigDict(ser_json_inf_nan="strings")
    rate: float


class Whole(BaseModel):
    """Written by its own serializer."""

    rate: float

    @model_serializer
    def _whole(self) -> dict[str, Any]:
        return {"rate": "unknown", "note": None}


WRITTEN: dict[str, tuple[Any, Any]] = {
    "secrets that are given": (
        Unmasked(word=SecretStr("**********"), other=SecretStr("hunter2")),
        {"word": "**********", "other": "hunter2"},
    ),
    "secrets that are empty": (Login(), {"word": "", "key": "", "pin": None, "words": []}),
    "numbers that are replaced": (
        OwnWord.model_construct(rate=NAN, other=NAN, amount=Decimal("NaN")),
        {"rate": None, "other": None, "amount": "NaN"},
    ),
    "numbers as text": (Strings(rate=NAN), {"rate": "NaN"}),
    "a model of its own": (Whole(rate=NAN), {"rate": "unknown", "note": None}),
    "words that are text": (
        {"a": "NaN", "b": ["Infinity", "**********"], "NaN": None, "nan": "-Infinity"},
        {"a": "NaN", "b": ["Infinity", "**********"], "NaN": None, "nan": "-Infinity"},
    ),
    "words in a model": (AnyRate(rate="NaN, null, **********"), {"rate": "NaN, null, **********"}),
    "nothing beside a number": (Rate(rate=1.5), {"rate": 1.5, "note": None}),
    "keys that differ": ({1: 2, "2": 3, None: 4}, {"1": 2, "2": 3, "None": 4}),
    "nothing in a set of models": (
        {Pair(1.5, "NaN")},
        [[1.5, "NaN"]],
    ),
    "a generator": ((n for n in [1.5, None]), [1.5, None]),
    "an ordered dict": (OrderedDict(a=None), {"a": None}),
    "a dataclass": (Data(1.5), {"rate": 1.5, "inner": None}),
    "a finite enum": (Odd.A, "a"),
}
"""Bodies with what looks like a loss, and is none: the value, and its JSON."""


@pytest.mark.parametrize("what", WRITTEN)
def test_what_is_whole_or_replaced_on_purpose_is_written(what: str) -> None:
    """Text that looks like it, what a serializer of the application says, and empty secrets."""
    body, written = WRITTEN[what]
    assert json.loads(encode(body)[0]) == written


class FrozenRate(BaseModel):
    """A model that can be in a set, which cannot be written as Python's values."""

    model_config = ConfigDict(frozen=True)
    rate: float | None = None
    name: str = ""


class RateSet(BaseModel):
    """Such a set."""

    rates: set[FrozenRate]


def test_a_body_that_only_json_can_be_made_of_is_written() -> None:
    """That it cannot be gone through is no error of the message."""
    body = RateSet(rates={FrozenRate(name="NaN")})
    assert json.loads(encode(body)[0]) == {"rates": [{"rate": None, "name": "NaN"}]}


class Leaf(BaseModel):
    """Fields of many types."""

    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")
    text: str
    amount: Decimal
    number: float
    count: int
    flag: bool
    maybe: float | None
    day: date
    at: datetime
    took: timedelta
    id: uuid.UUID
    blob: bytes
    odd: Odd
    rates: dict[str, float]
    tags: set[str]
    pair: tuple[int, str]


class Branch(BaseModel):
    """Leaves, and more of itself."""

    leaves: list[Leaf]
    by_name: dict[str, Branch]


TEXT = st.text(st.characters(codec="utf-8"), max_size=8) | st.sampled_from(["NaN", "**********"])
FINITE = st.floats(allow_nan=False, allow_infinity=False)
LEAVES = st.builds(
    Leaf,
    text=TEXT,
    amount=st.decimals(allow_nan=False, allow_infinity=False),
    number=FINITE,
    count=st.integers(),
    flag=st.booleans(),
    maybe=st.none() | FINITE,
    day=st.dates(),
    at=st.datetimes(timezones=st.just(UTC)),
    took=st.timedeltas(timedelta(-(10**6)), timedelta(10**6)),
    id=st.uuids(),
    blob=st.binary(max_size=8),
    odd=st.just(Odd.A),
    rates=st.dictionaries(TEXT, FINITE, max_size=3),
    tags=st.sets(TEXT, max_size=3),
    pair=st.tuples(st.integers(), TEXT),
)
BRANCHES = st.recursive(
    st.builds(Branch, leaves=st.lists(LEAVES, max_size=2), by_name=st.just({})),
    lambda inner: st.builds(
        Branch,
        leaves=st.lists(LEAVES, max_size=1),
        by_name=st.dictionaries(TEXT, inner, max_size=2),
    ),
    max_leaves=4,
)


@given(BRANCHES)
def test_what_is_written_is_read_again(body: Branch) -> None:
    """A body that goes the whole way is the same."""
    encoded, content_type = encode(body)
    decoded = BodyDecoder(Branch).decode(encoded, Properties(content_type=content_type))
    assert decoded == body


BROKEN: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.decimals()
    | st.text(max_size=5)
    | st.just(SecretStr("hunter2"))
    | st.builds(Rate, rate=st.floats())
    | st.builds(AnyRate, rate=st.floats())
    | st.builds(Data, rate=st.floats())
    | st.builds(object)
    | st.binary(max_size=3)
    | st.complex_numbers(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=2) | st.integers(0, 3) | st.floats(), inner, max_size=3)
        | st.builds(AnyRate, rate=inner)
    ),
    max_leaves=6,
)


@given(BROKEN.filter(lambda body: not isinstance(body, bytes)))
def test_what_is_written_is_json_and_whole(body: object) -> None:
    """A body is refused, or it is JSON by the letter, with no key twice and nothing made null."""
    try:
        encoded, _ = encode(body)
    except InvalidMessageError:
        return
    parsed = json.loads(encoded, parse_constant=pytest.fail)
    assert "**********" not in encoded.decode()
    assert encoded.count(b"null") == _nones(body)
    assert json.loads(encoded, object_pairs_hook=_once) == parsed


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


def _nones(value: Any) -> int:
    """How many None there are in a value, and how often a text has that word."""
    if isinstance(value, BaseModel):
        return _nones(dict(value))
    if isinstance(value, Data):
        return _nones(vars(value))
    if isinstance(value, dict):
        return sum(_nones(each) for each in (*value, *value.values()))
    if isinstance(value, list):
        return sum(map(_nones, value))
    return int(value is None or value == "null")


class Order(BaseModel):
    """A usual body."""

    id: uuid.UUID
    amount: Decimal
    note: str | None
    host: IPv4Address
    where: PurePosixPath
    tags: dict[str, str]
    lines: list[tuple[str, int]]


def test_usual_classes_are_plain() -> None:
    """Nothing is looked for in them but by their bytes."""
    assert risks_of(Order) is NO_RISKS
    assert risks_of(str) is NO_RISKS
    assert risks_of(Rate) != NO_RISKS
    encoded = b'{"null":null}'
    assert loss({"a": [1, "b", None]}, encoded, marks_in(encoded)) is None


def test_no_warning_is_added_to_those_of_pydantic() -> None:
    """A wrong value in a field, which JSON was made of, is not told by the look at it."""
    wrong = Rate.model_construct(rate="NaN", note=None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert encode(wrong)[0] == b'{"rate":"NaN","note":null}'
