from __future__ import annotations

from decimal import Decimal

import pytest
from pydantic import BaseModel

from mqkit import DecodeError
from mqkit.message import Properties
from mqkit.testing.harness.errors import HarnessError
from mqkit.testing.harness.records import Published


class Posted(BaseModel):
    """What is published."""

    amount: Decimal


def published(raw: bytes, content_type: str = "application/json") -> Published:
    properties = Properties(content_type=content_type, message_id="m", headers={"n": 1})
    return Published("payments", "order.posted", None, properties, raw)


def test_a_body_is_read_as_a_handler_would() -> None:
    """As a model, as any other type, as bytes; the error names what is wrong and no value."""
    message = published(b'{"amount": "9.90"}')
    assert message.body_as(Posted) == Posted(amount=Decimal("9.90"))
    assert message.body_as(dict[str, str]) == {"amount": "9.90"}
    assert message.body_as(bytes) == b'{"amount": "9.90"}'
    with pytest.raises(DecodeError, match="amount") as error:
        published(b'{"amount": "secret"}').body_as(Posted)
    assert "secret" not in str(error.value)


def test_a_body_is_read_as_json_whatever_it_is_said_to_be() -> None:
    """One that is none is an error of the harness, as of a test that expects another message."""
    assert published(b"[1, 2]", "text/plain").json() == [1, 2]
    with pytest.raises(HarnessError, match="of 5 bytes is no JSON"):
        published(b"plain").json()


def test_it_has_what_a_test_looks_at() -> None:
    """Its identity and its headers, without the way over its properties."""
    assert published(b"").message_id == "m"
    assert published(b"").headers == {"n": 1}
