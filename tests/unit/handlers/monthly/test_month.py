"""Months: their bounds, and the way from one to the next."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.monthly.month import Month

MOMENTS = st.datetimes(
    dt.datetime(1900, 1, 1),  # noqa: DTZ001
    dt.datetime(2200, 1, 1),  # noqa: DTZ001
    timezones=st.timezones(),
)


@given(moment=MOMENTS)
def test_a_moment_is_within_its_month(moment: dt.datetime) -> None:
    """A month has its first moment, and not the one after its last, in any zone."""
    month = Month.of(moment)
    assert month.start <= moment < month.end
    assert (month.end - month.start) == dt.timedelta(days=month.days)


@given(moment=MOMENTS)
def test_months_follow_each_other(moment: dt.datetime) -> None:
    """The next one's previous one is the month itself, and text and order say the same."""
    month = Month.of(moment)
    assert month.next.previous == month == Month.parse(str(month))
    assert month < month.next
    assert str(month) < str(month.next)
    assert month.next == Month.of(month.end)


def test_december_is_followed_by_january() -> None:
    """The year goes on with it."""
    assert str(Month(2026, 12).next) == "2027-01"
    assert str(Month(2027, 1).previous) == "2026-12"


@pytest.mark.parametrize(
    "text", ["", "2026", "2026-13", "2026-00", "2026-1", "26-01", "2026-01-01"]
)
def test_what_is_no_month_is_refused(text: str) -> None:
    """It is an error of its text."""
    with pytest.raises(ValueError, match=r"isoformat|month"):
        Month.parse(text)
