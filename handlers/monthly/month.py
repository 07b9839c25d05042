"""A calendar month, in UTC."""

from __future__ import annotations

import calendar
import datetime as dt
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, order=True, slots=True)
class Month:
    """A month of a year; it is written 2026-11."""

    year: int
    number: int
    """1 is January."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read 2026-11.

        :raises ValueError: it is no month
        """
        day = dt.date.fromisoformat(f"{text}-01")
        return cls(day.year, day.month)

    @classmethod
    def of(cls, moment: dt.datetime) -> Self:
        """Return the month that a moment is in."""
        day = moment.astimezone(dt.UTC)
        return cls(day.year, day.month)

    def __str__(self) -> str:
        return f"{self.year:04}-{self.number:02}"

    @property
    def start(self) -> dt.datetime:
        """Its first moment."""
        return dt.datetime(self.year, self.number, 1, tzinfo=dt.UTC)

    @property
    def end(self) -> dt.datetime:
        """The first moment after it."""
        return self.next.start

    @property
    def days(self) -> int:
        """How many days it has."""
        return calendar.monthrange(self.year, self.number)[1]

    @property
    def next(self) -> Month:
        """The month after it."""
        return Month(self.year + self.number // 12, self.number % 12 + 1)

    @property
    def previous(self) -> Month:
        """The month before it."""
        return Month(self.year, self.number - 1) if self.number > 1 else Month(self.year - 1, 12)
