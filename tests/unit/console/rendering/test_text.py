"""Values as people read them."""

from __future__ import annotations

from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
from markupsafe import Markup

from mqkit.console.rendering import text
from mqkit.logging.masking import DEFAULT
from tests.unit.console.samples import NOW


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (text.number(1234567), "1,234,567"),
        (text.number(None), text.NONE),
        (text.counted(1, "queue"), "1 queue"),
        (text.counted(0, "queue"), "0 queues"),
        (text.counted(2, "reply", "replies"), "2 replies"),
        (text.rate(0.0), "0.0/s"),
        (text.rate(0.001), "< 0.1/s"),
        (text.rate(99.94), "99.9/s"),
        (text.rate(12345.6), "12,346/s"),
        (text.rate(None), text.NONE),
        (text.share(0.0), "0 %"),
        (text.share(0.001), "< 1 %"),
        (text.share(0.256), "26 %"),
        (text.span(0.0042), "4.2 ms"),
        (text.span(0.0), "0 s"),
        (text.span(1.25), "1.2 s"),
        (text.span(119), "119 s"),
        (text.span(120), "2 min"),
        (text.span(86_400 * 3), "3 d"),
        (text.span(None), text.NONE),
        (text.size(0), "0 B"),
        (text.size(1_234), "1.23 kB"),
        (text.size(5_000_000_000), "5 GB"),
        (text.size(None), text.NONE),
        (text.age(NOW, NOW), "just now"),
        (text.age(NOW + timedelta(hours=1), NOW), "just now"),
        (text.age(NOW - timedelta(seconds=7), NOW), "7 s ago"),
        (text.age(NOW - timedelta(minutes=4), NOW), "4 min ago"),
    ],
)
def test_values_have_the_unit_that_fits(value: str, written: str) -> None:
    """Counts with their thousands apart, rates, shares, times and sizes."""
    assert value == written


@pytest.mark.parametrize(
    "name",
    ["a b", "a&b=c", "a/../b", "?#%", "<script>", "'\"", "é\u202e", "a\x00\x7f", "", "\ud800"],
)
def test_whatever_a_name_has_in_it_stays_in_its_place(name: str) -> None:
    """In an address it is quoted, and comes back as it was; it breaks out of no attribute."""
    link = text.link("/queues", queue=name, page=2)
    assert isinstance(link, Markup)
    assert not set(link) & set("<>\"' ")
    address = urlsplit(link.unescape())
    assert address.path == "/queues"
    assert address.fragment == ""
    found = parse_qs(address.query)
    assert found.pop("page") == ["2"]
    assert found == ({"queue": [name.replace("\ud800", "?")]} if name else {})


def test_texts_are_masked_and_printable() -> None:
    """A secret is not shown, and what would turn the direction of writing is seen as what it is."""
    assert text.clean("a password=hunter2 \u202e x\n\ty\x1b[0m", DEFAULT) == (
        "a password=*** \\u202e x\n\ty\\x1b[0m"
    )


def test_times_are_read_as_a_dead_letter_has_them() -> None:
    """What has no time zone, or is no time, is none."""
    assert text.moment_of(NOW.isoformat()) == NOW
    for wrong in (None, "", "yesterday", "2026-01-01T00:00:00"):
        assert text.moment_of(wrong) is None
