"""The bounds of the histograms' buckets."""

from __future__ import annotations

import math
from typing import Any

import pytest

from mqkit.errors import OptionError
from mqkit.observability.metrics import Buckets
from mqkit.observability.metrics.buckets import MOST


@pytest.mark.parametrize("name", ["handler", "queue", "confirm"])
def test_bounds_that_rise_are_kept(name: str) -> None:
    """As floats, whatever kind of number and of list they came in"""
    given: dict[str, Any] = {name: [1, 2.5, 10]}
    assert getattr(Buckets(**given), name) == (1.0, 2.5, 10.0)


@pytest.mark.parametrize(
    "bounds",
    [
        [],
        [1, 1],
        [2, 1],
        [0, 1],
        [-1],
        [1, math.inf],
        [math.nan],
        ["1"],
        [None],
        [True],
        [10**400],
        "12",
        5,
        None,
        {1: 2},
        [n + 1 for n in range(MOST + 1)],
    ],
    ids=lambda each: repr(each)[:20],
)
def test_what_are_no_bounds_is_refused(bounds: Any) -> None:
    """With an error that names the option, and no other kind of one"""
    with pytest.raises(OptionError, match=r"Buckets\(queue=\.\.\.\) takes 1 to 100 numbers"):
        Buckets(queue=bounds)
