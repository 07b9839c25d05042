"""The upper bounds of the histograms' buckets, in seconds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

from mqkit.checks.checked import shown
from mqkit.errors import OptionError

QUICK = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""For what takes milliseconds mostly: a run of a handler, a confirm."""

SLOW = (
    0.01,
    0.05,
    0.1,
    0.5,
    1.0,
    2.0,
    5.0,
    10.0,
    30.0,
    60.0,
    300.0,
    900.0,
    3600.0,
    14400.0,
    86400.0,
)
"""For a wait in a queue, which may be over at once, or take a day."""

MOST = 100
"""Buckets of one histogram: each is a time series for every handler."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Buckets:
    """Upper bounds of the buckets, in seconds and rising; one more holds all that is above.

    :raises OptionError: they do not rise, or are no numbers over 0, or none, or too many
    """

    handler: Sequence[float] = QUICK
    """Of `mqkit_handler_seconds`."""
    queue: Sequence[float] = SLOW
    """Of `mqkit_queue_seconds`."""
    confirm: Sequence[float] = QUICK
    """Of `mqkit_confirm_seconds`."""

    def __post_init__(self) -> None:
        for each in fields(self):
            given = getattr(self, each.name)
            object.__setattr__(self, each.name, _checked(given, each.name))


def _checked(given: object, name: str) -> tuple[float, ...]:
    is_list = isinstance(given, list | tuple) and 0 < len(given) <= MOST
    bounds = tuple(_number(each) for each in given) if isinstance(given, list | tuple) else ()
    rises = all(one < other for one, other in zip((0.0, *bounds), bounds, strict=False))
    if not is_list or not rises or math.inf in bounds:
        raise OptionError(
            f"Buckets({name}=...) takes 1 to {MOST} numbers of seconds over 0, each greater than "
            f"the one before, not {shown(given)}"
        )
    return bounds


def _number(value: object) -> float:
    """Return it as a float; NaN, which is greater than nothing, where it is no number."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            pass
    return math.nan
