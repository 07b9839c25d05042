"""Bodies to bytes and back."""

from __future__ import annotations

import asyncio
import decimal
import json
import resource
import time
import traceback
import uuid
from collections.abc import Callable, Iterator
from datetime import date
from decimal import Decimal
from ipaddress import IPv4Address
from typing import Annotated, Any, Literal, Union

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import (
    AfterValidator,
    AnyUrl,
    Base64Bytes,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ImportString,
    Json,
    PlainValidator,
    PydanticUserError,
    WrapValidator,
    create_model,
    field_serializer,
    field_validator,
    model_serializer,
)
from pydantic_core import (
    PydanticCustomError,
    PydanticKnownError,
    PydanticOmit,
    PydanticUseDefault,
    SchemaError,
)

from mqkit import DecodeError, InvalidMessageError, Limits
from mqkit.codec import JSON, SLOW_BODY, BodyDecoder, encode
from mqkit.message import Properties

QUICKLY = 5.0
"""Seconds of processor time; generous, where what is meant takes a tenth of one."""


class Payment(BaseModel):
    """A body."""

    amount: Decimal
    card: str


@given(st.decimals(allow_nan=False, allow_infinity=False), st.text(st.characters(codec="utf-8")))
def test_a_model_survives_the_way(amount: Decimal, card: str) -> None:
    """What is encoded decodes to the same, to the last digit of a Decimal."""
    body, content_type = encode(Payment(amount=amount, card=card))
    decoded = BodyDecoder(Payment).decode(body, Properties(content_type=content_type))
    assert decoded.card == card
    assert str(decoded.amount) == str(amount)


def test_bytes_go_as_they_are() -> None:
    """A bytes body is neither encoded nor decoded."""
    assert encode(b"\xff\x00") == (b"\xff\x00", "application/octet-stream")
    assert BodyDecoder(bytes).decode(b"\xff", Properties(content_type="text/csv")) == b"\xff"


def test_an_error_names_the_fields_and_not_their_values() -> None:
    """A body that does not validate is told field by field, without a value that may be secret."""
    with pytest.raises(DecodeError) as caught:
        BodyDecoder(Payment).decode(b'{"amount": "4111111111111111x", "extra": 1}', Properties())
    text = str(caught.value)
    assert "amount: Input should be a valid decimal" in text
    assert "card: Field required" in text
    assert "4111" not in text
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    ("body", "properties", "words"),
    [
        (b"{", Properties(), "Invalid JSON"),
        (b"", Properties(), "Invalid JSON"),
        (b"{}", Properties(content_encoding="gzip"), "'gzip' is not supported"),
        (b"{}", Properties(content_type="application/xml"), "'application/xml' is not JSON"),
    ],
)
def test_what_is_not_json_is_refused(body: bytes, properties: Properties, words: str) -> None:
    """Another format, an encoding, or no JSON at all is a DecodeError that says which."""
    with pytest.raises(DecodeError) as caught:
        BodyDecoder(Payment).decode(body, properties)
    assert words in str(caught.value)


def test_json_by_other_names_is_json() -> None:
    """A +json type, a charset and no type at all are all taken for JSON."""
    for content_type in (None, "application/json; charset=utf-8", "application/vnd.x+json"):
        properties = Properties(content_type=content_type)
        assert BodyDecoder(dict[str, int]).decode(b'{"a":1}', properties) == {"a": 1}


def test_what_pydantic_cannot_write_is_refused() -> None:
    """An object without a JSON form is an InvalidMessageError that names its type."""
    with pytest.raises(InvalidMessageError, match="of type object"):
        encode(object())


class CustomError(Exception):
    """No subclass of anything that pydantic knows."""

    def __str__(self) -> str:
        raise RuntimeError("hunter2")


class Vast(BaseException):
    """What nobody expects."""


RAISED: list[BaseException] = [
    decimal.InvalidOperation("hunter2"),
    KeyError("hunter2"),
    TypeError("hunter2"),
    ZeroDivisionError("hunter2"),
    RecursionError("hunter2"),
    StopIteration("hunter2"),
    MemoryError("hunter2"),
    RuntimeError("hunter2"),
    CustomError(),
    Vast("hunter2"),
    SystemExit("hunter2"),
    KeyboardInterrupt("hunter2"),
    asyncio.CancelledError("hunter2"),
    GeneratorExit("hunter2"),
    GeneratorExit("hunter2"),
    ExceptionGroup("hunter2", [ValueError("hunter2")]),
    BaseExceptionGroup("hunter2", [SystemExit("hunter2")]),
    UnicodeDecodeError("utf-8", b"hunter2", 0, 1, "hunter2"),
    ValueError("hunter2"),
    AssertionError("hunter2"),
    PydanticCustomError("hunter", "hunter2 {v}", {"v": "hunter2"}),
    PydanticCustomError("less_than", "hunter2", {"lt": 1}),
    PydanticCustomError("enum", "hunter2"),
    PydanticCustomError("uuid_parsing", "hunter2", {"error": "hunter2"}),
    PydanticKnownError("mapping_type", {"error": "hunter2"}),
    PydanticUserError("hunter2", code=None),
    PydanticUseDefault(),
    PydanticOmit(),
    InvalidMessageError("hunter2"),
    DecodeError("hunter2"),
]

_TAKEN_BY_PYDANTIC = (PydanticCustomError, PydanticKnownError, PydanticOmit, PydanticUseDefault)

WAYS: list[Callable[[Callable[[Any], Any]], Any]] = [
    lambda f: Annotated[str, BeforeValidator(f)],
    lambda f: Annotated[str, AfterValidator(f)],
    lambda f: Annotated[str, PlainValidator(f)],
    lambda f: Annotated[str, WrapValidator(lambda value, _: f(value))],
    lambda f: list[Annotated[str, AfterValidator(f)]],
    lambda f: dict[Annotated[str, AfterValidator(f)], str],
    lambda f: Annotated[int, BeforeValidator(f)] | Annotated[str, AfterValidator(f)],
]


@pytest.mark.parametrize("raised", RAISED, ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("way", WAYS)
def test_whatever_a_validator_raises_is_a_decode_error(
    raised: BaseException, way: Callable[[Callable[[Any], Any]], Any]
) -> None:
    """Its type is told, and neither its text nor the input; the traceback has nothing of them."""

    def fail(_: Any) -> Any:
        raise raised

    body = {4: b'["hunter2"]', 5: b'{"hunter2": "hunter2"}'}.get(WAYS.index(way), b'"hunter2"')
    error = failure(lambda: BodyDecoder(way(fail)).decode(body, Properties()), DecodeError)
    if error is None:  # what pydantic itself takes for 'leave it out'
        assert isinstance(raised, PydanticOmit)
        return
    assert (error.__cause__, error.__context__) == (None, None)
    # The key of an object is a name, and shown.
    shown = str(error).replace(": hunter2.", ": ")
    assert "hunter2" not in shown
    if not isinstance(raised, _TAKEN_BY_PYDANTIC):
        assert type(raised).__name__ in shown


def failure(call: Callable[[], object], kind: type[Exception]) -> Exception | None:
    """What a call raises of one kind; None is nothing."""
    try:
        call()
    except kind as error:
        return error
    return None


def test_an_interrupt_of_a_publish_is_let_through() -> None:
    """It is not about the message, and who publishes is to see it."""

    class Interrupted(BaseModel):
        a: int = 1

        @field_serializer("a")
        def _a(self, _: int) -> int:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encode(Interrupted())


CARD = b'{"number": "4111111111111111"}'


def test_the_text_of_a_validator_is_not_quoted() -> None:
    """It may quote the value; the field is named, and the type of the error."""

    class Card(BaseModel):
        number: str

        @field_validator("number")
        @classmethod
        def _check(cls, value: str) -> str:
            raise ValueError(f"{value} is no card")

    with pytest.raises(DecodeError) as caught:
        BodyDecoder(Card).decode(CARD, Properties())
    assert str(caught.value) == (
        "the body is no valid Card: number: refused by a validator (ValueError)"
    )
    shown = "".join(traceback.format_exception(caught.value))
    assert "4111" not in shown


class Kind(BaseModel):
    """One of a tagged union."""

    kind: Literal["a"]


class Other(BaseModel):
    """The other one."""

    kind: Literal["b"]


QUOTING: list[tuple[Any, str]] = [
    (Annotated[Kind | Other, Field(discriminator="kind")], '{"kind": "hunter2"}'),
    (uuid.UUID, '"hunter2"'),
    (date, '"hunter2"'),
    (AnyUrl, '"hunter2"'),
    (ImportString, '"hunter2"'),
    (Literal["a"], '"hunter2"'),
    (Json[int], '"hunter2"'),
    (Base64Bytes, '"hunter2"'),
    (IPv4Address, '"hunter2"'),
    (Annotated[str, Field(pattern="^a$")], '"hunter2"'),
]


@pytest.mark.parametrize(("kind", "body"), QUOTING)
def test_what_pydantic_quotes_is_not_quoted(kind: Any, body: str) -> None:
    """Some of its own texts have the input in them."""
    with pytest.raises(DecodeError) as caught:
        BodyDecoder(kind).decode(body.encode(), Properties())
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("key", ["k" * 1_000_000, "a\nb\x1b[31m\u202e\0", "\U0001f600" * 1000])
def test_keys_are_shown_short_and_on_one_line(key: str) -> None:
    """What leads to a wrong value may be the sender's own words."""
    body = json.dumps({key: {key: [{key: "x"}]}}).encode()
    with pytest.raises(DecodeError) as caught:
        BodyDecoder(dict[str, dict[str, list[dict[str, int]]]]).decode(body, Properties())
    assert len(str(caught.value)) < 500
    assert str(caught.value).isprintable()


def test_few_errors_are_shown_and_the_rest_counted() -> None:
    """Of a body of usual size each one counts; only some are told."""
    decoder = BodyDecoder(list[str])
    for count in (20, 21, 999, 2_000):
        with pytest.raises(DecodeError) as caught:
            decoder.decode(b"[" + b",".join([b"1"] * count) + b"]", Properties())
        shown = str(caught.value).count("Input should be a valid string")
        assert 1 <= shown <= 20
        assert (f"and {count - shown} more" in str(caught.value)) == (count > shown)
        assert len(str(caught.value)) < 3_000


MANY = 1_000_000
LARGE: list[tuple[Any, bytes]] = [
    (list[int], b"[" + b",".join([b'"a"'] * MANY) + b"]"),
    (list[int | float | bool | None], b"[" + b",".join([b'"a"'] * MANY) + b"]"),
    (dict[str, int], b"{" + b",".join([b'"":"a"'] * MANY) + b"}"),
    (list[Decimal], b"[9007199254740993.01," + b",".join([b'"a"'] * MANY) + b"]"),
]


@pytest.mark.parametrize(("kind", "body"), LARGE)
def test_a_million_wrong_items_are_refused_in_little_time_and_memory(
    kind: Any, body: bytes
) -> None:
    """It takes no more than to read that much JSON."""
    decoder = BodyDecoder(kind)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.process_time()
    with pytest.raises(DecodeError, match="there may be more") as caught:
        decoder.decode(body, Properties())
    assert time.process_time() - began < QUICKLY
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) < 400 * 1024
    assert len(str(caught.value)) < 1_000


def test_a_large_body_is_slow() -> None:
    """Whoever has an event loop can tell which bodies to decode elsewhere."""
    assert BodyDecoder(list[int]).is_slow(b" " * SLOW_BODY)
    assert not BodyDecoder(list[int]).is_slow(b" " * (SLOW_BODY - 1))
    assert not BodyDecoder(bytes).is_slow(b" " * SLOW_BODY)


def fails_at_random(choice: int) -> Callable[[Any], Any]:
    """A validator that raises one of many errors, or none."""

    def validate(value: Any) -> Any:
        if choice < len(RAISED):
            raise RAISED[choice]
        return value

    return validate


CHOICES = st.integers(0, len(RAISED) * 2)
MODELS: st.SearchStrategy[Any] = st.recursive(
    st.sampled_from([int, str, float, Decimal, bool, date, bytes, Any, Json[int], None]),
    lambda inner: (
        st.builds(list.__class_getitem__, inner)
        | st.builds(lambda kind: dict.__class_getitem__((str, kind)), inner)
        | st.builds(lambda a, b: Union[a, b], inner, inner)  # noqa: UP007 - made at run time
        | st.builds(
            lambda kind, n: Annotated[kind, AfterValidator(fails_at_random(n))], inner, CHOICES
        )
        | st.builds(
            lambda kind, n: Annotated[kind, BeforeValidator(fails_at_random(n))], inner, CHOICES
        )
        | st.builds(lambda a, b: create_model("Made", a=(a, ...), b=(b, None)), inner, inner)
    ),
    max_leaves=4,
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["1.5", "2026-01-01", "[1]"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "b", "c"]) | st.text(max_size=2), inner, max_size=3)
    ),
    max_leaves=6,
)
BODIES = (
    st.builds(
        lambda value, plain: json.dumps(value, ensure_ascii=plain).encode("utf-8", "surrogatepass"),
        VALUES,
        st.booleans(),
    )
    | st.binary(max_size=20)
    | st.lists(
        st.sampled_from(
            [
                b"{",
                b"}",
                b"[",
                b"]",
                b'"',
                b":",
                b",",
                b"1e400",
                b"1.5",
                b"NaN",
                b"\\ud800",
                b"\xef\xbb\xbf",
                b"a",
            ]
        ),
        max_size=8,
    ).map(b"".join)
)


@settings(deadline=None)
@given(
    MODELS,
    BODIES,
    st.sampled_from([None, "text/plain; charset=utf-8", "application/json"]),
    st.booleans(),
)
def test_a_body_is_read_or_it_is_a_decode_error(
    kind: Any, body: bytes, content_type: str | None, unique: bool
) -> None:
    """Whatever the bytes, whatever the type, and whatever its validators raise."""
    try:
        decoder = BodyDecoder(kind)
    except (PydanticUserError, SchemaError):
        return
    properties, limits = Properties(content_type=content_type), Limits(unique_keys=unique)
    error = failure(lambda: decoder.decode(body, properties, limits), DecodeError)
    if error is not None:
        assert str(error).isprintable()
        assert len(str(error)) < 12_000


class BrokenBytes(bytes):
    """Bytes whose length is not to be had."""

    def __len__(self) -> int:
        raise RuntimeError("hunter2")


class BrokenClass:
    """An object that does not even tell its class."""

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        raise Vast("hunter2")


class BrokenDict(dict[str, Any]):
    """A dict that cannot be gone through."""

    def items(self) -> Any:
        raise RuntimeError("hunter2")

    def __iter__(self) -> Any:
        raise RuntimeError("hunter2")


class BrokenModel(BaseModel):
    """A model whose serializer fails."""

    a: int = 1

    @field_serializer("a")
    def _a(self, _: int) -> int:
        raise KeyError("hunter2")


class BrokenWhole(BaseModel):
    """A model whose own serializer ends the process."""

    @model_serializer
    def _all(self) -> dict[str, Any]:
        raise SystemExit("hunter2")


def broken_generator() -> Iterator[int]:
    """One that fails after its first item."""
    yield 1
    raise Vast("hunter2")


def released() -> memoryview:
    """A memoryview that is used up."""
    view = memoryview(b"hunter2")
    view.release()
    return view


def iter_forever() -> Any:
    """A list that is in itself."""
    value: list[Any] = []
    value.append(value)
    return value


UNWRITABLE: list[Callable[[], Any]] = [
    object,
    lambda: {"a": object()},
    BrokenClass,
    lambda: BrokenBytes(b"hunter2"),
    lambda: BrokenDict(a=object()),
    BrokenModel,
    lambda: [BrokenModel()],
    BrokenWhole,
    broken_generator,
    released,
    lambda: "\ud800",
    lambda: {"\ud800": 1},
    lambda: b"\xff".decode("latin-1").encode("utf-16"),
    lambda: {"a": b"\xff"},
    iter_forever,
]


@pytest.mark.parametrize("make", UNWRITABLE)
def test_whatever_a_value_does_it_is_an_invalid_message(make: Callable[[], Any]) -> None:
    """It is refused without its text, or it can be written."""
    body = make()
    error = failure(lambda: encode(body), InvalidMessageError)
    if error is None:
        assert type(body) in (bytes, BrokenDict)
        return
    assert "hunter2" not in str(error)
    assert (error.__cause__, error.__context__) == (None, None)


def test_a_wrong_content_type_is_an_invalid_message() -> None:
    """It is an argument like the body."""
    with pytest.raises(InvalidMessageError):
        encode(b"{}", content_type=5)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":1,"a":2}',
        b'[{"b":{"a":1,"c":{},"a":{}}}]',
        b'{"a":1,"\\u0061":2}',
        b'\xef\xbb\xbf{"a":1,"a":1}',
    ],
)
def test_keys_that_are_twice_are_refused_where_that_is_asked_for(body: bytes) -> None:
    """Else the last one counts. Both when it is read and when bytes are said to be JSON."""
    as_json = Properties(content_type="application/json")
    unique = Limits(unique_keys=True)
    assert BodyDecoder(Any).decode(body, as_json)
    for kind in (Any, dict, bytes):
        with pytest.raises(DecodeError, match=r"a key twice \(Limits.unique_keys\)"):
            BodyDecoder(kind).decode(body, as_json, unique)
    with pytest.raises(InvalidMessageError, match="a key twice"):
        encode(body, JSON, unique)
    assert encode(body, JSON) == (body, JSON)
    assert BodyDecoder(Any).decode(b'[{"a":1},{"a":"a"}]', as_json, unique)
    assert encode({"a": {"a": 1}}, limits=unique)


def test_a_type_that_is_complete_later_is_read() -> None:
    """A model may name one that is defined after its handler; Decimals are exact in it, too."""
    late = BodyDecoder(Deferred)
    assert late.decode(b'{"amount": 9007199254740993.01}', Properties()).amount == Decimal(
        "9007199254740993.01"
    )


class Deferred(BaseModel):
    """A model that is built when it is first used."""

    model_config = ConfigDict(defer_build=True)
    amount: Decimal
