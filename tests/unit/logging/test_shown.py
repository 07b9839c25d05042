"""What is shown of text that came from outside."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqkit.errors import ChannelClosedError, DecodeError, UnroutableError
from mqkit.logging.shown import MAX_SHOWN, shown


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("order-1", "order-1"),
        ("Überweisung, 5 €", "Überweisung, 5 €"),
        ("m\n2026-01-01 CRITICAL", "m\\n2026-01-01 CRITICAL"),
        ("a\r\tb", "a\\r\\tb"),
        ("\x1b[2J", "\\x1b[2J"),
        ("\x9b2J", "\\x9b2J"),
        ("\u202egpj.exe", "\\u202egpj.exe"),
        ("\u2028line", "\\u2028line"),
        ("\ud800", "\\ud800"),
        ("\x00", "\\x00"),
        (None, "None"),
        (b"\n", "b'\\n'"),
        (7, "7"),
        ("x" * 300, "x" * MAX_SHOWN + " [cut]"),
        ("\n" * 300, "\\n" * (MAX_SHOWN // 2) + " [cut]"),
    ],
)
def test_it_is_one_printable_line(value: object, text: str) -> None:
    """What is not printable is escaped, and what is long is cut."""
    assert shown(value) == text


@given(st.text(), st.integers(1, 50))
def test_whatever_it_is_given(text: str, limit: int) -> None:
    """It is printable, no longer than its limit and the mark, and plain text stays as it is."""
    result = shown(text, limit)
    assert result.isprintable()
    assert len(result) <= limit + len(" [cut]")
    if text.isprintable() and len(text) <= limit:
        assert result == text


@pytest.mark.parametrize(
    "error",
    [
        ChannelClosedError(404, "no queue 'x\n\x1b[2J'"),
        DecodeError("content type 'a\nb' is not JSON"),
        UnroutableError("no\nqueue", exchange="e\n", routing_key="k\u202e", message_id="m\n"),
    ],
)
def test_the_text_of_an_error_is_one_line(error: Exception) -> None:
    """Whatever it quotes of a message or of the broker's words."""
    assert str(error).isprintable()
