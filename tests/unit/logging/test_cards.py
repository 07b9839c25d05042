"""Card numbers in texts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqkit.logging.cards import is_luhn, mask_cards

PREFIXES = ["4", "51", "55", "2221", "2720", "34", "37", "36", "3528", "6011", "65", "62", "50"]
LENGTHS = {"34": [15], "37": [15], "36": [14], "51": [16], "55": [16], "2221": [16], "2720": [16]}


@st.composite
def cards(draw: st.DrawFn) -> str:
    """A number of a scheme with a right check digit, and maybe separators."""
    prefix = draw(st.sampled_from(PREFIXES))
    length = draw(st.sampled_from(LENGTHS.get(prefix, [16, 18, 19])))
    body = (
        prefix + draw(st.text("0123456789", min_size=20, max_size=20))[: length - 1 - len(prefix)]
    )
    number = next(body + str(digit) for digit in range(10) if is_luhn(body + str(digit)))
    separator = draw(st.sampled_from(["", " ", "-", "\u00a0", " - "]))
    size = draw(st.integers(2, 8))
    return separator.join(number[at : at + size] for at in range(0, length, size))


@given(cards(), st.sampled_from(["{}", "card {} declined", "17 {}.", "[{}, 3]", "pan_{}", "\\n{}"]))
def test_no_card_number_is_left(number: str, around: str) -> None:
    """With spaces, dashes or nothing between its digits, beside other numbers."""
    masked = mask_cards(around.format(number), "***")
    assert number not in masked
    digits = "".join(each for each in masked if each.isdigit())
    assert digits in ("", "17", "3")


@pytest.mark.parametrize(
    "text",
    [
        "4111 1111 1111 1112",
        "GB29NWBK60161331926819",
        "NO93 8601 1117 947",
        "1764469377123",
        "20261130022257",
        "12345678901234567890",
        "3.4111111111111111",
        "a4111111111111111f",
    ],
)
def test_other_numbers_stay(text: str) -> None:
    """A wrong check digit, an IBAN, times, parts of longer words and numbers."""
    assert mask_cards(text, "***") == text


def test_an_ibans_wrong_check_digits_hide_no_card() -> None:
    """What only looks like an IBAN is looked at by its digits."""
    assert mask_cards("AB12 4111 1111 1111 1111", "***") == "AB12 ***"
