"""Decimals in JSON: to the last digit, and nothing else is read otherwise than before."""

from __future__ import annotations

import dataclasses
import json
import threading
from decimal import Decimal
from fractions import Fraction
from typing import Annotated, Any, Literal, NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Json,
    RootModel,
    TypeAdapter,
    ValidationError,
    WrapValidator,
    model_validator,
)
from pydantic.dataclasses import dataclass as pydantic_dataclass
from typing_extensions import TypedDict

from mqkit import DecodeError
from mqkit.bodies.decimals import inexact_numbers, may_lose_digits, pattern_of
from mqkit.codec import BodyDecoder
from mqkit.message import Properties

EXACT = "9007199254740993.01"
"""A number that a float does not hold."""

AS_FLOAT = "9007199254740994.0"
"""The float that is made of it."""


def read(kind: Any, body: str | bytes) -> Any:
    """A body as a handler gets it."""
    return BodyDecoder(kind).decode(
        body if isinstance(body, bytes) else body.encode(), Properties()
    )


class Order(BaseModel):
    """A Decimal, a float and anything side by side."""

    amount: Decimal = Decimal(0)
    rate: float = 0.0
    count: int = 0
    note: str = ""
    more: Any = None


class Strict(BaseModel):
    """Pydantic's strict mode, in which a float is no Decimal from Python, but is from JSON."""

    model_config = ConfigDict(strict=True)
    amount: Decimal
    day: Literal["mon"] = "mon"
    ids: set[int] = set()


class Tree(BaseModel):
    """A recursive model."""

    amount: Decimal
    children: list[Tree] = []


class Typed(TypedDict):
    """A TypedDict; fields by the names of keys that a schema has itself."""

    type: str
    default: Decimal


class Pair(NamedTuple):
    """A NamedTuple."""

    name: str
    amount: Decimal


@dataclasses.dataclass
class Plain:
    """A dataclass of the standard library."""

    amount: Decimal


@pydantic_dataclass
class Validated:
    """A dataclass of pydantic."""

    amount: Decimal


class Root(RootModel[list[Decimal]]):
    """A root model."""


class Card(BaseModel):
    """One of a tagged union."""

    kind: Literal["card"]
    amount: Decimal


class Cash(BaseModel):
    """The other one."""

    kind: Literal["cash"]
    paid: Annotated[Decimal, Field(max_digits=18, decimal_places=2, gt=0)]


class Before(BaseModel):
    """The validator sees Python's values, before Decimals are made."""

    amount: Decimal

    @model_validator(mode="before")
    @classmethod
    def _renamed(cls, data: Any) -> Any:
        return {"amount": data.get("total", data.get("amount"))}


PLACES: dict[str, tuple[Any, str, Any]] = {
    "by itself": (Decimal, "{}", lambda v: v),
    "a field": (Order, '{{"amount": {}}}', lambda v: v.amount),
    "a strict model": (Strict, '{{"amount": {}, "ids": [1]}}', lambda v: v.amount),
    "a list": (list[Decimal], "[1, {}]", lambda v: v[1]),
    "a dict": (dict[str, Decimal], '{{"a": {}}}', lambda v: v["a"]),
    "a set": (set[Decimal], "[{}]", lambda v: next(iter(v))),
    "a tuple": (tuple[str, Decimal], '["a", {}]', lambda v: v[1]),
    "nothing or one": (Decimal | None, "{}", lambda v: v),
    "a union with text": (Decimal | str, "{}", lambda v: v),
    "a union with an int": (int | Decimal, "{}", lambda v: v),
    "a union with a list": (list[Decimal] | Decimal, "[{}]", lambda v: v[0]),
    "a tagged union": (
        Annotated[Card | Cash, Field(discriminator="kind")],
        '{{"kind": "card", "amount": {}}}',
        lambda v: v.amount,
    ),
    "constrained": (
        Annotated[Card | Cash, Field(discriminator="kind")],
        '{{"kind": "cash", "paid": {}}}',
        lambda v: v.paid,
    ),
    "a recursive model": (
        Tree,
        '{{"amount": 1, "children": [{{"amount": 2, "children": [{{"amount": {}}}]}}]}}',
        lambda v: v.children[0].children[0].amount,
    ),
    "a list of models": (list[Order], '[{{}}, {{"amount": {}}}]', lambda v: v[1].amount),
    "a TypedDict": (Typed, '{{"type": "a", "default": {}}}', lambda v: v["default"]),
    "a NamedTuple": (Pair, '["a", {}]', lambda v: v.amount),
    "a dataclass": (Plain, '{{"amount": {}}}', lambda v: v.amount),
    "pydantic's dataclass": (Validated, '{{"amount": {}}}', lambda v: v.amount),
    "a root model": (Root, "[{}]", lambda v: v.root[0]),
    "after a validator": (Before, '{{"total": {}}}', lambda v: v.amount),
    "before a validator": (
        Annotated[Decimal, AfterValidator(lambda v: v * 1)],
        "{}",
        lambda v: v,
    ),
    "within a validator": (
        Annotated[Decimal, WrapValidator(lambda v, handler: handler(v))],
        "{}",
        lambda v: v,
    ),
    "behind a validator": (Annotated[Decimal, BeforeValidator(lambda v: v)], "{}", lambda v: v),
    "JSON within JSON": (Json[list[Decimal]], '"[{}]"', lambda v: v[0]),
    "a fraction": (Fraction, "{}", lambda v: Decimal(v.numerator) / Decimal(v.denominator)),
}
"""Where a Decimal may be: the type, a body, and how it is had from what is read."""


@pytest.mark.parametrize("where", PLACES)
def test_a_decimal_is_read_to_the_last_digit(where: str) -> None:
    """Wherever it is in a type, and whether or not its number fits into a float."""
    kind, body, get = PLACES[where]
    for number in (EXACT, AS_FLOAT, "0.5"):
        assert get(read(kind, body.format(number))) == Decimal(number)


NUMBERS = st.from_regex(r"\A-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,30})?([eE][-+]?[0-9]{1,3})?\Z")


@given(NUMBERS)
@example("12345678901234567.89")
@example("9007199254740993.0")
@example("1234567890123456e5")
@example("1e400")
@example("-1e-400")
@example("1.5e-320")
@example("0.10000000000000000555")
@example("-0.0")
def test_every_number_is_read_as_it_is_written(number: str) -> None:
    """As a Decimal by itself, among floats, and in a strict model."""
    expected = Decimal(number)
    assert read(Decimal, number) == expected
    assert read(Strict, f'{{"amount": {number}}}').amount == expected
    order = read(Order, f'{{"amount": {number}, "rate": 0.25, "more": [0.75, 3]}}')
    assert (order.amount, order.rate, order.more) == (expected, 0.25, [0.75, 3])


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(st.characters(codec="utf-8"), max_size=5)
        | st.sampled_from(["0e123", "1234567890123456e", "1.2345678901234567"]),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
        ),
        max_leaves=10,
    )
)
def test_all_else_beside_a_decimal_is_read_as_pydantic_reads_it(more: object) -> None:
    """Floats stay plain floats to the bit, and so does what has no type."""
    body = f'{{"amount": {EXACT}, "rate": {EXACT}, "more": {json.dumps(more)}}}'
    order = read(Order, body)
    assert repr(order.more) == repr(TypeAdapter(Any).validate_json(json.dumps(more)))
    assert order.amount == Decimal(EXACT)
    assert (type(order.rate), order.rate) == (float, float(AS_FLOAT))


UNIONS: list[Any] = [
    Decimal | float,
    float | Decimal,
    Decimal | str | None,
    str | Decimal,
    int | Decimal | bool,
    list[Decimal] | dict[str, Decimal],
    Annotated[Decimal, Field(strict=True)] | str,
]


@pytest.mark.parametrize("kind", UNIONS)
@pytest.mark.parametrize("value", ["1", "true", '"1.5"', "0.5", '"x"', "[0.5]", '{"a": 1}', "null"])
def test_a_value_beside_an_inexact_number_is_of_the_type_that_it_was(kind: Any, value: str) -> None:
    """What pydantic chooses in a union does not change with a number elsewhere in the body."""
    try:
        expected = repr(TypeAdapter(kind).validate_json(value))
    except ValidationError:
        with pytest.raises(DecodeError):
            read(tuple[Decimal, kind], f"[{EXACT}, {value}]")
        return
    assert repr(read(tuple[Decimal, kind], f"[{EXACT}, {value}]")[1]) == expected


def test_two_numbers_that_are_one_float_are_refused_as_decimals_alone() -> None:
    """Which of them a Decimal is cannot be told; a float is right for both."""
    same = "9007199254740993.5"
    with pytest.raises(DecodeError, match="amount: two numbers of the body are the same float"):
        read(Order, f'{{"amount": {EXACT}, "rate": {same}}}')
    order = read(Order, f'{{"amount": 0.10, "rate": {EXACT}, "more": {same}}}')
    assert (order.amount, order.rate) == (Decimal("0.1"), float(EXACT))
    assert order.more == float(EXACT)
    # One of them may be short: what a float shows as.
    with pytest.raises(DecodeError, match="same float"):
        read(list[Decimal], "[0.1, 0.10000000000000001]")
    # The same value, written twice, is one.
    assert read(list[Decimal], f"[{EXACT}, {EXACT}0]") == [Decimal(EXACT)] * 2


def test_a_refused_number_is_not_quoted() -> None:
    """The error names the field and says what to do."""
    with pytest.raises(DecodeError, match="written as strings") as caught:
        read(list[Decimal], f"[{EXACT}, 9007199254740993.5]")
    assert "9007" not in str(caught.value)


def test_constraints_hold_for_the_number_that_was_written() -> None:
    """A digit that a float drops counts."""
    limited = Annotated[Decimal, Field(max_digits=17)]
    with pytest.raises(DecodeError, match="no more than 17 digits"):
        read(limited, EXACT)
    assert read(Annotated[Decimal, Field(lt=Decimal(AS_FLOAT))], EXACT) == Decimal(EXACT)


def test_a_number_beyond_a_decimal_is_refused() -> None:
    """An exponent that no Decimal has is a DecodeError like others."""
    with pytest.raises(DecodeError):
        read(list[Decimal], "[1e9999999999999999999999, 1]")
    assert read(Order, '{"rate": 1e9999999999999999999999}').rate == float("inf")


def test_a_decoder_is_used_by_threads() -> None:
    """Numbers of one body are not looked up in another one that is read at the same time."""
    within, meanwhile, done = threading.Event(), threading.Event(), threading.Event()

    def wait(value: Decimal) -> Decimal:
        if threading.current_thread() is other:
            within.set()
            assert meanwhile.wait(10)
        else:
            meanwhile.set()
            assert done.wait(10)
        return value

    def read_other() -> None:
        found.extend(read_by(decoder, f"[1, {EXACT}]"))
        done.set()

    decoder = BodyDecoder(list[Annotated[Decimal, AfterValidator(wait)]])
    found: list[Decimal] = []
    other = threading.Thread(target=read_other)
    other.start()
    assert within.wait(10)
    assert read_by(decoder, "[9007199254740993.02]") == [Decimal("9007199254740993.02")]
    other.join()
    assert found == [Decimal(1), Decimal(EXACT)]


def test_a_validator_that_decodes_by_the_same_decoder_disturbs_nothing() -> None:
    """The numbers of the body that is being read are found again after those of the one within."""
    other = b"[9007199254740995.03]"

    def decode_another(value: Decimal) -> Decimal:
        if value != Decimal("9007199254740995.03"):
            assert decoder.decode(other, Properties()) == [Decimal("9007199254740995.03")]
        return value

    decoder: BodyDecoder = BodyDecoder(list[Annotated[Decimal, AfterValidator(decode_another)]])
    assert read_by(decoder, f"[{EXACT}, {EXACT}]") == [Decimal(EXACT)] * 2


def read_by(decoder: BodyDecoder, body: str) -> Any:
    """A body as it is read by a decoder that is used again."""
    return decoder.decode(body.encode(), Properties())


@given(st.lists(st.uuids().map(str) | st.integers() | st.text(max_size=10)), st.lists(NUMBERS))
def test_no_inexact_number_is_overlooked(values: list[Any], numbers: list[str]) -> None:
    """The quick look lets no body through in which the close one finds something."""
    body = f"[{json.dumps(values)}, {', '.join([*numbers, '0'])}]".encode()
    exact = all(_as_float(number) == Decimal(number) for number in numbers)
    assert (inexact_numbers(body) == {}) == exact
    assert exact or may_lose_digits(pattern_of(body), body)


def _as_float(number: str) -> Decimal:
    """What pydantic makes of a number."""
    is_integer = number.lstrip("-").isdigit()
    return Decimal(number) if is_integer else Decimal(repr(float(number)))


def test_numbers_in_strings_do_not_count() -> None:
    """They are text; a body of them is read as usual."""
    assert inexact_numbers(f'["{EXACT}", "\\"{EXACT}", 1.5]'.encode()) == {}
    assert inexact_numbers(f'["\\\\", {EXACT}]'.encode()) == {float(EXACT): Decimal(EXACT)}


@pytest.mark.parametrize(
    "number", ["1", "1.50", "1234567890123456789", "0.000000000000001", "1e22"]
)
def test_usual_numbers_are_let_through_at_once(number: str) -> None:
    """Integers of any length and fractions of up to fifteen digits cost no second look."""
    body = f'{{"id": "DE89370400440532013000", "amount": {number}}}'.encode()
    assert inexact_numbers(body) == {}
    assert not may_lose_digits(pattern_of(body), body) or number == "0.000000000000001"
