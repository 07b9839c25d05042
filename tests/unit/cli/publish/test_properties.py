"""What `mqkit publish` gives each message besides its body, checked before anything is sent."""

from __future__ import annotations

from typing import Any

import pytest

from mqkit.cli.publish.properties import Chosen, LineError, chosen
from mqkit.errors import ConfigurationError, OptionError


def options(**given: Any) -> Chosen:
    """Make what was chosen; what is not given is left out."""
    names = ("header", "expiration", "priority", "type_", "id_field")
    return chosen(**{name: given.get(name) for name in names})


def test_what_is_given_is_in_the_message() -> None:
    """A header's value is all after the first equals sign, and may be empty."""
    made = options(header=["a=b=c", "e="], expiration=1.5, priority=3, type_="t")
    made.check("x", "k", None)
    message = made.message("x", "k", b"1", "m", None)
    assert message.headers == {"a": "b=c", "e": ""}
    assert (message.expiration, message.priority, message.type) == (1.5, 3, "t")
    assert (message.message_id, message.content_type) == ("m", "application/json")


@pytest.mark.parametrize("header", ["", "=", "=v", "name", "\n"])
def test_a_header_that_is_no_pair_is_refused(header: str) -> None:
    """It is said how one is written."""
    with pytest.raises(OptionError, match="--header is NAME=VALUE"):
        options(header=[header])


def test_a_header_that_is_given_twice_is_refused() -> None:
    """One of them would be lost in silence."""
    with pytest.raises(OptionError, match="--header a is given twice"):
        options(header=["a=1", "b=1", "a=2"])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"header": [f"{'n' * 256}=v"]}, "255 bytes"),
        ({"header": ["n\0=v"]}, "NUL"),
        ({"header": ["n=\udcff"]}, "UTF-8"),
        ({"header": ["mqkit-attempt=1"]}, "mqkit's own"),
        ({"header": ["CC=a"]}, "list of routing keys"),
        ({"header": [f"n={'v' * 200_000}"]}, "limit"),
        ({"expiration": -1.0}, "expiration is seconds"),
        ({"expiration": float("nan")}, "expiration is seconds"),
        ({"expiration": 1e308}, "expiration is seconds"),
        ({"priority": -1}, "priority is 0 to 255"),
        ({"priority": 256}, "priority is 0 to 255"),
        ({"type_": "t" * 256}, "type is over 255 bytes"),
        ({"type_": "\0"}, "type has a NUL"),
    ],
)
def test_what_no_message_can_have_is_refused(given: dict[str, Any], words: str) -> None:
    """Before a line is sent, and not once for each of them."""
    with pytest.raises(ConfigurationError, match=words):
        options(**given).check("x", "k", None)


def test_an_expiration_of_what_is_held_is_refused() -> None:
    """The broker would take it away as it holds the message."""
    with pytest.raises(ConfigurationError, match="expiration and is to be published later"):
        options(expiration=5.0).check("x", "k", 10.0)


def test_without_a_field_the_journal_gives_the_id() -> None:
    """Whatever the line is."""
    assert options().id_of(1, b"[1]") is None
    with pytest.raises(OptionError, match="--id is the name of a field"):
        options(id_field="")


def test_the_id_is_a_text_or_a_whole_number_of_the_line() -> None:
    """A number is written as a person would."""
    made = options(id_field="id")
    assert made.id_of(1, b'{"id": "o-1"}') == "o-1"
    assert made.id_of(2, b'{"id": 17}') == "17"
    assert made.id_of(2, b'{"id": 17}') == "17"


@pytest.mark.parametrize(
    "line",
    [
        b"1",
        b"[]",
        b"null",
        b'"id"',
        b"{}",
        b'{"id": null}',
        b'{"id": ""}',
        b'{"id": true}',
        b'{"id": 1.0}',
        b'{"id": ["a"]}',
        b'{"id": {"a": 1}}',
        b'{"id": "a\\u0000"}',
        b'{"id": "%s"}' % (b"x" * 256),
        b'{"id": %s}' % (b"1" * 256),
        b'{"id": %s}' % (b"9" * 4000),
    ],
    ids=lambda line: line[:20].decode(),
)
def test_a_line_without_an_id_is_refused(line: bytes) -> None:
    """It says which field, and quotes nothing of the line."""
    with pytest.raises(LineError, match="its field id is no message id"):
        options(id_field="id").id_of(1, line)


def test_a_second_line_of_an_id_is_refused() -> None:
    """A handler would take it for the first one, and not handle it."""
    made = options(id_field="id")
    made.id_of(1, b'{"id": "7"}')
    with pytest.raises(LineError, match="its message id is that of line 1"):
        made.id_of(2, b'{"id": 7}')
