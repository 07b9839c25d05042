"""How dead letters are shown: without secrets, whatever they are in."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mqkit.dead_letters.messages.view import MAX_BODY, detail, summary
from mqkit.logging.masking import DEFAULT, Masker
from mqkit.message import Header
from tests.unit.dead_letters.samples import failed, letter, raised

CARD, PASSWORD, TOKEN = "4111111111111111", "hunter2-planted", "ghp_" + "a1B2" * 9

PLANTED = {
    "card": CARD,
    "number": int(CARD),
    "password": PASSWORD,
    "nested": {"api_key": TOKEN, "list": [CARD, f"url amqp://u:{PASSWORD}@h/"]},
    CARD: 1,
    "note": f"paid with {CARD}, token={TOKEN}",
}

BODIES = [
    json.dumps(PLANTED).encode(),
    json.dumps(PLANTED).encode() + b"garbage",
    json.dumps([PLANTED] * 5_000).encode(),
    f"card {CARD} password={PASSWORD} {TOKEN}".encode(),
    f"card {CARD} password={PASSWORD} {TOKEN}".encode() + b"\xff\x00",
    json.dumps(PLANTED).encode("utf-16"),
    json.dumps(PLANTED).encode("utf-16-le"),
    b"\x00".join(bytes([each]) for each in CARD.encode()),
    (b"[" * 100_000) + CARD.encode(),
]


@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
def test_no_body_shows_a_secret(body: bytes) -> None:
    """A card number, a password and a token are masked in JSON, in text and in what is neither."""
    found = letter(failed(raised(ValueError(f"card {CARD} password={PASSWORD} {TOKEN}")), body))
    for shown in (summary(found, DEFAULT), detail(found, DEFAULT)):
        text = json.dumps(shown, allow_nan=False)
        assert not [each for each in (CARD, PASSWORD, TOKEN) if each in text]


@pytest.mark.parametrize(
    "name", ["note", Header.ERROR_MESSAGE, Header.ERROR_TRACEBACK, Header.HISTORY, Header.HANDLER]
)
def test_no_header_shows_a_secret(name: str) -> None:
    """Not even those that somebody else has forged, which nobody masked when they were written."""
    value = f"card {CARD} password={PASSWORD} {TOKEN}"
    message = failed(raised(ValueError()))
    message.properties.headers[name] = [value] if name == Header.HISTORY else value  # type: ignore[index]
    message.properties.headers["authorization"] = PASSWORD  # type: ignore[index]
    message.properties.headers["raw"] = value.encode() + b"\xff"  # type: ignore[index]
    found = letter(message)
    text = json.dumps([summary(found, DEFAULT), detail(found, DEFAULT)])
    assert not [each for each in (CARD, PASSWORD, TOKEN) if each in text]


def test_an_application_masks_its_own_fields() -> None:
    """What a service masks in its logs is masked in its dead letters."""
    found = letter(failed(raised(ValueError()), b'{"iban": "DE02 1203"}'))
    shown = detail(found, Masker(["iban"]))
    assert shown["body"]["json"] == {"iban": "***"}


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (b'{"n": 1, "x": 1.5, "y": null, "z": true}', {"n": 1, "x": 1.5, "y": None, "z": True}),
        (b"NaN", "nan"),
        (b"[]", []),
        (b"1" + b"0" * 3_000, f"<a number of {(10**3000).bit_length()} bits>"),
    ],
)
def test_json_is_shown_as_it_is(body: bytes, shown: Any) -> None:
    """Values keep their types, and those that JSON has not are texts."""
    assert detail(letter(failed(raised(ValueError()), body)), DEFAULT)["body"]["json"] == shown


def test_what_is_no_text_is_shown_by_its_words() -> None:
    """Bytes that a terminal would obey are not printed; their size and hash are."""
    body = detail(letter(failed(raised(ValueError()), b"\x1b[2J\x00hello world\xff")), DEFAULT)
    assert body["body"]["binary"] == "hello world"
    assert body["body"]["size"] == 17
    assert len(body["body"]["sha256"]) == 64


def test_a_huge_body_is_cut() -> None:
    """A listing of a body of megabytes is some kilobytes."""
    body = detail(letter(failed(raised(ValueError()), b"word " * 1_000_000)), DEFAULT)["body"]
    assert len(body["text"]) <= MAX_BODY + 10
    assert body["size"] == 5_000_000
