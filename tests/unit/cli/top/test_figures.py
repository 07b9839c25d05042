"""Figures in few characters."""

from __future__ import annotations

import pytest

from mqkit.cli.top.figures import count, rate, seconds, share, span


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (None, "-"),
        (0, "0"),
        (0.001, "0.1"),
        (0.44, "0.4"),
        (9.9, "9.9"),
        (9.96, "10"),
        (1234.5, "1,234"),
        (12_345, "12.3k"),
    ],
)
def test_rates(value: float | None, told: str) -> None:
    """Seldom is not never, and what is not known is not 0."""
    assert rate(value) == told


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (None, "-"),
        (0, "0"),
        (9_999, "9,999"),
        (10_000, "10.0k"),
        (999_940, "999.9k"),
        (1_000_000, "1.0M"),
        (2_500_000_000, "2.5G"),
        (2_500_000_000_000, "2,500G"),
    ],
)
def test_counts(value: int | None, told: str) -> None:
    """Up to ten thousand to the last one, then in thousands and more."""
    assert count(value) == told


@pytest.mark.parametrize(
    ("value", "told"), [(0.0, "0%"), (0.0001, "<1%"), (0.01, "1%"), (0.5, "50%"), (1.0, "100%")]
)
def test_shares(value: float, told: str) -> None:
    """A little is not nothing."""
    assert share(value) == told


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (None, "-"),
        (0.00008, "80us"),
        (0.0042, "4.2ms"),
        (0.35, "350ms"),
        (1.5, "1.5s"),
        (245.0, "4m05s"),
    ],
)
def test_durations(value: float | None, told: str) -> None:
    """In the unit that fits."""
    assert seconds(value) == told


@pytest.mark.parametrize(
    ("value", "told"),
    [(-5.0, "0s"), (5.9, "5s"), (65.0, "1m05s"), (12_000.0, "3h20m"), (446_400.0, "5d04h")],
)
def test_spans(value: float, told: str) -> None:
    """In whole units, and never below zero where clocks differ."""
    assert span(value) == told
