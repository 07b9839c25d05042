"""Bodies to bytes and back."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from mqkit import DecodeError, InvalidMessageError
from mqkit.codec import BodyDecoder, encode
from mqkit.message import Properties


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
